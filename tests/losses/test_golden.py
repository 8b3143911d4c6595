"""The losses give their golden values, and every loss has one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from battery import TABLE
from golden import GOLDEN

from as_softmax_jax.losses import LOSSES


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case.name)
def test_golden_values(case):
    with jax.enable_x64(True):
        logits, target = jnp.array(case.logits), jnp.array(case.target)

        def f(logits):
            return LOSSES[case.name].function(logits, target, **case.keywords)

        loss, gradient = jax.value_and_grad(f)(logits)
    np.testing.assert_allclose(loss, case.loss, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(gradient, case.gradient, rtol=1e-9, atol=1e-9)


def test_every_loss_has_a_golden_value_of_each_margin():
    assert {*LOSSES} == {case.name for case in GOLDEN}
    for row in TABLE:
        of_loss = [case.keywords for case in GOLDEN if case.name == row.name]
        assert row.margin is None or any(row.margin in given for given in of_loss)
