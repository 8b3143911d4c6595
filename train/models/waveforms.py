"""Waveforms as pretrained encoders have them."""

import jax
import jax.numpy as jnp


def real_samples(waveforms: jax.Array) -> jax.Array:
    """Returns how many samples each waveform has up to its last that is not 0, [n].

    Args:
      waveforms: [n, samples].
    """
    numbers = jnp.arange(1, waveforms.shape[1] + 1)
    return jnp.max(jnp.where(waveforms != 0, numbers[None], 0), axis=1)


def normalise_waveforms(waveforms: jax.Array) -> jax.Array:
    """Returns each waveform with mean 0 and deviation 1; its padding stays 0.

    Args:
      waveforms: float32 [n, samples].
    """
    count = real_samples(waveforms)[:, None]
    real = jnp.arange(waveforms.shape[1])[None] < count
    divisor = jnp.maximum(count, 1).astype(jnp.float32)
    mean = jnp.sum(waveforms, axis=1, keepdims=True) / divisor
    centred = jnp.where(real, waveforms - mean, 0)
    variance = jnp.sum(jnp.square(centred), axis=1, keepdims=True) / divisor
    return centred * jax.lax.rsqrt(variance + 1e-7)
