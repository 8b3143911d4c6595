"""What a run shows and logs."""

import json
import math

import numpy as np

from train.recipe.recipe import make_recipe
from train.tasks import prepare
from train.workdir.log import RunLog
from train.workdir.opening import opening_lines

RECORD = {
    "mini_steps": 4,
    "gradient_steps": 3,
    "examples_seen": 50,
    "epoch": 1,
    "train_loss": math.nan,
    "train_accuracy": 0.5,
    "settled_share": 0.25,
    "validation_loss": 0.7,
    "validation_accuracy": 0.6,
    "seconds": 1.5,
}


def log(workdir, *, quiet):
    with RunLog(
        workdir, metric="accuracy", total_examples=100, quiet=quiet
    ) as progress:
        progress.evaluation(RECORD)
        # The line is there before the run ends, however it ends.
        return (workdir / "metrics.jsonl").read_text()


def test_an_evaluation_is_one_line_of_json_without_nan(tmp_path):
    text = log(tmp_path, quiet=True)
    assert text.count("\n") == 1
    assert json.loads(text) == RECORD | {"train_loss": None}


def test_quiet_shows_nothing(tmp_path, capsys):
    log(tmp_path, quiet=True)
    assert capsys.readouterr() == ("", "")


def test_an_evaluation_is_one_line_on_the_terminal(tmp_path, capsys):
    log(tmp_path, quiet=False)
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    for words in ["epoch   1", "accuracy 0.6000", "settled 0.250", "gradient steps 3"]:
        assert words in line


def test_the_log_of_an_unfinished_run_is_replaced(tmp_path):
    for _ in range(2):
        text = log(tmp_path, quiet=True)
    assert text.count("\n") == 1


def test_it_says_how_long_the_rest_takes_once_it_knows(tmp_path, capsys):
    second = RECORD | {"examples_seen": 60, "seconds": 101.5}
    last = RECORD | {"examples_seen": 100, "seconds": 500.0}
    with RunLog(
        tmp_path, metric="accuracy", total_examples=100, quiet=False
    ) as progress:
        for record in (RECORD, second, last):
            progress.evaluation(record)
    first, then, end = capsys.readouterr().out.splitlines()
    # 10 examples took 100 seconds, and 40 are left.
    assert then.endswith("101.5 s, about 7 min left")
    assert first.endswith("1.5 s")
    assert end.endswith("500.0 s")


def test_it_says_which_lengths_compile(tmp_path, capsys):
    with RunLog(
        tmp_path, metric="accuracy", total_examples=100, quiet=False
    ) as progress:
        for length in (16, 24, 16):
            progress.batch_of(length, (16, 24, 32))
        progress.batch_of(16, ())
    assert capsys.readouterr().out.splitlines() == [
        "compiling 1 of 3: batches of length 16",
        "compiling 2 of 3: batches of length 24",
    ]


def test_a_run_says_what_it_is_about(feature_config, tmp_path):
    data = prepare(feature_config)
    recipe = make_recipe(feature_config, data)
    params = {"kernel": np.zeros((3, 400)), "bias": np.zeros(34)}
    device, size, where = opening_lines(recipe, data, params, tmp_path / "run")
    assert "1 x cpu; mlp of 1,234 parameters; as_softmax, " in device
    assert size == (
        "train 82, validation 23, test 17 examples; 3 classes; 3 epochs, 18 steps of "
        "16; the first of each kind compile"
    )
    assert where == f"writing to {tmp_path / 'run'}"
