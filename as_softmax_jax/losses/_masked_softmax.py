r"""Softmax over the classes that are active: those of now, or those met so far."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.class_axes import Axis, to_last
from as_softmax_jax._core.log_odds import label_log_odds, softplus
from as_softmax_jax.losses._extras import ActiveClasses
from as_softmax_jax.losses._table import register_loss


@register_loss(
    paper="Kim et al., arXiv 2309.14808",
    use="where classes come one after another, so that new ones are not pushed down",
    at_zero_logits=None,
    extras={"active": ActiveClasses()},
    search={"mask_value": (-4.0, -2.0, 0.0)},
    ranks_equal_logits=False,
)
def masked_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    active: ArrayLike,
    mask_value: ArrayLike = -math.inf,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax cross-entropy in which a constant stands for the inactive classes.

    .. math::
      \ell = -\log \frac{e^{o'_t}}{\sum_j e^{o'_j}}, \qquad
      o'_j = \begin{cases} o_j & j \text{ active or } j = t \\ m & \text{else}
             \end{cases}

    For classes that come one after another: those that are inactive get a gradient of
    exactly 0, so nothing that is learnt now pushes them down. With :math:`m = -\infty`
    they have no part at all, and this is `softmax_loss` with `active` for its
    `class_mask`; with a finite m the active classes are pushed above m, as by so many
    rivals that stand still. A class that `class_mask` leaves out has no part in either.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      active: boolean, the active classes: [C] along the class axis, or of the shape of
        `logits`. A label is active whatever it says.
      mask_value: m, below +inf; a number or an array that broadcasts to the shape of
        the loss. Traced and out of range it gives NaN.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import masked_softmax_loss
      >>> logits, labels = jnp.log(jnp.array([[0.5, 0.25, 0.25]])), jnp.array([0])
      >>> active = jnp.array([True, True, False])
      >>> jnp.set_printoptions(precision=4)
      >>> print(masked_softmax_loss(logits, labels, active=active))  # -log(0.5 / 0.75)
      [0.4055]
      >>> # -log(0.5 / (0.5 + 0.25 + 1))
      >>> print(masked_softmax_loss(logits, labels, active=active, mask_value=0.0))
      [1.2528]

    References:
      Kim et al., `Revisiting Softmax Masking: Stop Gradient for Enhancing Stability in
      Replay-based Continual Learning <https://arxiv.org/abs/2309.14808>`_, 2023, after
      its summary: a mask value m, and no gradient through it.
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    value = checks.parameter(
        mask_value,
        inputs.loss_type(x),
        "mask_value",
        allowed="a number or -inf",
        holds=lambda v: v < jnp.inf,
        inside=0.0,
    )
    x, value = inputs.own(x, value)
    there = _active(active, jnp.shape(logits), axis)
    if x.class_mask is not None:
        there |= ~x.class_mask  # -inf already, and no constant
    there |= inputs.is_label(x.labels, x.logits.shape[-1])
    filled = jnp.where(there, x.logits, value[..., None])
    empty = jnp.all(filled == -jnp.inf, axis=-1)
    filled = jnp.where(empty[..., None], jnp.zeros((), filled.dtype), filled)
    loss = softplus(-label_log_odds(filled, x.labels))
    loss = inputs.reaching_all(loss, x)
    return inputs.finish(loss, x._replace(empty=x.empty | empty))


def _active(active: ArrayLike, shape: tuple[int, ...], axis: Axis) -> jax.Array:
    """Returns which classes are active, classes last: [..., C], or [1, ..., C]."""
    axes = checks.class_axes(len(shape), axis)
    num_classes = math.prod(shape[a] for a in axes)
    array = checks.boolean_array(active, "active")
    if array.shape == (num_classes,):
        return array.reshape(*[1] * (len(shape) - len(axes)), num_classes)
    if array.shape != shape:
        raise ValueError(
            f"`active` must have one entry a class, ({num_classes},), or the shape of "
            f"`logits`, {shape}; got {array.shape}."
        )
    return to_last(array, axis)
