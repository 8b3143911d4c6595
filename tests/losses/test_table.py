"""The registry of losses and the extra inputs of its rows."""

import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scratch_losses import SCRATCH, scratch_table

from as_softmax_jax.losses import LOSSES, PerBatch, PerExample, StepKey, register_loss

ROWS = {row.name: row for row in SCRATCH}
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "adding_a_loss.md"


def odd_loss(
    logits, labels, *, power, extra=None, where=None, class_mask=None, axis=-1
):
    """A loss with a keyword that has no default."""


def odd_settled(logits, labels, *, power, where=None, class_mask=None, axis=-1):
    """Its companion."""


def test_what_the_function_tells_is_read_from_it():
    with scratch_table():
        same = register_loss(
            paper="none", at_zero_logits=None, example_keywords={"power": 2.0}
        )(odd_loss)
        row = LOSSES["odd"]
    assert same is odd_loss
    assert "odd" not in LOSSES
    assert (row.name, row.target, row.baseline) == ("odd", "labels", "softmax")
    assert dict(row.keywords) == {"power": 2.0, "extra": None}
    assert (row.settled, row.probs) == (odd_settled, None)
    assert row.exact_zeros


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "needs a value for `power` in `example_keywords`"),
        ({"example_keywords": {"power": 1.0, "pow": 1.0}}, "names `pow`"),
        ({"example_keywords": {"power": 1.0}, "margins": ("delta",)}, "names `delta`"),
        ({"extras": {"key": StepKey()}}, "has an extra input `key` too many"),
    ],
)
def test_a_row_that_does_not_fit_its_function_is_refused(fields, message):
    with scratch_table(), pytest.raises(ValueError, match=message):
        register_loss(paper="none", at_zero_logits=None, **fields)(odd_loss)


def test_a_row_is_of_one_margin_and_leads_to_that_of_the_other():
    row = LOSSES["as_softmax"]
    assert (row.margins, row.margin) == (("logit_margin", "delta"), "logit_margin")
    assert dict(row.loss_keywords) == {"logit_margin": 2.0}
    assert row.margin_in_logits
    of_delta = row.by_margin["delta"]
    assert (of_delta.name, of_delta.margin) == ("as_softmax", "delta")
    assert dict(of_delta.loss_keywords) == {"delta": 0.1}
    assert not of_delta.margin_in_logits
    assert not LOSSES["softmax"].by_margin
    assert LOSSES["softmax"].margin is None


def test_a_name_is_given_once_and_ends_in_loss():
    def softmax_loss(logits, labels):
        pass

    def softmax(logits, labels):
        pass

    register = register_loss(paper="none", at_zero_logits=None)
    with pytest.raises(ValueError, match="a loss named 'softmax' already"):
        register(softmax_loss)
    with pytest.raises(ValueError, match="whose name ends in `_loss`"):
        register(softmax)


def test_the_table_is_read_only():
    with pytest.raises(TypeError):
        LOSSES["mine"] = LOSSES["softmax"]


def test_a_loss_for_several_labels_is_the_sibling_of_one_for_one():
    assert LOSSES["as_softmax"].multi_label == "multi_label_as_softmax"
    assert LOSSES["focal"].multi_label is None


def test_keywords_of_an_extra_inputs_function_are_the_rows_too():
    row = ROWS["own_temperature"]
    assert (dict(row.keywords), dict(row.loss_keywords)) == ({"base": 1.0}, {})
    row = ROWS["batch_weighted"]
    assert (dict(row.keywords), dict(row.loss_keywords)) == ({"share": 0.5}, {})
    assert dict(ROWS["two_head"].keywords) == {"weight": 0.5}


def test_a_state_is_updated_by_the_keywords_that_its_function_takes():
    extra = ROWS["own_temperature"].extras["temperature"]
    logits, old = jnp.zeros((2, 4)), jnp.array([1.0, 2.0])
    given = {"base": 3.0, "weight": 9.0, "where": jnp.ones(2, bool)}
    new = extra.compute(logits, None, temperature=old, **given)
    np.testing.assert_allclose(new, [3 + 0.5 / 4, 3 + 1.0 / 4])
    assert extra.initial == 1.0


@pytest.mark.parametrize("takes_labels", [True, False])
@pytest.mark.parametrize("kind", [PerBatch, lambda f: PerExample(0.0, f)])
def test_labels_go_to_a_function_that_takes_them_and_no_gradient_comes_back(
    kind, takes_labels
):
    if takes_labels:

        def function(logits, labels, *, where=None):
            return logits.mean() * labels.sum()
    else:

        def function(logits, *, where=None):
            return logits.mean()

    def compute(logits):
        return kind(function).compute(logits, jnp.ones(2), where=None, axis=-1)

    logits = jnp.full((2, 3), 2.0)
    assert compute(logits) == (4.0 if takes_labels else 2.0)
    np.testing.assert_array_equal(jax.grad(compute)(logits), 0)


def test_the_worked_example_of_the_page_is_the_librarys_own():
    function, reference, golden, formula = (
        block.split("```")[0].rstrip()
        for block in PAGE.read_text().split("```python\n")[1:5]
    )
    library, tests = ROOT / "as_softmax_jax", Path(__file__).parent
    assert function in (library / "losses" / "_margin.py").read_text()
    assert reference in (library / "reference" / "_margin.py").read_text()
    held = (tests / "golden" / "margin.py").read_text()
    assert textwrap.indent(golden, 4 * " ") in held
    assert formula in (tests / "make_golden.py").read_text()
