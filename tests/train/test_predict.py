"""What becomes of a run in another process: answers and metrics."""

import csv
import io
import json
import math
import types
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from train.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)
from train.errors import DataError
from train.evaluate import evaluate_run
from train.evaluate import main as evaluate_main
from train.loop import train_and_evaluate
from train.predict import Predictor
from train.predict import main as predict_main

pytestmark = [
    pytest.mark.standard_promotion(
        reason="optax's adamw and flax's layers break under strict promotion"
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Requests with a class, with labels and with tags."""
    folder, rows = tmp_path_factory.mktemp("requests"), []
    for thing in ["lamp", "heating", "radio", "door", "window", "oven", "alarm", "fan"]:
        for way in ("on", "off"):
            words = ["turn", way, "the", thing]
            tags = ["O", f"B-{way}", "O", "B-thing"]
            row = {"text": " ".join(words), "label": way, "labels": [way]}
            rows.append(row | {"tokens": words, "tags": tags})
    lines = "\n".join(json.dumps(row) for row in rows)
    for split in ("train", "validation", "test"):
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """Returns a function: a task's finished run, trained once."""
    held = {}

    def trained(task, loss, **data):
        if task not in held:
            held[task] = tmp_path_factory.mktemp(task)
            config = Config(
                task=task,
                data=DataConfig(
                    source="files",
                    path=str(folder),
                    test="test",
                    vocabulary_size=64,
                    **data,
                ),
                model=ModelConfig(width=16, depth=1, heads=2),
                loss=LossConfig(name=loss),
                optimizer=OptimizerConfig(learning_rate=0.03),
                training=TrainingConfig(epochs=12, batch_size=8),
            )
            train_and_evaluate(config, held[task], quiet=True)
        return held[task]

    return trained


def result(workdir):
    return json.loads((workdir / "result.json").read_text())


def test_answers_have_label_probability_and_margin(trained):
    workdir = trained("text", "as_softmax")
    answers = Predictor(workdir)(["turn off the lamp", "turn on the fan", ""])
    assert [answer["label"] for answer in answers[:2]] == ["off", "on"]
    for answer in answers:
        assert 0.5 <= answer["probability"] <= 1
        # Of two classes p is the sigmoid of the lead, over the temperature.
        odds = np.exp(answer["margin"] / Predictor(workdir).run.calibration.temperature)
        assert answer["probability"] == pytest.approx(odds / (1 + odds))
    assert Predictor(workdir)([]) == []
    assert Predictor(workdir)([{"text": "turn on the fan"}]) == answers[1:2]


def test_one_text_is_no_list_of_them(trained):
    predictor = Predictor(trained("text", "as_softmax"))
    with pytest.raises(DataError, match="must be a list of them; got one str"):
        predictor("turn it on")


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (Path("texts"), "got one PosixPath"),
        (iter(["turn it on"]), "got a list_iterator"),
        (types.SimpleNamespace(columns=["text"]), "got a SimpleNamespace"),
        (["turn it on", "great \ud83d"], "row 2 of column `text`"),
        (["turn it on", None], "row 2 of text column `text` is None"),
    ],
)
def test_refuses_inputs(trained, inputs, words):
    predictor = Predictor(trained("text", "as_softmax"))
    with pytest.raises(DataError, match=words):
        predictor(inputs)


def test_a_row_without_a_finite_output_has_an_error(trained, monkeypatch):
    predictor = Predictor(trained("text", "as_softmax"))
    inputs = ["turn off the lamp", "turn on the fan", "turn off the fan"]
    good = predictor(inputs)
    outputs = predictor._outputs

    def with_infinity(*arguments):
        found = np.array(outputs(*arguments)[0])
        found[1, 0] = np.inf
        return found, None

    monkeypatch.setattr(predictor, "_outputs", with_infinity)
    error = {"error": "the network's output is not finite"}
    assert predictor(inputs) == [good[0], error, good[2]]


def test_several_labels(trained):
    workdir = trained("multi_label", "multi_label_as_softmax", label_column="labels")
    answers = Predictor(workdir)(["turn off the lamp", "turn on the fan"])
    assert [answer["labels"] for answer in answers] == [["off"], ["on"]]
    assert all(answer["margin"] > 0 for answer in answers)
    assert result(workdir)["test_micro_f1_tuned"] == 1.0


def test_tags_are_one_a_word(trained):
    workdir = trained("tokens", "as_softmax", label_column="tags")
    words = ["turn", "off", "the", "lamp"]
    (answer,) = Predictor(workdir)([words])
    assert answer["tags"] == ["O", "B-off", "O", "B-thing"]
    assert len(answer["probabilities"]) == len(answer["margins"]) == 4
    assert result(workdir)["test_f1"] == 1.0


@pytest.mark.parametrize(
    ("task", "loss", "data"),
    [
        ("text", "as_softmax", {}),
        ("multi_label", "multi_label_as_softmax", {"label_column": "labels"}),
        ("tokens", "as_softmax", {"label_column": "tags"}),
    ],
)
def test_evaluation_gives_the_figures_of_the_run(trained, task, loss, data):
    workdir = trained(task, loss, **data)
    for split in ("validation", "test"):
        figures = evaluate_run(workdir, split)
        assert figures["examples"] == 16
        assert figures["checkpoint"] == result(workdir)["best_mini_steps"]
        same = {k: v for k, v in figures.items() if k.startswith(split)}
        assert same
        for name, value in same.items():
            # A calibration error is a difference of numbers near 1: where it is next
            # to 0, only float32's absolute error can be asked of it.
            absolute = 1e-8 if "ece" in name else 0.0
            wanted = pytest.approx(result(workdir)[name], rel=1e-5, abs=absolute)
            assert value == wanted, name


def test_commands_write_and_name_the_checkpoint(trained, tmp_path, capsys):
    workdir, output = trained("text", "as_softmax"), tmp_path / "out" / "answers.jsonl"
    (tmp_path / "in.csv").write_text("text\nturn off the radio\n", encoding="utf-8")
    flags = ["--compilation-cache=", f"--workdir={workdir}"]
    assert (
        predict_main([*flags, f"--input={tmp_path}/in.csv", f"--output={output}"]) == 0
    )
    step = result(workdir)["best_mini_steps"]
    assert f"checkpoint after mini-step {step}" in capsys.readouterr().out
    (line,) = output.read_text().splitlines()
    assert json.loads(line)["label"] == "off"

    assert evaluate_main([*flags, "--split=test"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["checkpoint"] == step
    assert math.isfinite(figures["test_ece_calibrated"])


def test_inputs_may_have_another_column_than_in_training(trained, tmp_path):
    workdir, output = trained("text", "as_softmax"), tmp_path / "answers.jsonl"
    (tmp_path / "in.csv").write_text("body\nturn off the radio\n", encoding="utf-8")
    flags = ["--compilation-cache=", f"--workdir={workdir}", f"--output={output}"]
    named = "--config.data.input_column=body"
    assert predict_main([*flags, f"--input={tmp_path}/in.csv", named]) == 0
    assert json.loads(output.read_text())["label"] == "off"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--split=dev"], ["--split", "no 'dev'", "train, validation, test"]),
        (["--config.loss.delta=0.2"], ["only --config.data.* can differ"]),
        (["--config.data.path=/no/such"], ["no such file"]),
        (["--workdir=/no/such"], ["holds no finished run"]),
    ],
)
def test_evaluate_refuses(trained, capsys, flags, words):
    workdir = trained("text", "as_softmax")
    code = evaluate_main(["--compilation-cache=", f"--workdir={workdir}", *flags])
    stderr = capsys.readouterr().err
    assert code == 2
    assert stderr.count("\n") == 1
    for word in words:
        assert word in stderr


@pytest.mark.parametrize(
    ("content", "flags", "words"),
    [
        ("wrong\nx\n", [], ["no column `text`; it has `wrong`"]),
        ("text\n", [], ["the input split is empty"]),
        ("text\nx\n", ["--split=test"], ["--split=test: only --config.data.* can"]),
    ],
)
def test_predict_refuses_a_file(trained, tmp_path, capsys, content, flags, words):
    (tmp_path / "in.csv").write_text(content, encoding="utf-8")
    code = predict_main(
        [
            "--compilation-cache=",
            f"--workdir={trained('text', 'as_softmax')}",
            f"--input={tmp_path}/in.csv",
            f"--output={tmp_path}/out.jsonl",
            *flags,
        ]
    )
    stderr = capsys.readouterr().err
    assert code == 2
    assert stderr.count("\n") == 1
    for word in words:
        assert word in stderr
    assert not (tmp_path / "out.jsonl").exists()


def predicted(trained, tmp_path, capsys, *flags, source=None, task="text"):
    """The command's exit code, output file and words."""
    workdir = trained(task, "as_softmax")
    output = tmp_path / "answers.jsonl"
    given = source or write_requests(tmp_path)
    paths = ["--input", str(given), "--output", str(output)]
    code = predict_main(["--workdir", str(workdir), *paths, *flags])
    return code, output, capsys.readouterr()


def write_requests(tmp_path):
    rows = [{"text": f"turn {way} the lamp", "n": k} for k, way in enumerate(WAYS)]
    source = tmp_path / "new.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)))
    return source


WAYS = ("on", "off", "on")


def test_answers_keep_an_id_and_the_input(trained, tmp_path, capsys):
    flags = ("--id-column", "n", "--with-input")
    code, output, _ = predicted(trained, tmp_path, capsys, *flags)
    assert code == 0
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(a["n"], a["text"]) for a in answers] == [
        (k, f"turn {way} the lamp") for k, way in enumerate(WAYS)
    ]
    assert list(answers[0]) == ["n", "text", "label", "probability", "margin"]
    code, _, shown = predicted(trained, tmp_path, capsys, "--id-column", "m")
    assert code == 2
    assert "no column `m`; it has `text`, `n`" in shown.err


def test_answers_have_the_likeliest_classes_and_all(trained, tmp_path, capsys):
    flags = ("--top-k", "5", "--all-probabilities", "--batch-size", "2")
    code, output, _ = predicted(trained, tmp_path, capsys, *flags)
    assert code == 0
    for line in output.read_text().splitlines():
        answer = json.loads(line)
        top, every = answer["top"], answer["probabilities_by_class"]
        assert {entry["label"]: entry["probability"] for entry in top} == every
        assert top[0]["label"] == answer["label"]
        assert top[0]["probability"] == pytest.approx(answer["probability"])
        assert sum(every.values()) == pytest.approx(1.0)
        assert top[0]["probability"] >= top[1]["probability"]


def test_tags_have_no_probabilities_of_the_whole(trained):
    predictor = Predictor(trained("tokens", "as_softmax"))
    with pytest.raises(DataError, match="tokens has an answer for each word"):
        predictor([["turn", "on"]], top_k=2)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_answers_are_tables_by_the_output_s_ending(trained, tmp_path, capsys, ending):
    plain = predicted(trained, tmp_path, capsys, "--top-k", "1")[1]
    expected = [json.loads(line) for line in plain.read_text().splitlines()]
    output = tmp_path / f"answers{ending}"
    flags = ("--output", str(output), "--top-k", "1")
    code, _, _ = predicted(trained, tmp_path, capsys, *flags)
    assert code == 0
    if ending == ".parquet":
        assert pyarrow.parquet.read_table(output).to_pylist() == expected
        return
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [a["label"] for a in expected]
    assert [json.loads(row["top"]) for row in rows] == [a["top"] for a in expected]


def test_lines_go_from_standard_input_to_standard_output(
    trained, tmp_path, capsys, monkeypatch
):
    lines = "turn on the lamp\n\nturn off the lamp\n"
    objects = '{"text": "turn on the lamp"}\n{"text": "turn off the lamp"}'
    for text in (lines, objects):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        code, _, shown = predicted(
            trained, tmp_path, capsys, "--output", "-", source="-"
        )
        assert code == 0
        answers = [json.loads(line) for line in shown.out.splitlines()]
        assert len(answers) == 2
        assert "2 answers in standard output" in shown.err
    for text, message in (
        ("", "standard input is empty; give a line an input"),
        ("{broken", "standard input:1: not JSON"),
        ('{"text": "a"}\n{"n": 1}', "standard input:2: must have text"),
    ):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        code, _, shown = predicted(trained, tmp_path, capsys, source="-")
        assert code == 2
        assert message in shown.err


def test_a_folder_of_pictures_is_answered_by_file(tmp_path, capsys):
    for split, name, k in (
        *(("train", f"{k}", k) for k in range(12)),
        *(("validation", f"{k}", k) for k in range(4)),
    ):
        folder = tmp_path / "photos" / split / ("light" if k % 2 else "dark")
        folder.mkdir(parents=True, exist_ok=True)
        grey = 250 if k % 2 else 5
        Image.new("RGB", (16, 16), (grey, grey, grey)).save(folder / f"{name}.png")
    config = Config(
        task="image",
        data=DataConfig(source="folders", path=str(tmp_path / "photos")),
        model=ModelConfig(width=4, depth=1),
        training=TrainingConfig(epochs=1, batch_size=8),
    )
    train_and_evaluate(config, tmp_path / "run", quiet=True)
    flags = ["--workdir", str(tmp_path / "run"), "--output", "-"]
    photos = tmp_path / "photos" / "validation"
    assert predict_main([*flags, "--input", str(photos)]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["file"] for answer in answers] == [
        *("dark/0.png", "dark/2.png", "light/1.png", "light/3.png"),
    ]
    (tmp_path / "empty").mkdir()
    assert predict_main([*flags, "--input", str(tmp_path / "empty")]) == 2
    assert "no file that ends in .bmp" in capsys.readouterr().err
