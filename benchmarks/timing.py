"""Times of functions that are called in turn."""

import statistics
import time

import jax
import jax.numpy as jnp


class IntoUsedMemory:
    """A compiled function whose result is written over that of the call before.

    With new memory in each call it decides more than the work whose pages are fresh
    and whose are used: fresh ones cost more than a copy.

    Args:
      function: gives arrays.
      arguments: of the shapes to compile for.

    Attributes:
      temporary: bytes that a call takes beside arguments and result.
    """

    def __init__(self, function, *arguments):
        def overwriting(last, *arguments):
            del last  # its memory is given away
            return function(*arguments)

        shapes = jax.eval_shape(function, *arguments)
        self._last = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        jitted = jax.jit(overwriting, donate_argnums=0, keep_unused=True)
        self._run = jitted.lower(self._last, *arguments).compile()
        self.temporary = self._run.memory_analysis().temp_size_in_bytes

    def __call__(self, *arguments):
        """Returns the result, which is gone with the next call."""
        self._last = self._run(self._last, *arguments)
        return self._last


def alternate(functions, arguments, seconds, least=5):
    """Calls the functions in turn for about `seconds`; returns median seconds."""
    times = {name: [] for name in functions}
    for function in functions.values():
        jax.block_until_ready(function(*arguments))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[next(iter(times))]) < least:
        for name, function in functions.items():
            start = time.perf_counter()
            result = jax.block_until_ready(function(*arguments))
            times[name].append(time.perf_counter() - start)
            del result
    return {name: statistics.median(values) for name, values in times.items()}
