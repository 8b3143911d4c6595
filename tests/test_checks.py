"""Every refusal: what it says, and that it comes at trace time as well."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from as_softmax_jax import (
    as_softmax_loss,
    check_labels,
    count_active,
    multi_label_as_softmax_loss,
)
from as_softmax_jax.losses import (
    entmax_loss,
    sparse_softmax_loss,
    temperature_softmax_loss,
)

LOGITS = np.zeros((2, 3), np.float32)
LABELS = np.zeros(2, np.int32)

# What is wrong -> the call's changes, the error, and how its message begins.
REFUSALS = {
    "logits that are integers": (
        {"logits": np.zeros((2, 3), np.int32)},
        TypeError,
        r"`logits` must be floating point; got dtype int32. Cast it",
    ),
    "logits that are complex": (
        {"logits": np.zeros((2, 3), np.complex64)},
        TypeError,
        r"`logits` must be floating point; got dtype complex64",
    ),
    "no logits": ({"logits": None}, TypeError, r"`logits` must be an array; got None"),
    "text": ({"logits": "ab"}, TypeError, r"`logits` must be an array; got 'ab'"),
    "ragged logits": (
        {"logits": [[1.0], [1.0, 2.0]]},
        TypeError,
        r"`logits` must be an array; got list",
    ),
    "scalar logits": (
        {"logits": np.float32(1)},
        ValueError,
        r"`logits` must have a class axis; got a scalar",
    ),
    "no class": (
        {"logits": np.zeros((2, 0), np.float32)},
        ValueError,
        r"`logits` must have at least one class",
    ),
    "labels that are floats": (
        {"labels": np.zeros(2, np.float32)},
        TypeError,
        r"`labels` must be integers; got dtype float32. For class indices use",
    ),
    "labels that are booleans": (
        {"labels": np.zeros(2, bool)},
        TypeError,
        r"`labels` must be integers; got dtype bool",
    ),
    "labels that are one-hot": (
        {"labels": np.zeros((2, 3), np.int32)},
        ValueError,
        r"`labels` must have the shape of `logits` without the class axis, \(2,\); "
        r"got \(2, 3\)",
    ),
    "one label for two rows": (
        {"labels": np.int32(0)},
        ValueError,
        r"`labels` must have the shape .* got \(\)",
    ),
    "where that is numbers": (
        {"where": np.ones(2, np.float32)},
        TypeError,
        r"`where` must be boolean; got dtype float32. Use `where.astype\(bool\)`",
    ),
    "where of another shape": (
        {"where": np.ones(3, bool)},
        ValueError,
        r"`where` must broadcast to the shape of the loss, \(2,\); got \(3,\)",
    ),
    "where with one axis more": (
        {"where": np.ones((2, 1), bool)},
        ValueError,
        r"`where` must broadcast to the shape of the loss",
    ),
    "class_mask that is numbers": (
        {"class_mask": np.ones(3, np.int32)},
        TypeError,
        r"`class_mask` must be boolean; got dtype int32",
    ),
    "class_mask of another shape": (
        {"class_mask": np.ones(2, bool)},
        ValueError,
        r"`class_mask` must broadcast to the shape of the logits, \(2, 3\)",
    ),
    "axis that is no axis": (
        {"axis": 2},
        ValueError,
        r"`axis` must be in \[-2, 2\) for logits of rank 2; got 2",
    ),
    "axis that is no integer": (
        {"axis": 1.0},
        TypeError,
        r"`axis` must be an integer or a tuple of integers; got 1.0",
    ),
    "axis that names a class axis twice": (
        {"axis": (1, -1)},
        ValueError,
        r"`axis` must name each class axis once; got \(1, -1\)",
    ),
    "axis that names none": (
        {"axis": ()},
        ValueError,
        r"`axis` must name each class axis once; got \(\)",
    ),
    "axes, one of which is no axis": (
        {"axis": (0, 2)},
        ValueError,
        r"`axis` must be in \[-2, 2\) for logits of rank 2; got \(0, 2\)",
    ),
    "delta above 1": (
        {"delta": 1.5},
        ValueError,
        r"`delta` must be in \[0, 1\]; got 1.5",
    ),
    "delta below 0": (
        {"delta": -0.1},
        ValueError,
        r"`delta` must be in \[0, 1\]; got -0.1",
    ),
    "a delta out of range among others": (
        {"delta": np.array([0.1, 2.0])},
        ValueError,
        r"`delta` must be in \[0, 1\]; got an array with values from 0.1 to 2.0",
    ),
    "delta that is text": ({"delta": "0.1"}, TypeError, r"`delta` must be an array"),
    "delta that is a boolean": (
        {"delta": True},
        TypeError,
        r"`delta` must be a real number; got dtype bool",
    ),
    "delta of another shape": (
        {"delta": np.full(3, 0.1)},
        ValueError,
        r"`delta` must broadcast to the shape of the loss, \(2,\); got \(3,\)",
    ),
    "an implementation that is not": (
        {"implementation": "triton"},
        ValueError,
        r"`implementation` must be one of 'xla', 'mosaic_gpu', .*; got 'triton'",
    ),
}


@pytest.mark.parametrize("how", ["eager", "traced"])
@pytest.mark.parametrize("what", REFUSALS)
def test_refuses(what, how):
    changes, error, message = REFUSALS[what]
    arguments = {"logits": LOGITS, "labels": LABELS, "delta": 0.1} | changes
    logits, labels = arguments.pop("logits"), arguments.pop("labels")

    def call():
        return as_softmax_loss(logits, labels, **arguments)

    with pytest.raises(error, match=message):
        call() if how == "eager" else jax.jit(call)()


def test_refuses_multi_hot_targets_of_another_kind():
    with pytest.raises(TypeError, match="`targets` must be an array; got None"):
        multi_label_as_softmax_loss(LOGITS, None, delta=0.1)


@pytest.mark.parametrize(
    ("loss", "keyword", "message"),
    [
        (temperature_softmax_loss, {"temperature": 0.0}, "`temperature` must be posi"),
        (entmax_loss, {"alpha": 1.0}, "`alpha` must be"),
        (sparse_softmax_loss, {"k": 0}, "`k` must be at least 1; got 0"),
    ],
)
def test_refuses_a_parameter_out_of_range(loss, keyword, message):
    with pytest.raises(ValueError, match=message):
        loss(LOGITS, LABELS, **keyword)


def test_refuses_a_traced_count():
    with pytest.raises(TypeError, match="`k` must be a Python integer"):
        jax.jit(lambda k: sparse_softmax_loss(LOGITS, LABELS, k=k))(2)


def test_count_active_refuses_what_is_no_mask():
    with pytest.raises(TypeError, match="`settled` must be boolean; got dtype float32"):
        count_active(jnp.ones(3))
    with pytest.raises(TypeError, match="`settled` must be an array; got None"):
        count_active(None)
    with pytest.raises(ValueError, match="`where` must broadcast"):
        count_active(jnp.ones(3, bool), jnp.ones(2, bool))


def test_check_labels_accepts_what_is_right():
    check_labels(np.array([[0, 2], [1, 1]]), 3)
    check_labels(np.array([5, 0]), 3, where=np.array([False, True]))
    check_labels(np.array([], np.int64), 3)
    check_labels(np.array([255], np.uint8), 256)


@pytest.mark.parametrize(
    ("labels", "num_classes", "error", "message"),
    [
        ([0, 3, 4], 3, ValueError, r"in \[0, 3\); got 2 outside it: 3 at index \(1,\)"),
        ([[-1]], 3, ValueError, r"got 1 outside it: -1 at index \(0, 0\)"),
        ([0.0], 3, TypeError, r"`labels` must be integers; got dtype float64"),
        ([0], 0, ValueError, r"`num_classes` must be at least 1; got 0"),
        ([0], 3.0, TypeError, r"`num_classes` must be an integer; got float"),
    ],
)
def test_check_labels_refuses(labels, num_classes, error, message):
    with pytest.raises(error, match=message):
        check_labels(np.array(labels), num_classes)


def test_check_labels_refuses_traced_labels():
    with pytest.raises(TypeError, match="Call it outside jit"):
        jax.jit(lambda labels: check_labels(labels, 3))(LABELS)
