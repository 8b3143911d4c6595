r"""Squared hinge losses, one class against the rest: support vector machines (L2-SVM).

.. math::
  \ell = \sum_j \max(0, 1 - y_j o_j)^2, \qquad y_j = \begin{cases} 1 & j \in P \\
    -1 & j \in N \end{cases}

with P the labels of a row and N its other classes.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.squares import square
from as_softmax_jax.losses._table import register_loss

_PAPER = "Tang, arXiv 1306.0239"


@register_loss(
    paper=_PAPER,
    use="for a support vector machine as the last layer; settles with a margin of 1",
    at_zero_logits=float,
    zero_with_one_class=False,
    shift_invariant=False,
    linear_growth=False,
)
def squared_hinge_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Squared hinge loss of each class against the rest (L2-SVM).

    .. math:: \ell = \max(0, 1 - o_t)^2 + \sum_{j \ne t} \max(0, 1 + o_j)^2

    An example is *settled*, with a loss and a gradient of exactly 0, when
    :math:`o_t \ge 1` and every other logit is at most -1. There are no probabilities;
    predict the largest logit. The machine's norm of the weights is weight decay, which
    is the optimizer's.

    It is neither optax's ``hinge_loss``, of two classes, nor its
    ``multiclass_hinge_loss``, of the strongest rival and without a square.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import squared_hinge_loss
      >>> logits = jnp.array([[0.5, -0.5, -3.0], [1.0, -1.0, -3.0]])
      >>> jnp.set_printoptions(precision=4)
      >>> # 0.5^2 + 0.5^2, 0
      >>> print(squared_hinge_loss(logits, jnp.array([0, 0])))
      [0.5 0. ]

    References:
      Tang, `Deep Learning using Linear Support Vector Machines
      <https://arxiv.org/abs/1306.0239>`_, 2013; Agarap, `GRU-SVM
      <https://arxiv.org/abs/1709.03082>`_, 2017, and `CNN-SVM
      <https://arxiv.org/abs/1712.03541>`_, 2017. The sum over classes as in the code of
      the second; that of the third takes a mean.
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    return inputs.finish(_squared_hinge(inputs.as_multi_hot(x)), x)


def squared_hinge_settled(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Whether every class is beyond its margin, so that `squared_hinge_loss` is 0.

    .. math:: \text{settled} \iff o_t \ge 1 \ \text{ and } \ o_j \le -1
      \quad \forall j \ne t

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import squared_hinge_settled
      >>> logits = jnp.array([[0.5, -0.5, -3.0], [1.0, -1.0, -3.0]])
      >>> print(squared_hinge_settled(logits, jnp.array([0, 0])))
      [False  True]
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    return inputs.finish_settled(_beyond(inputs.as_multi_hot(x)) & ~x.empty, x)


@register_loss(
    paper=_PAPER,
    use="for several labels, each a support vector machine; settles with a margin of 1",
    at_zero_logits=float,
    zero_with_one_class=False,
    shift_invariant=False,
    linear_growth=False,
)
def multi_label_squared_hinge_loss(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Squared hinge loss of each class on its own, for any number of labels.

    .. math::
      \ell = \sum_{t \in P} \max(0, 1 - o_t)^2 + \sum_{i \in N} \max(0, 1 + o_i)^2

    The prediction is :math:`o_i > 0`. An example is *settled*, with a loss and a
    gradient of exactly 0, when every class is on its side of 0 by 1 or more; so it is
    predicted right, and may have any number of labels.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import multi_label_squared_hinge_loss
      >>> logits = jnp.array([[0.5, 2.0, -1.0]])
      >>> jnp.set_printoptions(precision=4)
      >>> # 0.5^2 + 0 + 0
      >>> print(multi_label_squared_hinge_loss(logits, jnp.array([[1, 1, 0]])))
      [0.25]

    References:
      Tang, `Deep Learning using Linear Support Vector Machines
      <https://arxiv.org/abs/1306.0239>`_, 2013, whose one-against-rest form takes any
      number of labels.
    """
    x = inputs.read_multi_hot(logits, targets, where, class_mask, axis)
    return inputs.finish(_squared_hinge(x), x)


def multi_label_squared_hinge_settled(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Whether every class is beyond its margin, so that the loss is exactly 0.

    .. math:: \text{settled} \iff o_t \ge 1 \ \ \forall t \in P \quad \text{and} \quad
      o_i \le -1 \ \ \forall i \in N

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import multi_label_squared_hinge_settled
      >>> logits = jnp.array([[1.5, 2.0, -1.0]])
      >>> print(multi_label_squared_hinge_settled(logits, jnp.array([[1, 1, 0]])))
      [ True]
    """
    x = inputs.read_multi_hot(logits, targets, where, class_mask, axis)
    return inputs.finish_settled(_beyond(x), x)


def _squared_hinge(x: inputs.MultiHotInputs) -> jax.Array:
    """Returns the sum of max(0, 1 - y o)^2 over the known classes of each row."""
    short = 1 - jnp.where(x.positives, x.logits, -x.logits)
    known = x.positives | x.negatives
    return jnp.sum(square(jnp.where(known & (short > 0), short, 0.0)), axis=-1)


def _beyond(x: inputs.MultiHotInputs) -> jax.Array:
    """Returns whether every known class of a row has y o >= 1."""
    positives = ~x.positives | (x.logits >= 1)
    return jnp.all(positives & (~x.negatives | (x.logits <= -1)), axis=-1)
