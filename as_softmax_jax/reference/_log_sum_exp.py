r"""The log-sum-exp in two passes, with rescaling that loses nothing.

.. math:: e^x = f 2^n, \qquad n = \mathrm{round}(x / \log 2)

so that f is near 1, and a sum is scaled by powers of two alone, as in `XNNPACK
<https://github.com/google/XNNPACK>`_.
"""

import jax
import jax.numpy as jnp


def mantissa_and_exponent(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the sum of e^x over the last axis as f and n, f 2^n; finite x."""
    log_2 = jnp.log(jnp.full((), 2, x.dtype))
    exponent = jnp.round(x / log_2)
    mantissa = jnp.exp(x - exponent * log_2)
    largest = jnp.max(exponent, axis=-1)
    scaled = mantissa * jnp.exp2(exponent - largest[..., None])
    return jnp.sum(scaled, axis=-1), largest


def log_sum_exp(x: jax.Array, *, base2: bool = False) -> jax.Array:
    """Returns log of the sum of e^x over the last axis, of finite x."""
    if base2:
        mantissa, exponent = mantissa_and_exponent(x)
        return jnp.log(mantissa) + exponent * jnp.log(jnp.full((), 2, x.dtype))
    return jnp.log(jnp.sum(jnp.exp(x), axis=-1))
