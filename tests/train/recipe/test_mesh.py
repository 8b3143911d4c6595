"""Eight devices are one: the same losses, whatever the mesh."""

import json

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from train.config import MeshConfig
from train.data.pipeline import read_batch
from train.errors import ConfigError
from train.loop import initial_state, train_and_evaluate
from train.recipe.mesh import make_mesh, put_batch
from train.recipe.recipe import make_recipe
from train.tasks import prepare
from train.training.steps import BatchInfo, train_step

pytestmark = pytest.mark.standard_promotion(
    reason="optax's chains and flax's layers break under strict promotion"
)


def losses(config, workdir):
    train_and_evaluate(config, workdir, quiet=True)
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    names = ("train_loss", "validation_loss", "settled_share", "gradient_steps")
    return np.array([[record[name] for name in names] for record in records])


@pytest.mark.long
def test_eight_devices_equal_one(feature_config, change, tmp_path):
    # SGD: where the true gradient is 0, AdamW would amplify rounding.
    config = change(feature_config, "optimizer", name="sgd")
    config = change(config, "training", window="settled_ratio")
    expected = losses(config, tmp_path / "1")
    for data, model in [(8, 1), (4, 2)]:
        several = change(config, "mesh", data=data, model=model)
        np.testing.assert_allclose(
            losses(several, tmp_path / f"{data}x{model}"), expected, rtol=1e-5
        )


def steps(config, count):
    """The loss of each of so many steps, and the parameters after them."""
    data = prepare(config)
    recipe = make_recipe(config, data)
    state, examples = initial_state(recipe, seed=0), data.splits["train"]
    step = jax.jit(train_step, static_argnums=0, donate_argnums=1)
    found = []
    for number in range(count):
        rows = (16 * number + np.arange(16)) % len(examples)
        batch = put_batch(recipe.mesh, read_batch(examples, rows, batch_size=16))
        # Each is the first of an epoch, so that sums are of one batch.
        moment = BatchInfo(np.int32(16), np.bool_(True), np.bool_(False))
        state = step(recipe, state, batch, moment)
        found.append(float(state.sums.loss))
    return np.array(found), jax.device_get(state.params)


@pytest.mark.parametrize("mesh", [(8, 1), (2, 4)])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_fifty_steps_on_eight_devices_are_those_of_one(
    feature_config, change, mesh, optimizer
):
    config = change(feature_config, "optimizer", name=optimizer, schedule="constant")
    losses_of_one, params = steps(config, 50)
    several = change(config, "mesh", data=mesh[0], model=mesh[1])
    losses_of_eight, others = steps(several, 50)
    np.testing.assert_allclose(losses_of_eight, losses_of_one, rtol=1e-5, atol=1e-7)
    if optimizer == "sgd":
        for one, other in zip(
            jax.tree.leaves(params), jax.tree.leaves(others), strict=True
        ):
            np.testing.assert_allclose(other, one, rtol=0, atol=1e-6 * abs(one).max())


def test_a_batch_lies_split_over_data(feature_config):
    mesh = make_mesh(MeshConfig(data=4, model=2), batch_size=16)
    rows = np.arange(16, dtype=np.int32)
    batch = put_batch(mesh, {"labels": rows})
    assert batch["labels"].sharding.spec == PartitionSpec("data")
    assert batch["labels"].addressable_shards[0].data.shape == (4,)
    np.testing.assert_array_equal(batch["labels"], rows)


def test_matrices_lie_split_over_model_and_moments_with_them(feature_config, change):
    config = change(feature_config, "mesh", data=4, model=2)
    recipe = make_recipe(config, prepare(config))
    state = initial_state(recipe, seed=0)
    kernels = [
        leaf
        for leaf in jax.tree.leaves((state.params, state.optimizer_state))
        if leaf.shape == (2, 8)
    ]
    assert len(kernels) == 3  # the parameter, its first and its second moment
    for kernel in kernels:
        assert kernel.addressable_shards[0].data.shape == (2, 4)


@pytest.mark.parametrize(
    ("mesh", "words"),
    [
        (MeshConfig(data=16), ["16 x 1 devices", "8 there", "mesh.data"]),
        (MeshConfig(model=16), ["16 devices", "8 there"]),
        (MeshConfig(data=3), ["training.batch_size", "16", "3 devices"]),
    ],
)
def test_refuses_a_mesh(mesh, words):
    with pytest.raises(ConfigError) as refusal:
        make_mesh(mesh, batch_size=16)
    for word in words:
        assert word in str(refusal.value)
