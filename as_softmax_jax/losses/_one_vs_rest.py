"""Losses that ask of each class by itself whether it is the label: one against rest."""

import math

import jax
from jax.typing import ArrayLike

from as_softmax_jax._core import inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.cross_entropy import binary_cross_entropy
from as_softmax_jax.losses._table import register_loss


@register_loss(
    paper="Padhy et al., arXiv 2007.05134",
    use="where an input may be of no class at all: each has a yes or no of its own",
    at_zero_logits=lambda c: c * math.log(2),
    zero_with_one_class=False,
    shift_invariant=False,
)
def one_vs_rest_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Binary cross-entropy of the label, and of each other class as its opposite.

    .. math:: \ell = \log(1 + e^{-o_t}) + \sum_{j \ne t} \log(1 + e^{o_j})

    A sum and not a mean: it grows with the number of valid classes. For several labels
    an example it is `multi_label_sigmoid_loss`.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import one_vs_rest_loss
      >>> logits = jnp.log(jnp.array([[4.0, 2.0, 0.5]]))
      >>> jnp.set_printoptions(precision=4)
      >>> # log(1 + 1 / 4) + log(1 + 2) + log(1 + 0.5)
      >>> print(one_vs_rest_loss(logits, jnp.array([0])))
      [1.7272]

    References:
      Padhy et al., `Revisiting One-vs-All Classifiers for Predictive Uncertainty and
      Out-of-Distribution Detection <https://arxiv.org/abs/2007.05134>`_, 2020; by its
      textbook formula.
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    return inputs.finish(binary_cross_entropy(inputs.as_multi_hot(x)), x)
