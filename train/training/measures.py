"""What a batch comes to under the loss: losses, what is settled, what is right.

Some losses take more than logits and labels. The table of losses names what they need
(`as_softmax_jax.losses.Extra`), and here it is handed over: class counts, the classes
met so far, the state of the run and of each example are held from step to step, values
of the batch are computed from it, keys come from the mini-step.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from as_softmax_jax.losses import (
    ActiveClasses,
    ClassCounts,
    FromFeatures,
    Learned,
    Loss,
    OtherLogits,
    PerBatch,
    PerExample,
    PerRun,
    StepKey,
)

from ..recipe.network import Output
from ..recipe.scorer import Scorer
from ..targets import Target, most_lead
from .sums import Sums

Batch = dict[str, jax.Array]
Held = Mapping[str, Any]
"""Extra inputs by keyword, of the run or of its examples ([rows, ...])."""


class Measures(NamedTuple):
    """What a batch comes to, of the loss's shape: [n], or one entry a token."""

    losses: jax.Array  # 0 in padding
    settled: jax.Array  # bool
    correct: jax.Array  # bool
    examples: dict[str, jax.Array]  # the state of the batch's examples from now on
    run: dict[str, Any]  # what the run holds from now on, this batch counted in
    lead: Any = None  # of the label, in the margin's unit; None: not asked for

    def sums(self, where: jax.Array) -> Sums:
        """Returns the sums over what is valid."""
        return Sums.of(
            self.losses, settled=self.settled, correct=self.correct, where=where
        )


def hold_inputs(
    row: Loss,
    target: Target,
    labels: np.ndarray,
    num_classes: int,
    keywords: Mapping[str, Any],
) -> dict[str, Any] | None:
    """Returns what a loss holds from step to step, as it is before the first.

    Args:
      row: of the loss.
      target: the kind of answer.
      labels: of the training split, as `target.encode` returns them.
      num_classes: of the task.
      keywords: of the loss.

    Returns:
      The inputs by keyword; None where the loss holds none.
    """
    held: dict[str, Any] = {}
    shape = labels.shape if row.target == "labels" else labels.shape[:1]
    for keyword, extra in row.extras.items():
        match extra:
            case ClassCounts():
                held[keyword] = target.class_counts(labels, num_classes)
            case ActiveClasses():
                held[keyword] = np.zeros(num_classes, bool)
            case PerRun():
                held[keyword] = jax.tree.map(np.asarray, extra.initial())
            case PerExample():
                held[keyword] = np.full(shape, extra.first(keywords), np.float32)
    return held or None


def keep_run(held: Held | None, run: Held, finite: jax.Array) -> Held | None:
    """Returns what is held, with what is new of the run as a whole.

    Args:
      held: before the batch.
      run: by keyword.
      finite: whether the step counts; one that does not leaves everything as it was.
    """
    if held is None:
        return None
    before = {keyword: held[keyword] for keyword in run}
    new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), dict(run), before)
    return {**held, **new}


def keep_examples(
    held: Held | None, examples: Held, batch: Batch, finite: jax.Array
) -> Held | None:
    """Returns what is held, with what is new of a batch's examples written into it.

    Args:
      held: before the batch.
      examples: by keyword, one row an example of the batch.
      batch: with its `rows` in the training split.
      finite: whether the step counts; one that does not leaves everything as it was.
    """
    if held is None:
        return None
    changed = dict(held)
    for keyword, new in examples.items():
        old = held[keyword]
        # A row past the end is dropped: padding repeats a real one.
        rows = jnp.where(batch["where"] & finite, batch["rows"], len(old))
        place = (rows, *map(slice, new.shape[1:]))
        changed[keyword] = old.at[place].set(new.astype(old.dtype), mode="drop")
    return changed


def measure(
    scorer: Scorer,
    logits: jax.Array,
    batch: Batch,
    keywords: Mapping[str, Any],
    *,
    output: Output | None = None,
    held: Held | None = None,
    key: jax.Array | None = None,
    training: bool = False,
    lead: bool = False,
) -> Measures:
    """Returns the losses of a batch, what is settled in it and what is right.

    Args:
      scorer: of the run.
      logits: of the batch.
      batch: `labels` with one row an example, `where` bool [n], `rows` int32 [n].
      keywords: of the loss, as they are now.
      output: that the logits are of, for a loss that takes more of it.
      held: extra inputs that are held from step to step.
      key: of this step; None: always the same one.
      training: whether `held` has the state of these examples; else they begin anew.
      lead: whether to tell how far each label leads, too.
    """
    target, objective = scorer.target, scorer.objective
    where, labels = target.where(batch), batch["labels"]
    inputs: dict[str, Any] = dict(held or {})
    before = held if training else None
    old = _examples(objective.row, labels, batch, before, keywords)
    run: dict[str, Any] = {}
    for keyword, extra in objective.row.extras.items():
        match extra:
            case ActiveClasses():
                inputs[keyword] = run[keyword] = _active(
                    inputs[keyword], labels, where, training=training
                )
            case PerRun() if training:
                value = inputs[extra.of]
                inputs[keyword] = run[keyword] = extra.compute(
                    inputs[keyword], value, where=where, **keywords
                )
            case FromFeatures():
                assert output is not None, "the step hands it over"
                inputs[keyword] = extra.compute(
                    output.features, labels, where=where, **keywords
                )
            case Learned():
                assert output is not None, "the step hands it over"
                inputs[keyword] = output.learned[keyword]
            case StepKey():
                inputs[keyword] = jax.random.key(0) if key is None else key
            case OtherLogits():
                assert output is not None, "the step hands it over"
                inputs[keyword] = output.other_logits()
            case PerBatch():
                inputs[keyword] = extra.compute(logits, labels, where=where, **keywords)
            case PerExample():
                given = {**keywords, keyword: old[keyword]}
                inputs[keyword] = extra.compute(logits, labels, where=where, **given)
    arguments = {"where": where, **keywords, **inputs}
    return Measures(
        objective.losses(logits, labels, **arguments),
        objective.settled(logits, labels, **arguments),
        target.correct(scorer.network.class_scores(logits), labels),
        {keyword: inputs[keyword] for keyword in old},
        run,
        leads(scorer, logits, labels) if lead else None,
    )


def leads(scorer: Scorer, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns how far each label leads, in the margin's unit, of the loss's shape."""
    objective = scorer.objective
    scores = scorer.network.class_scores(logits)
    scaled = scores.astype(jnp.float32) * objective.scale
    return scorer.target.lead(scaled, labels, unit=objective.unit)


def least_leads(scorer: Scorer, lead: jax.Array, where: jax.Array) -> jax.Array:
    """Returns the least lead of each example, [n], of what is valid in it."""
    lead = jnp.where(where, lead, most_lead(scorer.objective.unit))
    return jnp.min(lead.reshape(len(lead), -1), axis=1)


def mean_losses(losses: jax.Array, where: jax.Array) -> jax.Array:
    """Returns the mean loss of each example, [n], over what is valid in it."""
    losses, where = (x.reshape(len(x), -1) for x in (losses, where))
    return jnp.sum(losses, axis=1) / jnp.maximum(jnp.sum(where, axis=1), 1)


def measure_blocked(
    scorer: Scorer, output: Output, batch: Batch, keywords: Mapping[str, Any]
) -> Measures:
    """Returns the same where the output layer makes its logits block by block."""
    found = output.head.row_statistics(
        scorer.mesh,
        output.features,
        batch["labels"],
        where=scorer.target.where(batch),
        **scorer.objective.linear_keywords(keywords),
    )
    return Measures(found.loss, found.settled, found.correct, {}, {})


def _active(
    met: jax.Array, labels: jax.Array, where: jax.Array, *, training: bool
) -> jax.Array:
    """Returns the classes met so far, bool [classes]; in training this batch's too."""
    if not training:
        return met
    if labels.ndim > where.ndim:
        rows = labels & where[..., None]
        return met | jnp.any(rows.reshape(-1, len(met)), axis=0)
    # What does not count is past the end, and dropped.
    classes = jnp.where(where, labels, len(met)).ravel()
    return met.at[classes].set(True, mode="drop")


def _examples(
    row: Loss,
    labels: jax.Array,
    batch: Batch,
    held: Held | None,
    keywords: Mapping[str, Any],
) -> dict[str, jax.Array]:
    """Returns the state of a batch's examples as it was; None held: as it begins."""
    shape = labels.shape if row.target == "labels" else labels.shape[:1]
    # Sequences are cut to their batch's length, and so is their state.
    cut = tuple(map(slice, shape[1:]))
    return {
        keyword: jnp.full(shape, extra.first(keywords), jnp.float32)
        if held is None
        else held[keyword][batch["rows"], *cut]
        for keyword, extra in row.extras.items()
        if isinstance(extra, PerExample)
    }
