"""Penalties on the features of a batch, which stand beside a loss.

Every penalty is ``f(features, labels, *, where=None, axis_name=None, ...)``, a scalar:
it ties the examples of a batch together, and is computed on the whole of it.
``(1 - r) * loss.mean(where=where) + r * penalty`` weighs it against the loss.

Args:
  features: floating point [..., D].
  labels: integers [...] in [0, num_classes). One outside it makes the penalty NaN.
  where: boolean, broadcasts to `labels`: the examples that count, whatever the others
    hold. None: all.
  axis_name: inside `jax.shard_map`, the mesh axis that the examples are split over;
    None: the examples at hand are all there are. Under `jax.jit` alone they are,
    wherever they lie.
"""

from as_softmax_jax.regularizers._class_means import class_means, nbc_penalty

__all__ = ("class_means", "nbc_penalty")
