"""Models as ONNX: the answers of ONNX Runtime, where neither JAX nor the trainer is."""

import warnings

import jax
import pytest
from exported_folders import ABSENT, answers_alone, assert_same
from small_exports import train_kind

from train.export import main as export_main
from train.predict import Predictor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("jax2onnx")
    pytest.importorskip("onnxruntime")
pytestmark = [
    pytest.mark.standard_promotion(
        reason="optax's adamw and flax's layers break under strict promotion"
    ),
    pytest.mark.filterwarnings("default"),
    pytest.mark.long,
]
COVERED = (
    *("text", "multi_label", "tokens", "table", "mixed", "ordinal", "cosines", "sets"),
    *("encoder", "encoder_cls", "encoder_labels", "encoder_tags", "resnet", "cnn"),
)


def exported(kind, encoder, folder):
    """A run of a kind as ONNX: the exit code, the folder, the run, and inputs."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        workdir, inputs = train_kind(kind, folder, encoder)
    output = folder / "out"
    flags = ["--compilation-cache=", "--format=onnx", f"--output={output}"]
    return export_main([str(workdir), *flags]), output, workdir, inputs


@pytest.mark.parametrize("kind", COVERED)
def test_onnx_runtime_answers_as_predict_does(kind, encoder, tmp_path):
    code, output, workdir, inputs = exported(kind, encoder, tmp_path)
    assert code == 0
    absent = (*ABSENT, "jax", "jaxlib", "jax2onnx", "onnx")
    found = answers_alone(output, inputs, tmp_path / "empty", absent)
    assert_same(found, Predictor(workdir)(inputs))


@pytest.mark.parametrize("kind", ["audio", "next_token"])
def test_another_network_is_refused_with_the_cure(kind, encoder, tmp_path, capsys):
    code, output, _, _ = exported(kind, encoder, tmp_path)
    stderr = capsys.readouterr().err.splitlines()[-1]
    assert code == 2
    assert "ONNX" in stderr
    assert "--format stablehlo takes every network" in stderr
    assert not output.exists()
