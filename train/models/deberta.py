"""DeBERTa-v3, mDeBERTa-v3: attention by content and, apart from it, by distance.

He et al., arXiv 2006.03654 and 2111.09543.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..config import ModelConfig
from .family import Family, TextEncoderConfig, side_by_side
from .layers import Block, dropout, dropout_keys, embed, norm, run_blocks


@dataclasses.dataclass(frozen=True, kw_only=True)
class DebertaConfig(TextEncoderConfig):
    """The shape of a DeBERTa-v3.

    Attributes:
      distances: to each side, of which each has a vector.
      farthest: the largest distance that is told from those beyond it.
    """

    distances: int
    farthest: int


class DebertaBlock(Block):
    """A post-norm block whose scores have three terms.

    Content to content, content to distance and distance to content; query and key of
    a distance come from the same matrices as those of a token.
    """

    def _scores(
        self, query: jax.Array, keys: jax.Array, *context: jax.Array
    ) -> jax.Array:
        """Returns float32 [n, heads, length, length]; the context is two arrays.

        The vectors of the distances [distances, width], and which of them each token
        sees each other at, int32 [length, length].
        """
        vectors, at = context
        # A product for distances has a value, too, which nobody reads.
        parts = jnp.split(self.query_key_value(vectors), 3, axis=-1)[:2]
        far_query, far_keys = (part.reshape(-1, *query.shape[2:]) for part in parts)
        # There are three terms, so each is divided by sqrt(3 size).
        scale = 1 / math.sqrt(3 * query.shape[-1])
        query, far_query = query * scale, far_query * scale
        score = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
        content = score("nqhd,nkhd->nhqk", query, keys)
        to_distance = score("nqhd,rhd->nhqr", query, far_keys)
        to_content = score("nkhd,rhd->nhkr", keys, far_query)

        def pick(scores: jax.Array, at: jax.Array) -> jax.Array:
            index = jnp.broadcast_to(at[None, None], content.shape)
            return jnp.take_along_axis(scores, index, axis=-1)

        # Both go by the distance from query to key; the latter is [..., key, query].
        turned = jnp.swapaxes(pick(to_content, at.T), -1, -2)
        return content + pick(to_distance, at) + turned


class Deberta(nnx.Module):
    """Embeddings of tokens, vectors of distances, and `depth` blocks.

    Args:
      encoder: the shape of the network.
      config: dropout, the type of the computation, and recomputation.
      rngs: for the initial parameters.
    """

    def __init__(self, encoder: DebertaConfig, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config, self.rate, self.remat = encoder, config.dropout, config.remat
        self.dtype = jnp.dtype(config.compute_dtype)
        width, epsilon = encoder.width, encoder.layer_norm_epsilon
        self.words = embed(encoder.vocabulary_size, width, rngs)
        self.norm = norm(width, epsilon, rngs)
        self.distances = embed(2 * encoder.distances, width, rngs)
        self.distance_norm = norm(width, epsilon, rngs)
        self.blocks = nnx.List(
            DebertaBlock(encoder, config, rngs=rngs) for _ in range(encoder.depth)
        )

    def __call__(self, tokens: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns the last hidden states, [n, length, width].

        Args:
          tokens: int32 [n, length], negative where there is no token.
          rngs: with it, dropout is on.
        """
        first, second, *keys = dropout_keys(rngs, len(self.blocks) + 2)
        mask = tokens >= 0
        ids = jnp.where(mask, tokens, jnp.int32(self.config.pad_token_id))
        # The rows, not the table, are cast to the type of the computation.
        x = self.norm(jnp.take(self.words.embedding[...], ids, axis=0, mode="clip"))
        x = dropout(x.astype(self.dtype), self.rate, first)
        rows = distance_rows(tokens.shape[1], self.config)
        # Those that texts of this length have.
        lowest, highest = rows.min(), rows.max()
        vectors = self.distances.embedding[lowest : highest + 1]
        vectors = self.distance_norm(vectors).astype(self.dtype)
        context = dropout(vectors, self.rate, second), jnp.asarray(rows - lowest)
        return run_blocks(self.blocks, x, mask, keys, *context, remat=self.remat)


def distance_rows(length: int, encoder: DebertaConfig) -> np.ndarray:
    r"""Returns the row of the distance from each position to each, int32 [n, n].

    Distances up to half of `distances` have a row each, longer ones share them: with
    m for that half and f for `farthest`, a distance d has

    .. math:: \lceil (m - 1) \log(d / m) / \log((f - 1) / m) \rceil + m

    Args:
      length: n.
      encoder: how many rows there are, and how far they reach.
    """
    places = np.arange(length)
    distance = places[:, None] - places[None, :]
    half = encoder.distances // 2
    size = np.maximum(np.abs(distance), half)
    # In the type in which others have trained: a ceiling may hang on the last bit.
    share = np.log(np.float32(size) / np.float32(half))
    share /= np.log(np.float32((encoder.farthest - 1) / half))
    shared = np.ceil(share * np.float32(half - 1)).astype(np.int32) + half
    near = np.abs(distance) <= half
    bucket = np.where(near, distance, np.sign(distance) * shared)
    return np.clip(bucket + encoder.distances, 0, 2 * encoder.distances - 1).astype(
        np.int32
    )


def _more(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how distances are told apart.

    Raises:
      ValueError: attention has other terms than the three.
    """
    terms = content.get("pos_att_type") or []
    if isinstance(terms, str):
        terms = terms.split("|")
    if {term.strip().lower() for term in terms} != {"c2p", "p2c"}:
        raise ValueError(
            f"`pos_att_type` is {terms!r}, and c2p and p2c alone are known"
        )
    width = content["hidden_size"]
    if content.get("embedding_size", width) != width:
        raise ValueError("embeddings of another width than `hidden_size` are not known")
    farthest = content.get("max_relative_positions", -1)
    if farthest < 1:
        farthest = content["max_position_embeddings"]
    return {"farthest": farthest}


FAMILIES = {
    "deberta-v2": Family(
        reads="text",
        class_name="DebertaV2",
        prefix="deberta.",
        config=DebertaConfig,
        network=Deberta,
        sizes={
            "vocabulary_size": "vocab_size",
            "width": "hidden_size",
            "depth": "num_hidden_layers",
            "heads": "num_attention_heads",
            "intermediate_size": "intermediate_size",
            "position_table_size": "max_position_embeddings",
            "distances": "position_buckets",
        },
        options={
            "layer_norm_epsilon": ("layer_norm_eps", 1e-7),
            "activation": ("hidden_act", "gelu"),
            "pad_token_id": ("pad_token_id", 0),
        },
        fixed={
            "relative_attention": (True, False),
            "share_att_key": (True, False),
            "position_biased_input": (False, True),
            "norm_rel_ebd": ("layer_norm", "none"),
            "type_vocab_size": (0, 0),
            "conv_kernel_size": (0, 0),
        },
        more=_more,
        modules={
            "words": ("embeddings.word_embeddings",),
            "norm": ("embeddings.LayerNorm",),
            "distances": ("encoder.rel_embeddings",),
            "distance_norm": ("encoder.LayerNorm",),
            "blocks.{}.query_key_value": side_by_side(
                "encoder.layer.{}.attention.self",
                "query_proj",
                "key_proj",
                "value_proj",
            ),
            "blocks.{}.output": ("encoder.layer.{}.attention.output.dense",),
            "blocks.{}.attention_norm": (
                "encoder.layer.{}.attention.output.LayerNorm",
            ),
            "blocks.{}.expand": ("encoder.layer.{}.intermediate.dense",),
            "blocks.{}.contract": ("encoder.layer.{}.output.dense",),
            "blocks.{}.feed_forward_norm": ("encoder.layer.{}.output.LayerNorm",),
        },
        tags=True,
    )
}
