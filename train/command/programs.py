"""How many compiled programs a process may hold."""

from pathlib import Path

import jax

_MAPPINGS = Path("/proc/self/maps")
_LIMIT = Path("/proc/sys/vm/max_map_count")


def forget_many_programs() -> bool:
    """Forgets what is compiled where it fills half of what Linux allows a process.

    A compiled program takes tens to thousands of memory mappings, a process may have
    65,530 by default, and LLVM ends the one that asks for more. Programs in use are
    compiled again, or read from the compilation cache.

    Returns:
      Whether there were so many.
    """
    try:
        limit = int(_LIMIT.read_text())
        mappings = _MAPPINGS.read_bytes().count(b"\n")
    except OSError:  # No Linux: there is no such limit.
        return False
    many = mappings > limit // 2
    if many:
        jax.clear_caches()
    return many
