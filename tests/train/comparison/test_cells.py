"""The files of cells: what makes one a cell of a configuration, and what does not."""

import dataclasses
import json

import pytest
from finished_runs import make_result

from train.comparison.cells import keep_cell, read_cell
from train.config import Config, DataConfig, LossConfig, ModelConfig, as_dict
from train.errors import WorkdirError


def write(folder, of, **changes):
    file = folder / "cell.json"
    file.write_text(json.dumps(make_result(of) | changes))
    return file


def test_a_cell_is_the_result_as_the_run_wrote_it(tmp_path):
    (tmp_path / "run").mkdir()
    text = json.dumps(make_result(Config()), indent=1)
    (tmp_path / "run" / "result.json").write_text(text)
    file = tmp_path / "results" / "cell.json"
    keep_cell(file, tmp_path / "run")
    assert file.read_text() == text
    assert read_cell(file, Config()) == json.loads(text)


def test_a_cell_without_a_file_is_none(tmp_path):
    assert read_cell(tmp_path / "cell.json", Config()) is None


def with_loss(**fields):
    return Config(loss=LossConfig(**fields))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (dataclasses.replace(with_loss(delta=0.1), seed=1), "seed: 0 there, 1 asked"),
        (with_loss(delta=0.4), "loss.delta: 0.1 there, 0.4 asked for"),
        (with_loss(), "loss.delta: 0.1 there, None asked for"),
        (with_loss(logit_margin=2.0), "loss.delta: 0.1 there, None asked for"),
        (
            with_loss(delta=0.1, options={"k": 5}),
            "loss.options.k: nothing there, 5 asked for",
        ),
        (
            dataclasses.replace(with_loss(delta=0.1), data=DataConfig(name="b")),
            "data.name: '' there, 'b' asked for",
        ),
    ],
)
def test_a_cell_of_another_configuration_is_refused(tmp_path, asked, message):
    file = write(tmp_path, with_loss(delta=0.1))
    with pytest.raises(WorkdirError, match="of another configuration") as refusal:
        read_cell(file, asked)
    assert message in str(refusal.value)


def with_data(**fields):
    return Config(data=DataConfig(source="files", **fields))


def with_model(path):
    return Config(model=ModelConfig(pretrained=path))


@pytest.mark.parametrize(
    ("held", "asked", "equal"),
    [
        # The name says which data they are, wherever they lie.
        (with_data(name="a", path="/x/a"), with_data(name="a"), True),
        (with_data(name="a", path="/x/a"), with_data(name="b", path="/x/a"), False),
        # Without a name, the folder's does.
        (with_data(path="/x/a"), with_data(path="y/a/"), True),
        (with_data(path="/x/a"), with_data(path="/x/b"), False),
        (with_model("/x/minilm"), with_model("hub/minilm"), True),
        (with_model("/x/minilm"), with_model("/x/other"), False),
        (with_model("/x/minilm"), with_model(""), False),
    ],
)
def test_where_things_lie_does_not_count(tmp_path, held, asked, equal):
    file = write(tmp_path, held)
    if equal:
        assert read_cell(file, asked)["config"]["data"]["path"] == held.data.path
        return
    with pytest.raises(WorkdirError, match="of another configuration"):
        read_cell(file, asked)


def test_a_key_that_came_later_counts_as_its_default(tmp_path):
    result = make_result(Config())
    del result["config"]["training"]["patience"]
    file = write(tmp_path, Config(), config=result["config"])
    assert read_cell(file, Config()) is not None
    patient = dataclasses.replace(Config().training, patience=3)
    with pytest.raises(WorkdirError, match=r"training.patience: 0 there, 3 asked"):
        read_cell(file, dataclasses.replace(Config(), training=patient))


def test_what_plain_training_does_not_read_is_not_compared(tmp_path):
    compact = dataclasses.replace(Config().training, mode="compact")
    other = dataclasses.replace(Config().compact, slack=0.5)
    # Of an earlier version, which had a slack of 0.3 for every loss.
    held = dataclasses.replace(Config().compact, slack=0.3)
    plain = dataclasses.replace(Config(), compact=other)
    assert read_cell(write(tmp_path, Config()), plain) is not None
    old = dataclasses.replace(with_loss(delta=0.1), training=compact)
    file = write(tmp_path, dataclasses.replace(old, compact=held))
    assert read_cell(file, old) is not None
    plain = dataclasses.replace(with_loss(delta=0.1), compact=other)
    with pytest.raises(WorkdirError, match=r"compact.slack: 0.3 there, 0.5 asked"):
        read_cell(file, dataclasses.replace(plain, training=compact))


def test_the_margin_that_softmax_has_not_read_does_not_count(tmp_path):
    config = as_dict(with_loss(name="softmax"))
    config["loss"] = {"name": "softmax", "delta": 0.1, "delta_warmup": 0.0}
    file = write(tmp_path, with_loss(name="softmax"), config=config)
    assert read_cell(file, with_loss(name="softmax")) is not None
    assert read_cell(file, with_loss(name="softmax", logit_margin=3.0)) is not None


def test_a_key_that_is_gone_is_a_difference(tmp_path):
    config = make_result(Config())["config"] | {"speed": 1}
    file = write(tmp_path, Config(), config=config)
    with pytest.raises(WorkdirError, match="speed: 1 there, nothing asked for"):
        read_cell(file, Config())


@pytest.mark.parametrize("text", ["", "{", '{"task": "image"', "[1]", "{}", "null"])
def test_a_damaged_cell_is_refused(tmp_path, text):
    file = tmp_path / "cell.json"
    file.write_text(text)
    with pytest.raises(WorkdirError, match="remove it to train it again"):
        read_cell(file, Config())


def test_a_result_without_its_records_is_refused(tmp_path):
    result = make_result(Config())
    del result["records"], result["margins"]
    (tmp_path / "cell.json").write_text(json.dumps(result))
    with pytest.raises(WorkdirError, match=r"cell.json has no records, margins; "):
        read_cell(tmp_path / "cell.json", Config())


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "results").write_text("")
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(WorkdirError, match="name a folder that can be written"):
        keep_cell(tmp_path / "results" / "cell.json", tmp_path)


def test_a_value_that_was_called_otherwise_is_what_it_is_now(tmp_path):
    result = make_result(Config())
    result["config"]["model"]["head"] = "dense"
    file = write(tmp_path, Config(), config=result["config"])
    assert read_cell(file, Config()) is not None
    blocked = Config(model=ModelConfig(head="blocked"))
    with pytest.raises(WorkdirError, match=r"model.head: '' there, 'blocked' asked"):
        read_cell(file, blocked)
