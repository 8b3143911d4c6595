"""The losses give their golden values, and every loss has one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from battery import TABLE
from golden import GOLDEN
from make_golden import CASES, value_and_gradient

from as_softmax_jax.losses import LOSSES, StepKey


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case.name)
def test_golden_values(case):
    with jax.enable_x64(True):
        logits, target = jnp.array(case.logits), jnp.array(case.target)

        row = LOSSES[case.name]
        keys = {k for k, extra in row.extras.items() if isinstance(extra, StepKey)}
        keywords = {
            keyword: jax.random.key(value) if keyword in keys else value
            for keyword, value in case.keywords.items()
        }

        def f(logits):
            return row.function(logits, target, **keywords)

        loss, gradient = jax.value_and_grad(f)(logits)
    np.testing.assert_allclose(loss, case.loss, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(gradient, case.gradient, rtol=1e-9, atol=1e-9)


def test_every_loss_has_a_golden_value_of_each_margin():
    assert {*LOSSES} == {case.name for case in GOLDEN}
    for row in TABLE:
        of_loss = [case.keywords for case in GOLDEN if case.name == row.name]
        assert row.margin is None or any(row.margin in given for given in of_loss)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_the_script_gives_what_is_stored(case):
    name, formula, logits, target, keywords = case
    (stored,) = (g for g in GOLDEN if g[:4] == (name, keywords, logits, target))
    loss, gradient = value_and_gradient(formula, logits, target, keywords)
    np.testing.assert_allclose(loss, stored.loss, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(gradient, stored.gradient, rtol=1e-9, atol=1e-9)
