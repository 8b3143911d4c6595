r"""The margin of AS-Softmax in log space.

A class of probability :math:`p_i` is kept against one of probability p when
:math:`p - p_i \le \delta`. With the logits o and :math:`o_i` of the two,

.. math::
  p - p_i \le \delta \iff o_i - o \ge g(p), \qquad
  g(p) = \begin{cases} -\infty & p \le \delta \\
      \log(1 - \delta / p) & p > \delta \end{cases}

The comparison is with the *difference* of two logits, which is exact where the two are
close, so that ties at :math:`\delta = 0` are decided exactly.
"""

import jax
import jax.numpy as jnp


def gap(probs: jax.Array, delta: jax.Array) -> jax.Array:
    """Returns g(p): how far below its logit another class is still kept."""
    low = probs <= delta
    # The side that is not selected is a number, too: debugging modes look at both.
    return jnp.where(low, -jnp.inf, jnp.log1p(-delta / jnp.where(low, jnp.inf, probs)))


def gap_by_log(probs: jax.Array, delta: jax.Array) -> jax.Array:
    """Returns `gap` where a kernel has no log1p (Mosaic GPU), less exact near 0."""
    return jnp.where(probs <= delta, -jnp.inf, jnp.log(1.0 - delta / probs))
