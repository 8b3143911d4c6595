"""The best checkpoint: which one stays, and that it comes back as it was."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.errors import WorkdirError
from train.targets.metric import Metric
from train.targets.next_token import NextToken
from train.targets.one_class import OneClass
from train.targets.tags import Tags
from train.workdir.checkpoints import BestCheckpoint, read_checkpoint


def record(step, loss=1.0, **validation):
    values = {"loss": loss} | validation
    return {"mini_steps": step} | {f"validation_{k}": v for k, v in values.items()}


def params(value):
    return {"layer": {"kernel": jnp.full((2, 3), value), "bias": jnp.full(3, -value)}}


def of_all(name):
    """The metric of that name, as one of the targets has it."""
    metrics = [*OneClass.metrics, *Tags.metrics, *NextToken.metrics]
    return next(metric for metric in metrics if metric.name == name)


def shapes():
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), params(0.0)
    )


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("accuracy", [0.1, 0.4, 0.3], 1),
        ("accuracy", [0.4, 0.4, 0.4], 0),
        ("loss", [3.0, 1.0, 2.0], 1),
        ("perplexity", [13.45, 12.47, 12.22, 12.23], 2),
        ("log_likelihood", [-2.6, -2.5, -2.4, -2.5], 2),
        ("ece_calibrated", [0.2, 0.1, 0.3], 1),
        ("f1", [math.nan, 0.0, math.nan], 1),
        ("f1", [math.nan, math.nan], 0),
    ],
)
def test_the_best_stays(tmp_path, metric, values, best):
    with BestCheckpoint(tmp_path, metric=of_all(metric)) as checkpoint:
        for step, value in enumerate(values):
            checkpoint.offer(record(step, **{metric: value}), params(float(step)))
        assert checkpoint.record["mini_steps"] == best
        assert checkpoint.evaluations_since == len(values) - 1 - best
        restored = checkpoint.restore(params(0.0))
    jax.tree.map(np.testing.assert_array_equal, restored, params(float(best)))
    step, read = read_checkpoint(tmp_path, shapes())
    assert step == best
    jax.tree.map(np.testing.assert_array_equal, read, params(float(best)))


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([3.0, 2.0, 2.5], 1),
        ([2.0, 2.0], 0),
        ([math.nan, 2.0, None], 1),
        ([None, 1], 1),
        ([1.0, 0.0, 0.0], 2),
    ],
)
def test_of_equals_the_one_with_the_least_loss_stays(tmp_path, losses, best):
    with BestCheckpoint(tmp_path, metric=of_all("accuracy")) as checkpoint:
        for step, loss in enumerate(losses):
            offered = record(step, accuracy=1.0, loss=loss)
            checkpoint.offer(offered, params(float(step)))
        assert checkpoint.record["mini_steps"] == best
        # Patience waits for a better metric.
        assert checkpoint.evaluations_since == len(losses) - 1
        restored = checkpoint.restore(params(0.0))
    jax.tree.map(np.testing.assert_array_equal, restored, params(float(best)))


def test_what_is_donated_after_an_offer_is_saved_as_it_was(tmp_path):
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1.0, tree), donate_argnums=0)
    held = {"kernel": jnp.zeros((512, 512))}
    with BestCheckpoint(tmp_path, metric=Metric("accuracy", "accuracy")) as checkpoint:
        checkpoint.offer(record(0, accuracy=1.0), held)
        for _ in range(5):
            held = step(held)
        restored = checkpoint.restore(held)
    assert (restored["kernel"] == 0.0).all()


def test_the_checkpoint_of_an_unfinished_run_goes(tmp_path):
    for value in (1.0, 2.0):
        with BestCheckpoint(
            tmp_path, metric=Metric("accuracy", "accuracy")
        ) as checkpoint:
            checkpoint.offer(record(int(value), accuracy=0.0), params(value))
    assert read_checkpoint(tmp_path, shapes())[0] == 2


def test_refuses_a_folder_without_a_checkpoint(tmp_path):
    with pytest.raises(WorkdirError, match="has no checkpoint"):
        read_checkpoint(tmp_path, shapes())
    (tmp_path / "checkpoints" / "best").mkdir(parents=True)
    with pytest.raises(WorkdirError, match="holds no whole checkpoint"):
        read_checkpoint(tmp_path, shapes())


def test_refuses_a_checkpoint_of_another_shape(tmp_path):
    with BestCheckpoint(tmp_path, metric=Metric("accuracy", "accuracy")) as checkpoint:
        checkpoint.offer(record(1, accuracy=0.0), {"other": jnp.zeros(2)})
    with pytest.raises(WorkdirError, match=r"checkpoint 1 of .* cannot be read"):
        read_checkpoint(tmp_path, shapes())
