"""What a run shows and logs."""

import json
import math

from train.workdir.log import RunLog

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
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1
