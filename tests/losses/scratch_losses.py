"""Losses for the tests: one for each kind of extra input, two that break claims.

They are in the table only while this file is imported; the batteries take their rows
from `SCRATCH`. Their references are in `scratch_reference`.
"""

import contextlib
import math
import sys

import jax
import jax.numpy as jnp
import scratch_reference

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.log_odds import label_log_odds, shifted, softplus
from as_softmax_jax.losses import (
    ClassCounts,
    OtherLogits,
    PerBatch,
    PerExample,
    StepKey,
    register_loss,
    softmax_loss,
    temperature_softmax_loss,
)
from as_softmax_jax.losses._table import _ROWS

sys.modules["as_softmax_jax.reference.scratch_losses"] = scratch_reference


@contextlib.contextmanager
def scratch_table():
    """Yields a list; rows that the context registers end there and not in the table."""
    before, rows = {*_ROWS}, []
    try:
        yield rows
    finally:
        rows += [_ROWS.pop(name) for name in [*_ROWS] if name not in before]


def cross_entropy(logits, labels):
    return softplus(-label_log_odds(shifted(logits), labels))


def updated_temperature(
    logits, *, temperature, base=1.0, where=None, class_mask=None, axis=-1
):
    probs = jax.nn.softmax(logits.astype(jnp.float32), axis=axis, where=class_mask)
    return base + 0.5 * temperature * jnp.max(probs, axis=axis)


def batch_threshold(logits, labels, *, share=0.5, where=None, class_mask=None, axis=-1):
    loss = softmax_loss(logits, labels, where=where, class_mask=class_mask, axis=axis)
    return share * jnp.mean(jnp.exp(-loss), where=where)


with scratch_table() as SCRATCH:

    @register_loss(
        paper="scratch", at_zero_logits=None, extras={"class_counts": ClassCounts()}
    )
    def class_prior_loss(
        logits,
        labels,
        *,
        class_counts,
        tau=1.0,
        where=None,
        class_mask=None,
        axis=-1,
    ):
        x = inputs.read(logits, labels, where, class_mask, axis)
        tau = checks.at_least(tau, 0, inputs.loss_type(x), "tau")
        x, tau = inputs.own(x, tau)
        counts = class_counts.astype(x.logits.dtype)
        prior = jnp.log(counts / counts.sum())
        prior = prior.reshape((1,) * (x.logits.ndim - 1) + (-1,))
        loss = cross_entropy(shifted(x.logits) + tau[..., None] * prior, x.labels)
        return inputs.finish(loss, x)

    @register_loss(
        paper="scratch",
        at_zero_logits=None,
        extras={"key": StepKey()},
        symmetric=False,
    )
    def noisy_softmax_loss(
        logits, labels, *, key, noise=0.5, where=None, class_mask=None, axis=-1
    ):
        x = inputs.read(logits, labels, where, class_mask, axis)
        noise = checks.at_least(noise, 0, inputs.loss_type(x), "noise")
        x, noise = inputs.own(x, noise)
        drawn = scratch_reference.signs(key, x.logits.shape, x.logits.dtype)
        loss = cross_entropy(shifted(x.logits) + noise[..., None] * drawn, x.labels)
        return inputs.finish(loss, x)

    @register_loss(
        paper="scratch",
        at_zero_logits=None,
        extras={"temperature": PerExample(1.0, updated_temperature)},
    )
    def own_temperature_loss(
        logits, labels, *, temperature, where=None, class_mask=None, axis=-1
    ):
        return temperature_softmax_loss(
            logits,
            labels,
            temperature=temperature,
            where=where,
            class_mask=class_mask,
            axis=axis,
        )

    @register_loss(
        paper="scratch",
        at_zero_logits=None,
        extras={"threshold": PerBatch(batch_threshold)},
    )
    def batch_weighted_loss(
        logits, labels, *, threshold, where=None, class_mask=None, axis=-1
    ):
        masks = {"where": where, "class_mask": class_mask, "axis": axis}
        loss = softmax_loss(logits, labels, **masks)
        return (1 + threshold.astype(loss.dtype)) * loss

    @register_loss(
        paper="scratch", at_zero_logits=None, extras={"other_logits": OtherLogits()}
    )
    def two_head_loss(
        logits,
        labels,
        *,
        other_logits,
        weight=0.5,
        where=None,
        class_mask=None,
        axis=-1,
    ):
        x = inputs.read(logits, labels, where, class_mask, axis)
        other_logits = other_logits.astype(x.logits.dtype)
        other = inputs.read(other_logits, labels, where, class_mask, axis)
        weight = checks.at_least(weight, 0, inputs.loss_type(x), "weight")
        x, weight = inputs.own(x, weight)
        loss = cross_entropy(x.logits, x.labels)
        loss += weight * cross_entropy(other.logits, other.labels)
        return inputs.finish(loss, x, other.bad)

    @register_loss(
        paper="scratch",
        at_zero_logits=lambda c: (c - 1) / 4 - 4,
        zero_with_one_class=False,
        infinite_at_probability_0=False,
        not_negative=False,
        shift_invariant=False,
        symmetric=False,
        ranks_equal_logits=False,
    )
    def leaning_loss(logits, labels, *, where=None, class_mask=None, axis=-1):
        x = inputs.read(logits, labels, where, class_mask, axis)
        shares = jax.nn.sigmoid(x.logits)
        num_classes = shares.shape[-1]
        weights = jnp.arange(num_classes).astype(shares.dtype) / num_classes
        weights = weights.reshape((1,) * (shares.ndim - 1) + (-1,))
        loss = jnp.sum(shares * weights, axis=-1)
        loss -= 8 * inputs.take_label(shares, x.labels)
        return inputs.finish(loss, x, at_empty=0.0)

    @register_loss(
        paper="scratch",
        at_zero_logits=lambda c: 1.1 * math.log(c),
        row_local=False,
    )
    def company_loss(logits, labels, *, where=None, class_mask=None, axis=-1):
        masks = {"where": where, "class_mask": class_mask, "axis": axis}
        loss = softmax_loss(logits, labels, **masks)
        return loss + 0.1 * jnp.mean(loss, where=where)
