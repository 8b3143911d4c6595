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
from as_softmax_jax._core.log_odds import rivals_of_inputs, scaled, softplus
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
        return self.scale * (self.turned(cosines) - self.cosine)

    @property
    def lower(self) -> jax.Array:
        """What the label's logit loses to the cosine's margin, s b [...]."""
        return self.scale * self.cosine

    def turned(self, cosines: jax.Array) -> jax.Array:
        """Returns psi(c_t) [...] of the label's cosine."""
        return turned_cosine(cosines, self.angle, self.beyond, self.straight_through)


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
    """Returns the finished loss.

    Arguments as for `read`; x as `inputs.read` leaves them with ``clean=False``.
    """
    x, margin = own(x, scale, angle, cosine, beyond, straight_through)
    x, _, log_odds = lowered(x, margin)
    return inputs.finish(softplus(-log_odds), x)


def lowered(
    x: inputs.Inputs, margin: CosineMargin
) -> tuple[inputs.Inputs, jax.Array, jax.Array]:
    """Returns the inputs, clean, and the label's logit and log-odds under its margins.

    The log-odds are small, and lose s b by themselves, not with the label's logit.
    """
    x, label_logit, rivals = rivals_of_inputs(x, margin.scale)
    turned = margin.turned(label_logit)
    return x, lowered_logit(turned, margin), rivals.log_odds(turned) - margin.lower


def lowered_logit(turned: jax.Array, margin: CosineMargin) -> jax.Array:
    """Returns z_t of the label's cosine under the angle's margin, [...]."""
    return scaled(turned[..., None], margin.scale)[..., 0] - margin.lower


def own(
    x: inputs.Inputs,
    scale: ArrayLike,
    angle: ArrayLike = 0.0,
    cosine: ArrayLike = 0.0,
    beyond: Beyond = "linear",
    straight_through: bool = False,
) -> tuple[inputs.Inputs, CosineMargin]:
    """Returns the inputs, rows of a margin out of range bad, and margins in range."""
    given = read(scale, angle, cosine, beyond, straight_through, inputs.loss_type(x))
    x, scale = inputs.own(x, given.scale)
    x, angle = inputs.own(x, given.angle, 0.0)
    x, cosine = inputs.own(x, given.cosine, 0.0)
    return x, dataclasses.replace(given, scale=scale, angle=angle, cosine=cosine)


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
