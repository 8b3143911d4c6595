"""The one door: exactly these names, each documented."""

import inspect
import subprocess
import sys

import pytest

import as_softmax_jax

PUBLIC = {
    "active_count_window",
    "adaptive_multi_steps",
    "am_softmax_loss",
    "as_softmax_kept",
    "as_softmax_loss",
    "as_softmax_probs",
    "as_softmax_settled",
    "check_labels",
    "compact_value_and_grad",
    "count_active",
    "delta_schedule",
    "entmax_loss",
    "focal_loss",
    "has_updated",
    "label_smoothing_loss",
    "linear_as_softmax_loss",
    "multi_label_as_softmax_loss",
    "multi_label_as_softmax_settled",
    "multi_label_sigmoid_loss",
    "multi_label_softmax_loss",
    "multi_label_sparse_softmax_loss",
    "settled_ratio_window",
    "soft_margin_softmax_loss",
    "softmax_loss",
    "sparse_softmax_loss",
    "sparsemax_loss",
    "temperature_softmax_loss",
}


def test_the_names_are_these():
    assert set(as_softmax_jax.__all__) == PUBLIC
    assert list(as_softmax_jax.__all__) == sorted(as_softmax_jax.__all__)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_each_is_documented_in_full(name):
    docstring = inspect.getdoc(getattr(as_softmax_jax, name))
    for part in ("Args:", "Examples:", ">>> "):
        assert part in docstring, f"{name} has no {part!r} in its docstring"
    assert "Returns:" in docstring or name == "check_labels"


@pytest.mark.parametrize("name", sorted(n for n in PUBLIC if n.endswith("_loss")))
def test_losses_share_one_grammar(name):
    parameters = list(
        inspect.signature(getattr(as_softmax_jax, name)).parameters.values()
    )
    arrays, keywords = parameters[:2], parameters[2:]
    shared = {"where", "class_mask"}
    if name.startswith("linear_"):
        # What makes the logits stands in their place; their classes come last.
        assert [p.name for p in parameters[:3]] == ["features", "kernel", "labels"]
        keywords = parameters[3:]
    else:
        assert arrays[0].name == "logits"
        assert arrays[1].name == ("targets" if "multi_label" in name else "labels")
        shared |= {"axis"}
    assert all(p.kind is p.KEYWORD_ONLY for p in keywords)
    assert shared <= {p.name for p in keywords}


def test_importing_the_library_loads_no_kernel():
    program = (
        "import sys, jax, optax; before = {*sys.modules}; import as_softmax_jax; "
        "print(*(m for m in {*sys.modules} - before if 'pallas' in m or 'mosaic' in m))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""


def test_the_library_imports_neither_flax_nor_the_trainer():
    program = (
        "import sys, as_softmax_jax; "
        "print(*(m for m in ('flax', 'train', 'grain', 'sklearn') if m in sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""
