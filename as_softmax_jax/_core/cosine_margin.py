r"""The margin of losses on cosines: of the label's angle, and of its cosine.

.. math::
  z_t = s\, (\psi(c_t) - b), \qquad
  \psi(c) = \cos(\arccos c + a) = c \cos a - \sqrt{1 - c^2}\, \sin a
"""

import dataclasses
import functools
import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.log_odds import label_log_odds, scaled, shifted, softplus
from as_softmax_jax._core.norms import clipped_cosine, root

Beyond = Literal["linear", "plain", "clip"]
"""What the label's cosine becomes where its angle and the margin pass pi."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["scale", "angle", "cosine"],
    meta_fields=["beyond", "straight_through"],
)
@dataclasses.dataclass(frozen=True)
class CosineMargin:
    """The scale and the margins of each row."""

    scale: jax.Array  # [...] s, positive; NaN in a row whose loss is NaN
    angle: jax.Array  # [...] a, likewise
    cosine: jax.Array  # [...] b, likewise
    beyond: Beyond
    straight_through: bool  # the gradient as if there were no margin of the angle

    def lowered(self, logits: jax.Array) -> jax.Array:
        """Returns z_t [...] of the label's logit without margins, s c_t."""
        cosines = clipped_cosine(logits / self.scale)
        turned = turned_cosine(cosines, self.angle, self.beyond, self.straight_through)
        return self.scale * (turned - self.cosine)


def read(
    scale: ArrayLike,
    angle: ArrayLike,
    cosine: ArrayLike,
    beyond: Beyond,
    straight_through: bool,
    like: checks.LossType,
) -> CosineMargin:
    """Returns the margins in the loss's shape.

    Args:
      scale: positive and finite.
      angle: in [-pi, pi].
      cosine: finite.
      beyond: what holds past an angle of pi.
      straight_through: whose gradient.
      like: what they are brought to.

    Raises:
      TypeError: one is no real number.
      ValueError: one is out of range.
    """
    check_beyond(beyond)
    return CosineMargin(
        checks.positive(scale, like, "scale"),
        checks.between(angle, -math.pi, math.pi, like, "angle"),
        checks.finite(cosine, like, "cosine"),
        beyond,
        straight_through,
    )


def margin_loss(
    x: inputs.Inputs,
    scale: ArrayLike,
    angle: ArrayLike = 0.0,
    cosine: ArrayLike = 0.0,
    beyond: Beyond = "linear",
    straight_through: bool = False,
) -> jax.Array:
    """Returns the finished loss."""
    x, turned, lower = lowered(x, scale, angle, cosine, beyond, straight_through)
    log_odds = label_log_odds(shifted(turned), x.labels)
    return inputs.finish(softplus(lower - log_odds), x)


def lowered(
    x: inputs.Inputs,
    scale: ArrayLike,
    angle: ArrayLike = 0.0,
    cosine: ArrayLike = 0.0,
    beyond: Beyond = "linear",
    straight_through: bool = False,
) -> tuple[inputs.Inputs, jax.Array, jax.Array]:
    """Returns the inputs, logits with the angle's margin, and what the label loses.

    The loss takes s b from the label's log-odds, which are small, and not from its
    logit. Rows with a margin out of range are bad in the inputs that return.
    """
    check_beyond(beyond)
    like = inputs.loss_type(x)
    x, scale = inputs.own(x, checks.positive(scale, like, "scale"))
    angle = checks.between(angle, -math.pi, math.pi, like, "angle")
    x, angle = inputs.own(x, angle, 0.0)
    x, cosine = inputs.own(x, checks.finite(cosine, like, "cosine"), 0.0)
    own = inputs.take_label(x.logits, x.labels)
    turned = turned_cosine(own, angle, beyond, straight_through)
    is_label = inputs.is_label(x.labels, x.logits.shape[-1])
    cosines = jnp.where(is_label, turned[..., None], x.logits)
    return x, scaled(cosines, scale), scale * cosine


def check_beyond(beyond: str) -> None:
    """Refuses a name that is none of `Beyond`."""
    checks.one_of(beyond, get_args(Beyond), "beyond")


def turned_cosine(
    cosines: jax.Array, angle: jax.Array, beyond: Beyond, straight_through: bool
) -> jax.Array:
    """Returns cos(arccos c + a), without the arccos; -inf of -inf.

    The derivative of the root is infinite at 1 and -1. There the cosine does not move
    to the first order when the features do, and the derivative of the root is 0 here.
    """
    absent = cosines == -jnp.inf
    c = jnp.where(absent, jnp.zeros((), cosines.dtype), cosines)
    # Rounding may have taken a cosine past an end, where the square is below 0.
    sine = root((1 - c) * (1 + c))
    turned = c * jnp.cos(angle) - sine * jnp.sin(angle)
    # By the sum rule, and not by the sign of theta + a - pi, which takes the arccos.
    if beyond == "linear":
        past = (angle > 0) & (c < -jnp.cos(angle))
        turned = jnp.where(past, c - angle * jnp.sin(angle), turned)
    if beyond == "clip":
        past = (angle > 0) & (c < -jnp.cos(angle))
        before = (angle < 0) & (c > jnp.cos(angle))
        ends = jnp.where(past, -jnp.ones((), c.dtype), jnp.ones((), c.dtype))
        turned = jnp.where(past | before, ends, turned)
    if straight_through:
        turned = c + jax.lax.stop_gradient(turned - c)
    return jnp.where(absent, cosines, turned)
