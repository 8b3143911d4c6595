"""Scores of an example by its logits alone: how much it looks like training.

Every score is ``f(logits, *, where=None, class_mask=None, axis=-1)``, one value an
example, high for what looks like training. `logits`, `where`, `class_mask` and `axis`,
and what happens to unusual input, are those of `as_softmax_jax.losses`.
"""

from as_softmax_jax.scores._max_mean_entropy import max_mean_entropy_score

__all__ = ("max_mean_entropy_score",)
