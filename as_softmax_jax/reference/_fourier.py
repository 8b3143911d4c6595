"""The Fourier head by its autocorrelation, as the paper writes it, by autodiff alone.

Clean inputs only: features [n, D], kernel [D, 2 (K + 1)] and bias [2 (K + 1)] in
float32 or float64, not all coefficients of a row 0.
"""

import jax
import jax.numpy as jnp


def fourier_logits(
    features: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    num_classes: int,
    eps: float = 1e-5,
) -> jax.Array:
    """Log of the share of 1/2 + Re sum c_l / c_0 e^(i pi l u) at each bin, plus eps."""
    c = _autocorrelation(features, kernel, bias)
    u = -1 + (2 * jnp.arange(num_classes, dtype=features.dtype) + 1) / num_classes
    lags = jnp.arange(1, c.shape[-1], dtype=features.dtype)
    angles = jnp.pi * lags[:, None] * u[None]
    waves = jax.lax.complex(jnp.cos(angles), jnp.sin(angles))
    density = 0.5 + jnp.real((c[:, 1:] / c[:, :1]) @ waves)
    shares = density / jnp.sum(density, axis=-1, keepdims=True)
    return jnp.log(shares + eps).astype(features.dtype)


def fourier_penalty(
    features: jax.Array, kernel: jax.Array, bias: jax.Array
) -> jax.Array:
    """2 sum 2 pi^2 l^2 |c_l|^2."""
    c = _autocorrelation(features, kernel, bias)
    lags = jnp.arange(c.shape[-1], dtype=features.dtype)[None]
    squares = jnp.real(c) ** 2 + jnp.imag(c) ** 2
    total = 4 * jnp.pi**2 * jnp.sum(lags**2 * squares, axis=-1)
    return total.astype(features.dtype)


def _autocorrelation(
    features: jax.Array, kernel: jax.Array, bias: jax.Array
) -> jax.Array:
    """c_l = sum a_(k + l) conj a_k."""
    real, imaginary = jnp.split(features @ kernel + bias[None], 2, axis=-1)
    a = jax.lax.complex(real, imaginary)
    size = a.shape[-1]
    lags = [jnp.sum(a[:, k:] * jnp.conj(a[:, : size - k]), -1) for k in range(size)]
    return jnp.stack(lags, axis=-1)
