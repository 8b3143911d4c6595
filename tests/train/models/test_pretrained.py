"""Folders of encoders: found, read, refused, and written as they were."""

import json
import shutil
import sys
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_inputs import word_pieces

from train.errors import ConfigError, DataError
from train.models import pretrained
from train.models.pretrained import (
    export_encoder,
    find_folder,
    load_weights,
    read_encoder_config,
)

GOLDEN = Path(__file__).parent / "golden"
FAMILIES = ("bert", "roberta", "distilbert")
EVERY = (*FAMILIES, "modernbert", "deberta-v2")
PREFIXES = {"modernbert": "model.", "deberta-v2": "deberta."}
# What the folders hold beside the encoder.
UNUSED = {
    "bert": ("pooler.dense.bias", "pooler.dense.weight"),
    "roberta": ("classifier.bias", "classifier.weight"),
    "distilbert": ("classifier.bias", "classifier.weight"),
    "modernbert": (),
    "deberta-v2": ("classifier.bias", "classifier.weight"),
}


@pytest.fixture
def folder(tmp_path):
    """Returns a function: a copy of a golden folder that may be spoiled."""

    def copy(family="bert"):
        return Path(shutil.copytree(GOLDEN / family, tmp_path / family))

    return copy


def rewrite(folder, change, name="model.safetensors"):
    """Replaces the tensors of a folder by what `change` makes of them."""
    save_file(change(load_file(folder / name)), folder / name)


def edit_config(folder, **fields):
    content = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps(content))


def load(folder):
    return load_weights(folder, read_encoder_config(folder))


def assert_equal_trees(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize("family", FAMILIES)
def test_reads_the_shape_of_each_family(family):
    config = read_encoder_config(GOLDEN / family)
    assert (config.model_type, config.vocabulary_size) == (family, 60)
    assert (config.width, config.depth, config.heads) == (16, 2, 4)
    assert config.intermediate_size == 24
    assert (
        config.type_vocabulary_size
        == {"bert": 2, "roberta": 1, "distilbert": 0}[family]
    )
    assert config.max_positions == (18 if family == "roberta" else 20)
    assert config.pad_token_id == (1 if family == "roberta" else 0)
    assert config.activation == ("gelu_new" if family == "roberta" else "gelu")
    assert config.layer_norm_epsilon == (1e-5 if family == "roberta" else 1e-12)
    assert config.source == (GOLDEN / family / "config.json").read_text()


def test_xlm_roberta_is_roberta(folder):
    there = folder("roberta")
    edit_config(there, model_type="xlm-roberta")
    assert read_encoder_config(there).max_positions == 18
    assert_equal_trees(load(there).params, load(GOLDEN / "roberta").params)


def test_reads_the_shape_of_modernbert_in_both_forms(folder):
    config = read_encoder_config(GOLDEN / "modernbert")
    assert config.far == (True, False, False, True)
    assert (config.reach, config.far_base, config.near_base) == (3, 160000.0, 10000.0)
    assert (config.width, config.depth, config.max_positions) == (16, 4, 20)
    biases = config.attention_bias, config.feed_forward_bias, config.norm_bias
    assert not any(biases)
    there = folder("modernbert")
    content = json.loads((there / "config.json").read_text())
    del content["layer_types"], content["rope_parameters"]
    # As the files of 2024 have it.
    content |= {"global_attn_every_n_layers": 2, "global_rope_theta": 8e4}
    (there / "config.json").write_text(json.dumps(content | {"local_rope_theta": 5.0}))
    config = read_encoder_config(there)
    assert config.far == (True, False, True, False)
    assert (config.far_base, config.near_base) == (8e4, 5.0)


def test_reads_the_shape_of_deberta():
    config = read_encoder_config(GOLDEN / "deberta-v2")
    assert (config.distances, config.farthest, config.max_positions) == (4, 20, 20)
    assert config.layer_norm_epsilon == 1e-7


@pytest.mark.parametrize(
    ("family", "fields", "words"),
    [
        ("deberta-v2", {"share_att_key": False}, "`share_att_key` is False, and True"),
        ("deberta-v2", {"conv_kernel_size": 3}, "`conv_kernel_size` is 3, and 0"),
        ("deberta-v2", {"pos_att_type": "c2p"}, "`pos_att_type` is .*'c2p'.* take"),
        ("deberta-v2", {"embedding_size": 8}, "embeddings of another width"),
        ("deberta-v2", {"position_buckets": -1}, "`position_buckets` is -1"),
        ("deberta-v2", {"model_type": "deberta"}, "did you mean `deberta-v2`"),
        ("modernbert", {"num_hidden_layers": 3}, "`layer_types` has 4 kinds for 3 lay"),
        ("modernbert", {"rope_scaling": {"factor": 2}}, "scaled .*take another"),
        ("modernbert", {"model_type": "modern-bert"}, "did you mean `modernbert`"),
        ("modernbert", {"hidden_activation": "mish"}, "no activation 'mish'"),
    ],
)
def test_refuses_what_it_does_not_know_of_a_family(family, fields, words, folder):
    there = folder(family)
    edit_config(there, **fields)
    with pytest.raises(DataError, match=words) as refusal:
        read_encoder_config(there)
    assert str(there / "config.json") in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("family", EVERY)
def test_parameters_are_float32_and_the_rest_is_named(family):
    weights = load(GOLDEN / family)
    assert {leaf.dtype for leaf in jax.tree.leaves(weights.params)} == {
        np.dtype("float32")
    }
    assert weights.unused == UNUSED[family]


@pytest.mark.parametrize("family", EVERY)
def test_names_with_and_without_the_prefix_are_the_same(family, folder):
    there = folder(family)

    def turn_round(tensors):
        return {
            name.removeprefix(prefix) if name.startswith(prefix) else prefix + name: t
            for name, t in tensors.items()
        }

    prefix = PREFIXES.get(family, f"{family}.")
    rewrite(there, turn_round)
    assert_equal_trees(load(there).params, load(GOLDEN / family).params)


def test_old_names_of_norms_are_known(folder):
    there = folder()

    def age(tensors):
        return {
            n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): t
            for n, t in tensors.items()
        }

    rewrite(there, age)
    assert "embeddings.LayerNorm.gamma" in load_file(there / "model.safetensors")
    assert_equal_trees(load(there).params, load(GOLDEN / "bert").params)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_becomes_float32(dtype, folder):
    there = folder()
    rewrite(there, lambda tensors: {n: t.astype(dtype) for n, t in tensors.items()})
    expected = jax.tree.map(
        lambda leaf: leaf.astype(dtype).astype(np.float32), load(GOLDEN / "bert").params
    )
    assert_equal_trees(load(there).params, expected)


def shard(folder):
    """Splits a folder's weights over two files with an index."""
    tensors = load_file(folder / "model.safetensors")
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    names = sorted(tensors)
    index = {name: files[i % 2] for i, name in enumerate(names)}
    for file in files:
        save_file({n: tensors[n] for n in names if index[n] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    (folder / "model.safetensors").unlink()
    return files


def test_shards_are_one_model(folder):
    there = folder()
    shard(there)
    weights = load(there)
    assert_equal_trees(weights.params, load(GOLDEN / "bert").params)
    assert weights.unused == UNUSED["bert"]


def test_refuses_a_missing_shard_and_a_bad_index(folder):
    there = folder()
    first, _ = shard(there)
    (there / first).unlink()
    with pytest.raises(DataError, match=f"{first}: no such file.*index.json names it"):
        load(there)
    for bad in ("{", "[]", '{"weight_map": 3}'):
        (there / "model.safetensors.index.json").write_text(bad)
        with pytest.raises(DataError, match=r"index.json: no index of weights"):
            load(there)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_type": "gpt2"}, "`model_type` is 'gpt2'.*`bert`.*`distilbert`"),
        ({"model_type": "robertta"}, "'robertta'; did you mean `roberta`"),
        ({"hidden_act": "quick"}, "no activation 'quick'; .*`gelu_new`.*`relu`"),
        ({"hidden_act": "mish"}, "no activation 'mish'; did you mean `swish`"),
        (
            {"position_embedding_type": "relative_key"},
            "`position_embedding_type` is 'relative_key', and 'absolute'",
        ),
        ({"is_decoder": True}, "`is_decoder` is True"),
        ({"hidden_size": "16"}, "`hidden_size` is '16'; it must be a whole number"),
        ({"num_hidden_layers": 0}, "`num_hidden_layers` is 0"),
        ({"num_attention_heads": 3}, "16 does not divide into 3 heads"),
        ({"pad_token_id": None}, "`pad_token_id` is None"),
        ({"type_vocab_size": -1}, "`type_vocab_size` is -1"),
        ({"layer_norm_eps": "small"}, "`layer_norm_eps` is 'small'"),
    ],
)
def test_refuses_a_configuration_it_does_not_know(fields, words, folder):
    there = folder()
    edit_config(there, **fields)
    with pytest.raises(DataError, match=words) as refusal:
        read_encoder_config(there)
    assert str(there / "config.json") in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_refuses_what_is_no_configuration(folder):
    there = folder()
    for text, words in {"{": "config.json:1: not JSON", "[]": "not a JSON obj"}.items():
        (there / "config.json").write_text(text)
        with pytest.raises(DataError, match=words):
            read_encoder_config(there)
    (there / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        read_encoder_config(there)
    (there / "config.json").unlink()
    with pytest.raises(DataError, match=r"cannot read config.json: No such file"):
        read_encoder_config(there)


def test_refuses_missing_tensors_with_their_names(folder):
    there = folder()
    lost = "encoder.layer.1.attention.self.key.weight"
    rewrite(there, lambda tensors: {n: t for n, t in tensors.items() if n != lost})
    with pytest.raises(DataError, match=f"the weights lack `{lost}`;"):
        load(there)
    rewrite(there, lambda tensors: {"x": tensors["pooler.dense.bias"]})
    # 5 tensors of embeddings, 16 of each of two blocks; four are named.
    with pytest.raises(DataError, match=r"lack `.*` and 33 more"):
        load(there)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("embeddings.word_embeddings.weight", (61, 16)),
        ("encoder.layer.0.intermediate.dense.weight", (16, 24)),
        ("encoder.layer.0.attention.self.query.bias", (8,)),
    ],
)
def test_refuses_a_tensor_of_another_shape(name, shape, folder):
    there = folder()
    rewrite(there, lambda tensors: tensors | {name: np.zeros(shape, np.float32)})
    with pytest.raises(DataError, match=f"`{name}` has shape"):
        load(there)


def test_refuses_damaged_files(folder):
    there = folder()
    file = there / "model.safetensors"
    whole = file.read_bytes()
    for damaged in (b"", whole[:4], whole[: len(whole) // 2], b"\xff" * 64):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match=r"model.safetensors: damaged or cut short"):
            load(there)


def test_a_pointer_is_no_file_of_weights(folder):
    there = folder()
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n"
    (there / "model.safetensors").write_text(text)
    with pytest.raises(DataError, match=r"model.safetensors: a Git LFS pointer"):
        load(there)


def test_no_pickle_is_loaded(folder):
    there = folder()
    (there / "model.safetensors").rename(there / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"pytorch_model.bin, a pickle.*safe_serializ"):
        load(there)
    (there / "pytorch_model.bin").unlink()
    with pytest.raises(DataError, match=r"no model.safetensors \(found: none\)"):
        load(there)


# What an export takes beside parameters, classes and pooling.
ANSWERS = {
    "tokenizer": word_pieces(),
    "max_length": 8,
    "temperature": 1.0,
    "threshold": None,
}


def classifier_params(family):
    """The golden parameters with the golden head, as the trainer holds them."""
    tensors = load_file(GOLDEN / family / "model.safetensors")
    head = {
        "kernel": tensors["classifier.weight"].T,
        "bias": tensors["classifier.bias"],
    }
    return {"encoder": load(GOLDEN / family).params, "head": {"linear": head}}


@pytest.mark.parametrize("family", ["roberta", "distilbert", "deberta-v2"])
def test_an_exported_token_classifier_is_the_file_of_transformers(family, tmp_path):
    export_encoder(
        tmp_path / "out",
        read_encoder_config(GOLDEN / family),
        classifier_params(family),
        classes=["O", "B-a", "I-a"],
        pooling=None,
        **ANSWERS,
    )
    theirs = load_file(GOLDEN / family / "model.safetensors")
    assert_equal_trees(load_file(tmp_path / "out" / "model.safetensors"), theirs)
    before = json.loads((GOLDEN / family / "config.json").read_text())
    after = json.loads((tmp_path / "out" / "config.json").read_text())
    assert after.pop("id2label") == {"0": "O", "1": "B-a", "2": "I-a"}
    assert after.pop("label2id") == {"O": 0, "B-a": 1, "I-a": 2}
    del before["id2label"], before["label2id"], before["dtype"]
    assert after == before
    written = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    assert written == json.loads(word_pieces().to_str())


@pytest.mark.parametrize("family", EVERY)
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_load_export_load_is_bit_equal(family, pooling, tmp_path):
    rng = np.random.default_rng(0)
    weights = load(GOLDEN / family)
    head = {"kernel": rng.normal(size=(16, 5)), "bias": rng.normal(size=5)}
    head = {name: value.astype(np.float32) for name, value in head.items()}
    export_encoder(
        tmp_path,
        read_encoder_config(GOLDEN / family),
        {"encoder": weights.params, "head": {"linear": head}},
        classes=range(5),
        pooling=pooling,
        **ANSWERS,
    )
    again = load(tmp_path)
    assert_equal_trees(again.params, weights.params)
    assert again.unused == ("classifier.bias", "classifier.weight")
    tensors = load_file(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(tensors["classifier.weight"], head["kernel"].T)
    np.testing.assert_array_equal(tensors["classifier.bias"], head["bias"])
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["architectures"] == ["PooledEncoderForSequenceClassification"]
    assert (content["encoder_type"], content["pooling"]) == (family, pooling)
    assert content["id2label"]["4"] == "4"


def test_an_export_of_a_half_precision_folder_says_float32(folder):
    there = folder("roberta")
    edit_config(there, torch_dtype="float16", dtype="float16")
    export_encoder(
        there,
        read_encoder_config(there),
        classifier_params("roberta"),
        classes="abc",
        pooling=None,
        **ANSWERS,
    )
    content = json.loads((there / "config.json").read_text())
    assert not {"dtype", "torch_dtype"} & content.keys()


def test_tags_are_not_exported_where_their_class_has_more_layers(tmp_path):
    head = {"kernel": np.zeros((16, 2)), "bias": np.zeros(2)}
    params = {"encoder": load(GOLDEN / "modernbert").params, "head": {"linear": head}}
    with pytest.raises(ConfigError, match=r"modernbert .*; predict with train.predict"):
        export_encoder(
            tmp_path / "out",
            read_encoder_config(GOLDEN / "modernbert"),
            params,
            classes="ab",
            pooling=None,
            **ANSWERS,
        )
    assert not (tmp_path / "out").exists()


def test_finds_a_local_folder(folder):
    there = folder()
    assert find_folder(str(there)) == there
    for name in (str(there / "gone"), "./gone", "~/gone"):
        with pytest.raises(ConfigError, match=r"`model.pretrained`: no folder .*gone;"):
            find_folder(name)


def test_asks_the_hub_for_what_is_not_here(monkeypatch, tmp_path):
    asked = {}

    class Hub:
        @staticmethod
        def snapshot_download(name, *, allow_patterns):
            asked[name] = allow_patterns
            return str(tmp_path)

    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub)
    assert find_folder("owner/name") == tmp_path
    assert all(
        pattern.endswith((".json", ".safetensors")) for pattern in asked["owner/name"]
    )

    def fail(name, *, allow_patterns):
        raise TimeoutError("no network")

    monkeypatch.setattr(Hub, "snapshot_download", fail)
    with pytest.raises(
        ConfigError, match=r"owner/name, and the hub .*\(TimeoutError\)"
    ):
        find_folder("owner/name")


def test_without_the_hub_package_the_cure_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"pip install 'as_softmax_jax\[hub\]'"):
        find_folder("owner/name")


def test_downloads_no_pickle():
    assert not any("bin" in pattern for pattern in pretrained._DOWNLOADED)
