"""The network: a model of the task, and the output layer on its features."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..command.notices import notice
from ..config import ModelConfig
from ..data.examples import InputSpec
from ..models.heads import HEADS, Cosine, class_scores
from ..models.lora import LORA, init_changes, merge_changes
from ..models.pretrained import find_folder, load_weights
from ..tasks import find_task
from ..tasks.task import model_name
from .layers import ENCODER, trained

# What the parameters of the output layers and of the loss stand under; the others are
# the model's.
HEAD, OTHER_HEAD, LOSS = "head", "other_head", "loss"


class Output(NamedTuple):
    """What a network makes of inputs; logits are computed when they are asked for."""

    features: jax.Array  # [n, ..., width]
    head: Any  # the output layer
    other_head: Any = None  # a second one on the same features
    learned: Any = None  # numbers of the loss, by keyword

    def logits(self) -> jax.Array:
        """Returns the logits [n, ..., classes]."""
        return self.head(self.features)

    def other_logits(self) -> jax.Array | None:
        """Returns those of the second output layer; None where there is none."""
        return None if self.other_head is None else self.other_head(self.features)


@dataclasses.dataclass(frozen=True)
class Network:
    """A network without its parameters; hashable, so static under jit.

    Attributes:
      task: the task's name, which finds the model.
      spec: what the model must know of its data.
      model: the model's configuration.
      head: the name of the output layer, one of `train.models.heads.HEADS`.
      two_heads: whether there is a second output layer of that kind.
      learned: the loss's keywords whose numbers are parameters, and how they begin.
    """

    task: str
    spec: InputSpec
    model: ModelConfig
    head: str
    two_heads: bool = False
    learned: tuple[tuple[str, float], ...] = ()

    def init(self, rngs: nnx.Rngs) -> dict[str, Any]:
        """Returns fresh parameters as nested dicts."""
        model, *heads = (
            nnx.to_pure_dict(nnx.state(part, nnx.Param)) for part in self._build(rngs)
        )
        if self.model.lora_rank:
            model[LORA] = init_changes(model[ENCODER], self.model, rngs.params())
        params = model | dict(zip(self._head_names, heads, strict=True))
        if self.learned:
            params[LOSS] = {name: jnp.float32(first) for name, first in self.learned}
        return params

    def shapes(self) -> Any:
        """Returns the shapes and dtypes of the parameters."""
        return jax.eval_shape(lambda: self.init(nnx.Rngs(0)))

    def apply(self, params: Any, inputs: jax.Array, *, rngs: nnx.Rngs | None) -> Output:
        """Returns what the network makes of inputs; dropout is on with `rngs`."""
        params = self.merged(self._held(params))
        apart = (*self._head_names, LOSS)
        of_model = {k: v for k, v in params.items() if k not in apart}
        model, *heads = self._graphs
        features = nnx.merge(model, of_model)(inputs, rngs=rngs)
        layers = zip(heads, self._head_names, strict=True)
        output = Output(features, *(nnx.merge(g, params[name]) for g, name in layers))
        return output._replace(learned=params.get(LOSS))

    def logits(
        self, params: Any, inputs: jax.Array, *, rngs: nnx.Rngs | None
    ) -> jax.Array:
        """Returns the logits of inputs; dropout is on when `rngs` is given."""
        return self.apply(params, inputs, rngs=rngs).logits()

    def merged(self, params: Any) -> Any:
        """Returns the parameters with low-rank changes added to those that they change.

        Where there are none, they are returned as they are.
        """
        if LORA not in params:
            return params
        rest = {name: part for name, part in params.items() if name != LORA}
        encoder = merge_changes(params[ENCODER], params[LORA], self.model)
        return rest | {ENCODER: encoder}

    def class_scores(self, logits: jax.Array) -> jax.Array:
        """Returns what the logits say of each class, [n, ..., classes].

        The largest is the answer, and they are the logits but where these are of
        thresholds between classes.
        """
        return class_scores(self.head, logits)

    def pretrained(self) -> dict[str | int, Any] | None:
        """Returns the parameters of the pretrained encoder; None where there is none.

        Raises:
          DataError: the encoder's files are not in order.
        """
        if self.spec.encoder is None:
            return None
        folder = find_folder(self.model.pretrained)
        weights = load_weights(folder, self.spec.encoder)
        if weights.unused:
            notice(f"{folder}: not used: {', '.join(weights.unused)}")
        return weights.params

    def _held(self, params: Any) -> Any:
        """Returns the parameters, without gradients of those that are not trained."""
        if not (self.model.freeze or self.model.lora_rank):
            return params
        return jax.tree.map(
            lambda leaf, moves: leaf if moves else jax.lax.stop_gradient(leaf),
            params,
            trained(self.model, params),
        )

    @property
    def _head_names(self) -> tuple[str, ...]:
        return (HEAD, OTHER_HEAD) if self.two_heads else (HEAD,)

    def _build(self, rngs: nnx.Rngs) -> list[nnx.Module]:
        """Returns the model and its output layers with fresh parameters."""
        models = find_task(self.task).models
        model: Any = models[model_name(models, self.model)](
            self.model, self.spec, rngs=rngs
        )
        dtype = jnp.dtype(self.model.compute_dtype)
        shape = model.out_features, self.spec.num_classes
        layer: Any = functools.partial(HEADS[self.head], *shape, dtype=dtype, rngs=rngs)
        if issubclass(HEADS[self.head], Cosine):
            layer = functools.partial(layer, sub_centers=self.model.sub_centers)
        return [model, *(layer() for _ in self._head_names)]

    @functools.cached_property
    def _graphs(self) -> list[Any]:
        """The structure of each part, to be merged with parameters."""
        parts = nnx.eval_shape(lambda: self._build(nnx.Rngs(0)))
        # Parameters are all that a part may hold: nnx refuses anything else here.
        return [nnx.split(part, nnx.Param)[0] for part in parts]


def with_pretrained(network: Network, params: Any) -> Any:
    """Returns parameters, those of the encoder from its folder where it has one.

    Args:
      network: whose parameters they are.
      params: fresh ones; the new ones lie where they lie.

    Raises:
      DataError: the encoder's files are not in order.
    """
    encoder = network.pretrained()
    if encoder is None:
        return params

    def place(new: np.ndarray, old: jax.Array) -> jax.Array:
        return jax.device_put(new, old.sharding)

    return params | {ENCODER: jax.tree.map(place, encoder, params[ENCODER])}
