"""BERT, and those of its build: RoBERTa, XLM-RoBERTa, DistilBERT.

Devlin et al., arXiv 1810.04805; Liu et al., arXiv 1907.11692; Conneau et al., arXiv
1911.02116; Sanh et al., arXiv 1910.01108.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from ..config import ModelConfig
from ..errors import ConfigError
from .family import Family, TextEncoderConfig, side_by_side
from .layers import Block, dropout, dropout_keys, embed, norm, run_blocks


@dataclasses.dataclass(frozen=True, kw_only=True)
class BertConfig(TextEncoderConfig):
    """The shape of a BERT.

    Attributes:
      type_vocabulary_size: rows of the table of token types; 0: it has none.
    """

    type_vocabulary_size: int = 0

    @property
    def position_offset(self) -> int:
        """The row of the first token's position."""
        return self.pad_token_id + 1 if "roberta" in self.model_type else 0

    @property
    def max_positions(self) -> int:
        """The longest sequence that has a position for each token."""
        return self.position_table_size - self.position_offset


class Bert(nnx.Module):
    """Embeddings and `depth` post-norm Transformer blocks.

    Args:
      encoder: the shape of the network.
      config: dropout, the type of the computation, and recomputation.
      rngs: for the initial parameters.
    """

    def __init__(self, encoder: BertConfig, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config, self.rate, self.remat = encoder, config.dropout, config.remat
        self.dtype = jnp.dtype(config.compute_dtype)
        self.words = embed(encoder.vocabulary_size, encoder.width, rngs)
        self.positions = embed(encoder.position_table_size, encoder.width, rngs)
        if encoder.type_vocabulary_size:
            self.types = embed(encoder.type_vocabulary_size, encoder.width, rngs)
        self.norm = norm(encoder.width, encoder.layer_norm_epsilon, rngs)
        self.blocks = nnx.List(
            Block(encoder, config, rngs=rngs) for _ in range(encoder.depth)
        )

    def __call__(self, tokens: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns the last hidden states.

        Args:
          tokens: int32 [n, length], negative where there is no token.
          rngs: with it, dropout is on.

        Returns:
          [n, length, width] in the type of the computation.

        Raises:
          ConfigError: the sequences are longer than the table of positions.
        """
        # One key a block, and one more for the embeddings.
        first, *keys = dropout_keys(rngs, len(self.blocks) + 1)
        mask = tokens >= 0
        x = dropout(self._embeddings(tokens, mask), self.rate, first)
        return run_blocks(self.blocks, x, mask, keys, remat=self.remat)

    def _embeddings(self, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        """Returns the normalised sum of the embeddings, [n, length, width]."""
        length, first = tokens.shape[1], self.config.position_offset
        if length > self.config.max_positions:
            raise ConfigError(
                f"`data.max_length`: {length} tokens, but the encoder has positions "
                f"for {self.config.max_positions}; lower it to that"
            )
        ids = jnp.where(mask, tokens, jnp.int32(self.config.pad_token_id))
        # The rows, not the table, are cast to the type of the computation.
        x = jnp.take(self.words.embedding[...], ids, axis=0, mode="clip")
        x += self.positions.embedding[first : first + length][None]
        if self.config.type_vocabulary_size:
            x += self.types.embedding[0][None, None]
        return self.norm(x).astype(self.dtype)


_BERT = Family(
    reads="text",
    class_name="Bert",
    prefix="bert.",
    config=BertConfig,
    network=Bert,
    sizes={
        "vocabulary_size": "vocab_size",
        "width": "hidden_size",
        "depth": "num_hidden_layers",
        "heads": "num_attention_heads",
        "intermediate_size": "intermediate_size",
        "position_table_size": "max_position_embeddings",
    },
    options={
        "type_vocabulary_size": ("type_vocab_size", 2),
        "layer_norm_epsilon": ("layer_norm_eps", 1e-12),
        "activation": ("hidden_act", "gelu"),
        "pad_token_id": ("pad_token_id", 0),
    },
    modules={
        "words": ("embeddings.word_embeddings",),
        "positions": ("embeddings.position_embeddings",),
        "types": ("embeddings.token_type_embeddings",),
        "norm": ("embeddings.LayerNorm",),
        "blocks.{}.query_key_value": side_by_side(
            "encoder.layer.{}.attention.self", "query", "key", "value"
        ),
        "blocks.{}.output": ("encoder.layer.{}.attention.output.dense",),
        "blocks.{}.attention_norm": ("encoder.layer.{}.attention.output.LayerNorm",),
        "blocks.{}.expand": ("encoder.layer.{}.intermediate.dense",),
        "blocks.{}.contract": ("encoder.layer.{}.output.dense",),
        "blocks.{}.feed_forward_norm": ("encoder.layer.{}.output.LayerNorm",),
    },
    fixed={
        "position_embedding_type": ("absolute", "absolute"),
        "is_decoder": (False, False),
        "add_cross_attention": (False, False),
    },
    tags=True,
)
_ROBERTA = dataclasses.replace(
    _BERT,
    class_name="Roberta",
    prefix="roberta.",
    options={**_BERT.options, "pad_token_id": ("pad_token_id", 1)},
)
_DISTILBERT = dataclasses.replace(
    _BERT,
    class_name="DistilBert",
    prefix="distilbert.",
    sizes={
        "vocabulary_size": "vocab_size",
        "width": "dim",
        "depth": "n_layers",
        "heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "position_table_size": "max_position_embeddings",
    },
    options={
        "activation": ("activation", "gelu"),
        "pad_token_id": ("pad_token_id", 0),
    },
    # It has no types, and BERT's epsilon.
    more=lambda content: {"layer_norm_epsilon": 1e-12},
    modules={
        "words": ("embeddings.word_embeddings",),
        "positions": ("embeddings.position_embeddings",),
        "norm": ("embeddings.LayerNorm",),
        "blocks.{}.query_key_value": side_by_side(
            "transformer.layer.{}.attention", "q_lin", "k_lin", "v_lin"
        ),
        "blocks.{}.output": ("transformer.layer.{}.attention.out_lin",),
        "blocks.{}.attention_norm": ("transformer.layer.{}.sa_layer_norm",),
        "blocks.{}.expand": ("transformer.layer.{}.ffn.lin1",),
        "blocks.{}.contract": ("transformer.layer.{}.ffn.lin2",),
        "blocks.{}.feed_forward_norm": ("transformer.layer.{}.output_layer_norm",),
    },
)
FAMILIES = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": dataclasses.replace(_ROBERTA, class_name="XLMRoberta"),
    "distilbert": _DISTILBERT,
}
