"""The dtypes that sums are formed in."""

from typing import Any

import jax.numpy as jnp


def compute_dtype(dtype: Any) -> Any:
    """Returns float32 for a narrower floating type, and any other dtype as it is."""
    narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return jnp.dtype(jnp.float32) if narrow else jnp.dtype(dtype)
