"""What the tests of every loss share: their rows, the inputs drawn, the programs run.

Nearly every test runs the one program of `run`, on inputs of one shape: compiling is
what costs time here.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from scratch_losses import SCRATCH

from as_softmax_jax.losses import (
    LOSSES,
    ActiveClasses,
    ClassCounts,
    FromFeatures,
    Learned,
    OtherLogits,
    PerExample,
    PerRun,
    StepKey,
)

ROWS, CLASSES = 8, 12  # 12: more than the k of Sparse-Softmax
EVERYONE = jnp.ones(ROWS, bool)
ALL_CLASSES = jnp.ones((ROWS, CLASSES), bool)


def each_margin(rows):
    """The rows of losses; of one that takes either margin, a row for each."""
    return [one for row in rows for one in row.by_margin.values() or (row,)]


def id_of(row):
    """The name of a loss, with its margin where it takes more than one."""
    return f"{row.name}-{row.margin}" if row.margins else row.name


TABLE = each_margin(LOSSES.values())
EVERY_ROW = [*TABLE, *each_margin(SCRATCH)]


# Losses that stand for the others in quick tests: the package's own, what these are
# compared with, and one of each unusual trait. `-m "long or not long" -k NAME` runs all
# of one.
QUICK = {
    *("as_softmax", "multi_label_as_softmax", "softmax", "multi_label_softmax"),
    *("temperature_softmax", "label_smoothing", "focal", "sparse_softmax", "entmax"),
    *("sparsemax", "multi_label_sigmoid", "arcface", "balanced_softmax", "poly"),
    *("ordinal_cross_entropy", "multi_label_asymmetric", "masked_softmax", "ldr_kl"),
}
# Of these, what checks that compile much are quick for.
SAMPLE = (
    "as_softmax-logit_margin",
    "multi_label_as_softmax-logit_margin",
    "softmax",
    "entmax",
)


def rows_that(holds):
    """Runs a test on the rows of losses for which something holds."""
    rows = [row for row in EVERY_ROW if holds(row)]
    return _quick_for(rows, [row for row in rows if is_quick(row)])


def sampled(every):
    """Runs a test of `rows_that` on all of its rows, quickly on those of the sample."""
    rows = [of.values[0] for of in every.args[1]]
    few = [row for row in rows if id_of(row) in SAMPLE]
    return _quick_for(rows, few, [row for row in rows if not is_quick(row)])


def is_quick(row):
    """Whether quick tests run on a loss; they do on all that are the tests' own."""
    return row.name in QUICK or row.name not in LOSSES


def _quick_for(rows, few, nightly=()):
    def marks(row):
        if row in few:
            return []
        return [pytest.mark.long] + [pytest.mark.every] * (row in nightly)

    marked = [pytest.param(row, marks=marks(row), id=id_of(row)) for row in rows]
    return pytest.mark.parametrize("row", marked)


def multi_hot(row):
    return row.target == "multi_hot"


def takes_labels(row):
    return row.target == "labels"


def takes_logits(row):
    return row.input == "logits"


def labels_are_classes(row):
    """Whether each label is the number of a logit, and no count of thresholds."""
    return takes_labels(row) and row.input != "thresholds"


def num_labels(row, num_logits=CLASSES):
    """How many labels an example of so many logits may have; the first is 0."""
    return num_logits + (row.num_logits(2) == 1)


def refused_value(row, keyword):
    """A number out of a keyword's range."""
    return np.inf if row.loss_keywords[keyword] == -np.inf else -np.inf


def depends_on_shape(row):
    """Whether the loss draws by a key, and so draws anew for another shape."""
    return any(isinstance(extra, StepKey) for extra in row.extras.values())


# A loss that ties rows together is held to the claims of its row and no further.
every_loss = rows_that(lambda row: row.row_local)
label_losses = rows_that(lambda row: row.row_local and takes_labels(row))
multi_hot_losses = rows_that(lambda row: row.row_local and multi_hot(row))
shapeless_losses = rows_that(lambda row: row.row_local and not depends_on_shape(row))


def draw(row, *, seed=0, classes=CLASSES, scale=3.0, dtype="float32"):
    """Logits and targets of a loss; cosines and several labels where it takes them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(ROWS, classes)) * scale
    if not takes_logits(row):
        logits = np.tanh(logits)
    target = rng.integers(0, num_labels(row, classes), ROWS)
    if multi_hot(row):
        target = (rng.random(logits.shape) < 0.2) | np.eye(classes, dtype=bool)[target]
    return jnp.asarray(logits.astype(dtype)), jnp.asarray(target.astype(np.int32))


def positives(row, target):
    """Which logits the label pulls up, [..., C]."""
    if row.input == "thresholds":
        thresholds = jnp.arange(CLASSES, dtype=target.dtype)
        return thresholds[None] < target[..., None]
    return target == 1 if multi_hot(row) else jax.nn.one_hot(target, CLASSES) == 1


def first_class(row, classes=CLASSES):
    """Targets that pull up the first logit of each row and no other."""
    if row.input == "thresholds":
        return jnp.ones(ROWS, jnp.int32)
    if not multi_hot(row):
        return jnp.zeros(ROWS, jnp.int32)
    return jnp.broadcast_to(jnp.arange(classes) == 0, (ROWS, classes)).astype(jnp.int32)


def settling_target(row, target, rows):
    """The target with which some rows may settle: where a label forbids it, none."""
    if row.labels_settle:
        return target
    return jnp.where(rows[:, None], 0, target)


def largest_logit(row):
    """A logit near the end of float32, or, of a loss that squares it, of its root."""
    return 3e38 if row.linear_growth else 1e18


def cotangents(logits):
    """One weight a row, none of them 0 or 1, for [ROWS, C] logits."""
    dtype = jnp.float64 if logits.dtype == jnp.float64 else jnp.float32
    return jnp.linspace(0.5, 2, ROWS, dtype=dtype)


def picked(*indices):
    """A mask of some rows."""
    return jnp.asarray(np.isin(np.arange(ROWS), indices))


@functools.cache
def extras_of(row, classes=CLASSES):
    """Values of a row's extra inputs, keyword -> array, for [ROWS, classes] logits.

    They depend on no logits of the test, so that two calls differ by these alone.
    """
    if not row.extras:
        return {}
    arrays = draw(row, seed=77, classes=classes)
    initial = {
        keyword: jnp.full(ROWS, extra.first(row.keywords), jnp.float32)
        for keyword, extra in row.extras.items()
        if isinstance(extra, PerExample)
    }

    def value(extra):
        if isinstance(extra, ClassCounts):
            return (1 + 7 * jnp.arange(classes) % 11).astype(jnp.float32)
        if isinstance(extra, StepKey):
            return jax.random.key(0)
        if isinstance(extra, ActiveClasses):
            return jnp.arange(classes) % 3 != 1
        if isinstance(extra, OtherLogits):
            return draw(row, seed=78, classes=classes)[0]
        if isinstance(extra, PerRun):
            state, value_of = extra.initial(), value(row.extras[extra.of])
            return extra.compute(state, value_of, **row.keywords)
        if isinstance(extra, FromFeatures):
            # In one quadrant, so that the features of two examples lie close.
            return extra.compute(jnp.abs(arrays[0]), arrays[1], **row.keywords)
        if isinstance(extra, Learned):
            return jnp.float32(extra.first(classes, row.keywords))
        return extra.compute(*arrays, **row.keywords, **initial)

    return {keyword: value(extra) for keyword, extra in row.extras.items()}


def is_by_row(extra):
    """Whether an extra input has an entry an example."""
    if isinstance(extra, FromFeatures):
        return not extra.of_batch
    return isinstance(extra, PerExample | OtherLogits)


def rows_of(row, extras, pick):
    """The extra inputs of some rows; `pick` takes them out of an array of all."""
    return {
        keyword: pick(value) if is_by_row(row.extras[keyword]) else value
        for keyword, value in extras.items()
    }


def classes_of(row, extras, pick):
    """The extra inputs of some classes; `pick` takes them out of the last axis."""
    by_class = (ActiveClasses, ClassCounts, OtherLogits)
    return {
        keyword: pick(value) if isinstance(row.extras[keyword], by_class) else value
        for keyword, value in extras.items()
    }


def other_logits_of(row, extras, change):
    """The extra inputs, with the logits of a second output layer changed."""
    return {
        keyword: change(value)
        if isinstance(row.extras[keyword], OtherLogits)
        else value
        for keyword, value in extras.items()
    }


def extra_specs(row):
    """How the extra inputs lie on a mesh whose axis "data" splits the rows."""
    return {
        keyword: P("data") if is_by_row(extra) else P()
        for keyword, extra in row.extras.items()
    }


@functools.cache
def masked_program(row, how):
    """f(logits, target, cotangent, where, class_mask, extras) -> loss, gradient."""

    def f(logits, target, cotangent, where, class_mask, extras):
        def loss_of(o):
            masks = {"where": where, "class_mask": class_mask}
            return row.function(o, target, **row.loss_keywords, **masks, **extras)

        loss, vjp = jax.vjp(loss_of, logits)
        return loss, vjp(cotangent)[0]

    return f if how == "eager" else jax.jit(f)


def run(
    row,
    logits,
    target,
    where=EVERYONE,
    class_mask=ALL_CLASSES,
    how="jit",
    extras=None,
):
    """Loss, and gradient for `cotangents`, by the program that most tests share."""
    extras = extras_of(row, logits.shape[-1]) if extras is None else extras
    program = masked_program(row, how)
    return program(logits, target, cotangents(logits), where, class_mask, extras)


@functools.cache
def plain_program(row, static):
    """The jitted f(logits, target, cotangent, arrays) -> loss, gradient."""

    @jax.jit
    def f(logits, target, cotangent, arrays):
        keywords = dict(static) | arrays
        loss, vjp = jax.vjp(lambda o: row.function(o, target, **keywords), logits)
        return loss, vjp(cotangent)[0]

    return f


def holds_arrays(value):
    """Whether a keyword's value is an array, or a pytree of them."""
    return any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value))


def plain(row, logits, target, cotangent=None, **keywords):
    """Loss and gradient with other keywords than `run` has, on any shape."""
    if not row.extras.keys() <= keywords.keys():
        keywords = extras_of(row, logits.shape[-1]) | keywords
    keywords = dict(row.loss_keywords) | keywords
    arrays = {k: v for k, v in keywords.items() if holds_arrays(v)}
    static = tuple((k, v) for k, v in keywords.items() if k not in arrays)
    cotangent = cotangents(logits) if cotangent is None else cotangent
    return plain_program(row, static)(logits, target, cotangent, arrays)


@functools.cache
def settled_program(row):
    return jax.jit(functools.partial(row.settled, **row.loss_keywords))


def settled_rows(row, logits, target, where=EVERYONE, class_mask=ALL_CLASSES):
    """Which rows are settled; none where the loss has no exact zeros."""
    if row.settled is None:
        return jnp.zeros(logits.shape[:-1], bool)
    extras = extras_of(row, logits.shape[-1])
    masks = {"where": where, "class_mask": class_mask}
    return settled_program(row)(logits, target, **masks, **extras)


def as_dtype(dtype, array):
    """An array in a floating dtype; as it is where it holds no such numbers."""
    return array.astype(dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array


@functools.cache
def reference_program(row):
    @jax.jit
    def f(logits, target, cotangent, extras):
        keywords = {
            keyword: value
            if not isinstance(value, float)
            else jnp.full(logits.shape[:-1], value, logits.dtype)
            for keyword, value in row.loss_keywords.items()
        }
        keywords |= jax.tree.map(functools.partial(as_dtype, logits.dtype), extras)
        targets = (target == 1, target == 0) if multi_hot(row) else (target,)
        loss, vjp = jax.vjp(lambda o: row.reference(o, *targets, **keywords), logits)
        return loss, vjp(cotangent)[0]

    return f


def reference(row, logits, target):
    """Loss and gradient of the row's reference, for the keywords of the row."""
    extras = extras_of(row, logits.shape[-1])
    return reference_program(row)(logits, target, cotangents(logits), extras)


def assert_rows_equal(actual, expected, which):
    """Loss and gradient agree to the bit in the rows named."""
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a[which], e[which])


def assert_close(actual, expected, rtol=2e-6, atol=2e-6):
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_allclose(a, e, rtol=rtol, atol=atol)
