"""Output layers by name: features [..., width] to what the loss takes."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from as_softmax_jax import heads

# Of a density at most, beside its constant.
_WAVES = 16

Gives = Literal["logits", "cosines", "distances", "thresholds"]


class Linear(nnx.Module):
    """Logits: features times a kernel, and a bias.

    Args:
      width: of the features.
      num_classes: of the logits.
      dtype: of the computation.
      rngs: for the initial parameters.
    """

    gives: ClassVar[Gives] = "logits"
    # Whether `row_statistics` stands in for the logits in training.
    blocked: ClassVar[bool] = False

    def __init__(
        self, width: int, num_classes: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        self.linear = nnx.Linear(width, num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, features: jax.Array) -> jax.Array:
        """Returns the logits [..., num_classes]."""
        return self.linear(features)


class Blocked(Linear):
    """`Linear` for many thousands of classes: training never holds their logits."""

    blocked = True

    def row_statistics(
        self, mesh: Mesh, features: jax.Array, labels: jax.Array, **keywords: Any
    ) -> heads.RowStatistics:
        """Returns losses, what is settled and the leads, block by block.

        Args:
          mesh: with the axes `data` and `model`.
          features: [n, ..., width].
          labels: integers [n, ...].
          **keywords: of `as_softmax_jax.heads.row_statistics_on_mesh`.
        """
        linear, dtype = self.linear, self.linear.dtype
        assert linear.bias is not None, "Linear makes one"
        return heads.row_statistics_on_mesh(
            mesh,
            features.astype(dtype),
            linear.kernel[...].astype(dtype),
            labels,
            bias=linear.bias[...],
            **keywords,
        )


class Cosine(nnx.Module):
    """The cosines between the features and each class's vector.

    Additive-margin losses take these.

    Args:
      width: of the features, as are all that are not said here, see `Linear`.
      num_classes: of the cosines.
      dtype: of the computation.
      rngs: for the initial parameters.
      sub_centers: how many vectors a class has; the nearest counts.
    """

    gives: ClassVar[Gives] = "cosines"
    blocked: ClassVar[bool] = False

    def __init__(
        self,
        width: int,
        num_classes: int,
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
        sub_centers: int = 1,
    ):
        self.sub_centers = sub_centers
        columns = num_classes * sub_centers
        self.linear = nnx.Linear(width, columns, use_bias=False, dtype=dtype, rngs=rngs)

    def __call__(self, features: jax.Array) -> jax.Array:
        """Returns the cosines [..., num_classes]."""
        return heads.cosine_logits(
            features,
            self.linear.kernel[...].astype(features.dtype),
            sub_centers=self.sub_centers,
        )


class BlockedCosine(Cosine):
    """`Cosine` for many thousands of classes: training never holds their cosines."""

    blocked = True

    def row_statistics(
        self, mesh: Mesh, features: jax.Array, labels: jax.Array, **keywords: Any
    ) -> heads.RowStatistics:
        """Returns what `Blocked.row_statistics` does, of a margin on the cosine.

        Args:
          mesh: with the axes `data` and `model`.
          features: [n, ..., width].
          labels: integers [n, ...].
          **keywords: of `as_softmax_jax.heads.margin_row_statistics_on_mesh`.
        """
        linear, dtype = self.linear, self.linear.dtype
        return heads.margin_row_statistics_on_mesh(
            mesh,
            features.astype(dtype),
            linear.kernel[...].astype(dtype),
            labels,
            sub_centers=self.sub_centers,
            **keywords,
        )


class Distance(nnx.Module):
    """Distances below 0 from each class's prototype; arguments as `Linear`.

    DisMax takes these, with a scale that is trained.
    """

    gives: ClassVar[Gives] = "distances"
    blocked: ClassVar[bool] = False

    def __init__(
        self, width: int, num_classes: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        self.linear = nnx.Linear(
            width,
            num_classes,
            use_bias=False,
            kernel_init=nnx.initializers.normal(1.0),
            dtype=dtype,
            rngs=rngs,
        )
        self.scale = nnx.Param(jnp.ones(()))

    def __call__(self, features: jax.Array) -> jax.Array:
        """Returns the logits [..., num_classes]."""
        return heads.distance_logits(
            features,
            self.linear.kernel[...].astype(features.dtype),
            distance_scale=self.scale[...],
        )


class Fourier(nnx.Module):
    """Logits of ordered classes, a density of few waves; arguments as `Linear`.

    Neighbours have alike probabilities, so few examples of each class are enough.
    """

    gives: ClassVar[Gives] = "logits"
    blocked: ClassVar[bool] = False

    def __init__(
        self, width: int, num_classes: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        self.num_classes = num_classes
        small = nnx.initializers.variance_scaling(1e-4, "fan_in", "truncated_normal")
        # As many waves as can be told apart at the classes, up to a few.
        waves = min(num_classes // 2, _WAVES)
        self.linear = nnx.Linear(
            width, 2 * (waves + 1), kernel_init=small, dtype=dtype, rngs=rngs
        )
        # The constant alone: every class is as likely as any other at first.
        first = jnp.arange(2 * (waves + 1)) == 0
        self.linear.bias = nnx.Param(first.astype(jnp.float32))

    def __call__(self, features: jax.Array) -> jax.Array:
        """Returns the logits [..., num_classes]."""
        linear, dtype = self.linear, features.dtype
        assert linear.bias is not None, "Linear makes one"
        return heads.fourier_logits(
            features,
            linear.kernel[...].astype(dtype),
            linear.bias[...].astype(dtype),
            num_classes=self.num_classes,
        )


class Thresholds(nnx.Module):
    """The logits of the thresholds between ordered classes; arguments as `Linear`.

    One score for all of them, as in CORAL: of threshold k the logit is the score plus a
    bias. Here no bias is above the one before it, so each probability
    P(y > k) is at most P(y > k - 1) from the first step on.
    """

    gives: ClassVar[Gives] = "thresholds"
    blocked: ClassVar[bool] = False

    def __init__(
        self, width: int, num_classes: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        self.linear = nnx.Linear(width, 1, dtype=dtype, rngs=rngs)
        # softplus of it is how far each bias is below the one before: 1 at first.
        step = jnp.log(jnp.expm1(jnp.ones(())))
        # A checkpoint cannot hold an array without an entry.
        steps = nnx.Param(jnp.full(num_classes - 2, step)) if num_classes > 2 else None
        self.steps = steps

    def __call__(self, features: jax.Array) -> jax.Array:
        """Returns the logits [..., num_classes - 1], none above the one before."""
        score = self.linear(features)
        steps = jnp.zeros(0) if self.steps is None else self.steps[...]
        return score + _offsets(steps).astype(score.dtype)


Head = Linear | Cosine | Distance | Fourier | Thresholds
# Of `model.head`.
HEADS: Mapping[str, type[Head]] = {
    "linear": Linear,
    "cosine": Cosine,
    "distance": Distance,
    "thresholds": Thresholds,
    "fourier": Fourier,
    "blocked": Blocked,
    "blocked_cosine": BlockedCosine,
}


def _offsets(steps: jax.Array) -> jax.Array:
    """Returns what is added to the score for each threshold, [num_classes - 1]."""
    below = jnp.cumsum(jax.nn.softplus(steps))
    below = jnp.concatenate([jnp.zeros(1, below.dtype), below])
    # The middle threshold begins where the score is 0.
    return (below.shape[0] - 1) / 2 - below


def as_linear(head: str, params: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns parameters of `Linear` that gives the same scores of classes.

    Those of thresholds are sums of one score, so a linear layer gives them, too; none
    gives cosines, distances or a density of waves, where this is None.

    Args:
      head: the name of the layer.
      params: of the layer, as nested dicts.
    """
    if issubclass(HEADS[head], Cosine | Distance | Fourier):
        return None
    if HEADS[head].gives != "thresholds":
        return params
    offsets = _offsets(params.get("steps", jnp.zeros(0))) + params["linear"]["bias"]
    zero = jnp.zeros(1, offsets.dtype)
    bias = jnp.concatenate([zero, jnp.cumsum(offsets)])
    times = jnp.arange(len(bias), dtype=bias.dtype)[None]
    return {"linear": {"kernel": params["linear"]["kernel"] * times, "bias": bias}}


def class_scores(head: str, logits: jax.Array) -> jax.Array:
    r"""Returns what the logits of an output layer say of each class, [..., classes].

    Of thresholds, class k has the sum of the logits that it passes,
    :math:`s_k = \sum_{j < k} o_j`. The largest is the number of thresholds above 0,
    as no logit is above the one before it; and :math:`-s_k` is ordinal cross-entropy's
    loss with k for the label, up to what all labels share.

    Args:
      head: the name of the layer.
      logits: what it gives.
    """
    if HEADS[head].gives != "thresholds":
        return logits
    first = jnp.zeros_like(logits[..., :1])
    return jnp.concatenate([first, jnp.cumsum(logits, axis=-1)], axis=-1)
