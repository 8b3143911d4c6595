"""Encoders of every family take a batch of unknown size, as exported programs do."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax import export

from train.config import ModelConfig
from train.data.examples import InputSpec
from train.models.huggingface import FAMILIES
from train.models.pretrained import read_encoder_config
from train.recipe.network import Network

pytestmark = pytest.mark.long
GOLDEN = Path(__file__).parent / "golden"
# By what an encoder reads: the task, and its inputs.
INPUTS = {
    "text": ("text", (8,), jnp.int32),
    "images": ("image", (8, 8, 3), jnp.uint8),
    "audio": ("audio", (200,), jnp.float32),
}


@pytest.mark.parametrize(
    "family", sorted(p.name for p in GOLDEN.iterdir() if p.is_dir())
)
def test_a_batch_may_be_of_unknown_size(family):
    model_type = family.removesuffix("-large")
    reads = FAMILIES[model_type].reads
    task, shape, dtype = INPUTS[reads]
    encoder = read_encoder_config(GOLDEN / family, reads)
    numbers = (1.0, 2.0, 3.0) if task == "image" else ()
    spec = InputSpec(shape, 3, encoder=encoder, mean=numbers, deviation=numbers)
    network = Network(task, spec, ModelConfig(pretrained="folder"), "linear")
    rows = export.symbolic_shape("rows")[0]
    inputs = jax.ShapeDtypeStruct((rows, *shape), dtype)
    logits = jax.jit(lambda params, inputs: network.logits(params, inputs, rngs=None))
    exported = export.export(logits)(network.shapes(), inputs)
    assert exported.out_avals[0].shape == (rows, 3)
