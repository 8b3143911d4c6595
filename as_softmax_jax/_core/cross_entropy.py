r"""Cross-entropy over the classes that are kept, by few passes over the logits.

.. math:: \ell = \log \sum_j z_j e^{o_j - s} - (o_t - s), \qquad s = \max_j o_j

Plain automatic differentiation gives :math:`\tilde p_i - [i = t]` of it. Where the
label alone is kept it is the largest logit: the sum is :math:`e^0 = 1`, so the loss is
:math:`\log 1 - 0`, exactly 0, and the gradient :math:`1 / 1 - 1` likewise.
"""

import jax
import jax.numpy as jnp

from as_softmax_jax._core import inputs
from as_softmax_jax._core.log_odds import softplus
from as_softmax_jax._core.log_sum_exp import exp, finite_shift
from as_softmax_jax._core.margin import Margin
from as_softmax_jax._core.nan import replaced


@jax.jit
def cross_entropy(
    x: inputs.Inputs, margin: Margin | None = None
) -> tuple[jax.Array, jax.Array]:
    """Returns the loss of each row, and which rows hold a bad logit.

    Args:
      x: the inputs, as `inputs.read` leaves them with ``clean=False``: a NaN or +inf
        logit makes the sum NaN, which finds it without a pass of its own.
      margin: in logits, in range everywhere; None: every class is kept.
    """
    logits = x.logits
    label_logit = inputs.take_label(logits, x.labels)
    shift = finite_shift(jax.lax.stop_gradient(jnp.max(logits, axis=-1)))
    if margin is not None:
        fixed = jax.lax.stop_gradient((logits, label_logit))
        kept = within(*fixed, margin.gap_in_logits(fixed[1]))
        # Dropped before e^o, which is 0 there, and so is the derivative. The gradient
        # then costs what it costs without a margin, and is NaN in all of a bad row.
        logits = replaced(~kept, logits, jnp.full((), -jnp.inf, logits.dtype))
    total = jnp.sum(exp(logits - shift[..., None]), axis=-1)
    bad = jnp.isnan(total)
    total = replaced(bad, total, jnp.ones((), total.dtype))
    # Every logit -inf: the label has probability 0, and the loss is +inf.
    total = total + (total == 0).astype(total.dtype)
    return jnp.log(total) - (label_logit - shift), bad


def within(logits: jax.Array, label_logit: jax.Array, gap: jax.Array) -> jax.Array:
    """Returns z, [..., C]: which classes lie no further below the label than its gap.

    A bad row keeps every class, because NaN compares as False.
    """
    # A label at -inf keeps every class by its gap of -inf.
    return ~(logits - finite_shift(label_logit)[..., None] < gap[..., None])


@jax.jit
def binary_cross_entropy(x: inputs.MultiHotInputs) -> jax.Array:
    """Returns the sum over the known classes of each row, [...].

    optax multiplies by targets of 0, which makes NaN of a logit of -inf.
    """
    losses = softplus(jnp.where(x.positives, -x.logits, x.logits))
    return jnp.sum(losses, axis=-1, where=x.positives | x.negatives)
