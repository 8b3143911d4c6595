"""The squared error of softmax probabilities against a distribution."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.log_odds import rivals_of_inputs
from as_softmax_jax._core.log_probs import log_probs
from as_softmax_jax._core.log_sum_exp import expm1
from as_softmax_jax.losses._table import register_loss


@register_loss(
    paper="Li et al., arXiv 2304.13276",
    use="for targets that are distributions, where every class should count alike",
    at_zero_logits=lambda c: (1 - 1 / c) / 2,
    distributions=True,
    infinite_at_probability_0=False,
)
def softmax_squared_error_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Half the squared distance of the probabilities from a distribution.

    .. math:: \ell = \tfrac12 \sum_j (p_j - q_j)^2

    with :math:`q` the target; a label stands for its one-hot form, and then twice the
    loss is the Brier score. Bounded by 1. The gradient fades where :math:`p` is close
    to one-hot, right or wrong.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import softmax_squared_error_loss
      >>> logits = jnp.log(jnp.array([[0.5, 0.5]]))
      >>> jnp.set_printoptions(precision=4)
      >>> # (0.3^2 + 0.3^2) / 2
      >>> print(softmax_squared_error_loss(logits, jnp.array([[0.8, 0.2]])))
      [0.09]
      >>> print(softmax_squared_error_loss(logits, jnp.array([0])))
      [0.25]

    References:
      Li et al., `The Closeness of In-Context Learning and Weight Shifting for Softmax
      Regression <https://arxiv.org/abs/2304.13276>`_, NeurIPS 2024, after the abstract,
      whose norm is squared here and halved: so its gradient exists at 0, too.
    """
    x = inputs.read_soft(logits, labels, where, class_mask, axis, clean=False)
    if isinstance(x, inputs.DistributionInputs):
        log_p = log_probs(x.logits)
    else:
        x, label_logit, rivals = rivals_of_inputs(x)
        log_p = rivals.log_probs(x, label_logit)
    target = inputs.target_probs(x)
    # p - 1 and 1 - q where q is large: neither is a difference of close numbers.
    near = expm1(log_p) + (1 - target)
    error = jnp.where(target > 0.5, near, jnp.exp(log_p) - target)
    return inputs.finish(jnp.sum(error * error, axis=-1) / 2, x, at_empty=1.0)
