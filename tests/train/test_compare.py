"""The comparison: what it refuses, what it trains, and how it goes on after an end."""

import json
import os
import shutil
import signal

import pytest
from finished_runs import make_result

import train.loop
from train.command.signals import Stopped
from train.compare import main
from train.config import as_dict

pytestmark = pytest.mark.standard_promotion(
    reason="optax's chains and flax's layers break under strict promotion"
)

CONFIG = """
from train.config import *

def get_config():
    return Config(
        task={task!r},
        data=DataConfig(
            source="files", path={path!r}, train="train", validation="validation",
            test="test",
        ),
        model=ModelConfig(width=4, depth=1, heads=1),
        training=TrainingConfig(epochs=3, batch_size=16),
        mesh=MeshConfig(data=1),
    )
"""


@pytest.fixture
def table_config(feature_folder, tmp_path):
    """A task with one label."""
    file = tmp_path / "table.py"
    file.write_text(CONFIG.format(task="features", path=str(feature_folder)))
    return str(file)


@pytest.fixture
def topics_config(tmp_path):
    """A task with several labels."""
    folder = tmp_path / "topics"
    folder.mkdir()
    lines = [
        json.dumps({"text": f"about {' and '.join(topics)}", "label": topics})
        for topics in (["sun"], ["sun", "rain"], ["rain"], ["wind"], [])
    ]
    for split in ("train", "validation", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(4 * lines))
    file = tmp_path / "topics.py"
    file.write_text(CONFIG.format(task="multi_label", path=str(folder)))
    return str(file)


@pytest.fixture
def compare(table_config, tmp_path):
    """Returns a function that runs the command, by default on the small table."""

    def run(*flags, losses="softmax,as_softmax", seeds="0,1", configs=()):
        command = ["--config", *(configs or [table_config]), "--compilation-cache="]
        command += ["--workdir", str(tmp_path / "grid")]
        return main([*command, "--losses", losses, "--seeds", seeds, *flags])

    return run


@pytest.fixture
def trained(monkeypatch):
    """Stands in for training; returns the cells that came to it."""
    cells = []

    def train_and_evaluate(config, workdir, *, quiet, records):
        cells.append((config.loss.name, config.seed))
        result = make_result(config, score=0.6)
        workdir.mkdir(parents=True)
        for name, value in (("config", as_dict(config)), ("result", result)):
            (workdir / f"{name}.json").write_text(json.dumps(value))
        return result

    monkeypatch.setattr(train.loop, "train_and_evaluate", train_and_evaluate)
    # The plots have tests of their own.
    monkeypatch.setattr("train.comparison.report.make_plots", lambda rows: [])
    return cells


def stop_at(monkeypatch, number, stop):
    """Lets `stop` happen in place of the given training."""
    inner, calls = train.loop.train_and_evaluate, []

    def train_and_evaluate(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) == number:
            stop()
        return inner(*arguments, **keywords)

    monkeypatch.setattr(train.loop, "train_and_evaluate", train_and_evaluate)


@pytest.mark.parametrize(
    ("flags", "grid", "message"),
    [
        ([], {"losses": "softmax,as_sofmax"}, "did you mean `as_softmax`?"),
        ([], {"losses": "multi_label_as_softmax"}, "which has one label; what fits is"),
        # The last loss of the grid is refused before the first is trained.
        (
            ["--config.loss.options.k=-1"],
            {"losses": "softmax,sparse_softmax"},
            "sparse_softmax",
        ),
        ([], {"seeds": "0,one"}, "--seeds must be whole numbers"),
        ([], {"seeds": "0,-1"}, "`seed` must be at least 0"),
        (["--config.seed=3"], {}, "--config.seed: --seeds decides it here"),
        (["--config.loss.name=focal"], {}, "--losses decides it here"),
        (["--config.task=text"], {}, "--config decides it here"),
        (["--config.training.epoch=1"], {}, "did you mean `training.epochs`?"),
        (["--config.data.train=t.csv"], {}, "t.csv"),
        (["--grid", "loss.delta=0.1,1.5"], {}, "`loss.delta` must be at least 0"),
        # The last point of the sweep as well.
        (["--grid", "model.name=mlp,cnn"], {}, "no 'cnn'"),
        (["--section", "all"], {}, "name it with --markdown"),
        (["--markdown", "none/results.md"], {}, "lies in no folder"),
    ],
)
def test_bad_input_is_one_line_and_nothing_written(
    compare, trained, tmp_path, capsys, flags, grid, message
):
    assert compare(*flags, **grid) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert message in said.err
    assert said.out == ""
    assert trained == []
    assert not (tmp_path / "grid").exists()


@pytest.mark.parametrize(("flag", "name"), [("workdir", "grid"), ("results", "cells")])
def test_a_folder_that_is_a_file_is_refused(
    compare, trained, tmp_path, capsys, flag, name
):
    (tmp_path / name).write_text("")
    assert compare("--results", str(tmp_path / "cells")) == 2
    assert f"error: --{flag}: {tmp_path / name} is a file" in capsys.readouterr().err


def test_two_configurations_of_one_name_are_refused(
    compare, trained, tmp_path, table_config, capsys
):
    (tmp_path / "other").mkdir()
    other = shutil.copy(table_config, tmp_path / "other")
    assert compare(configs=[table_config, other]) == 2
    assert "two files are called table; rename one" in capsys.readouterr().err


def test_a_cell_of_another_configuration_is_refused(compare, trained, capsys):
    assert compare("--config.loss.delta=0.1") == 0
    assert compare("--config.loss.delta=0.4") == 2
    assert "loss.delta: 0.1 there, 0.4 asked for" in capsys.readouterr().err
    assert compare("--config.loss.logit_margin=2") == 2
    assert "loss.delta: 0.1 there, None asked for" in capsys.readouterr().err
    assert len(trained) == 4
    # softmax has no margin, so its cells are still the same.
    assert compare("--config.loss.delta=0.4", losses="softmax") == 0
    assert len(trained) == 4


def test_finished_cells_are_not_trained_again(compare, trained, tmp_path, capsys):
    assert compare() == 0
    assert trained == [(n, s) for n in ("softmax", "as_softmax") for s in (0, 1)]
    assert compare() == 0
    assert len(trained) == 4
    assert "nothing to train" in capsys.readouterr().out

    # A table grows: one seed and one loss more.
    assert compare(losses="softmax,as_softmax,focal", seeds="0,1,2") == 0
    assert trained[4:] == [
        ("softmax", 2),
        ("as_softmax", 2),
        ("focal", 0),
        ("focal", 1),
        ("focal", 2),
    ]
    assert "4 of 9 cells are finished already" in capsys.readouterr().out
    rows = (tmp_path / "grid" / "table.md").read_text().splitlines()[4:]
    assert [row.split()[1] for row in rows] == ["softmax", "as_softmax", "focal"]


def test_cells_are_all_that_a_report_needs(
    compare, trained, tmp_path, monkeypatch, capsys
):
    """A fresh clone has neither the runs' folders nor the data."""
    assert compare("--results", str(tmp_path / "cells")) == 0
    files = sorted(path.name for path in (tmp_path / "cells").iterdir())
    assert files == [
        f"table-{loss}-seed_{seed}.json"
        for loss in ("as_softmax", "softmax")
        for seed in (0, 1)
    ]
    made = (tmp_path / "grid" / "table.md").read_text()
    shutil.rmtree(tmp_path / "grid")
    shutil.rmtree(tmp_path / "data")
    monkeypatch.setattr("train.tasks.prepare", None)
    assert compare("--results", str(tmp_path / "cells")) == 0
    assert (tmp_path / "grid" / "table.md").read_text() == made
    assert len(trained) == 4


def test_a_run_that_ended_before_its_cell_was_kept_is_not_trained_again(
    compare, trained, tmp_path
):
    assert compare() == 0
    cell = tmp_path / "grid" / "results" / "table-softmax-seed_1.json"
    kept = cell.read_text()
    cell.unlink()
    assert compare() == 0
    assert cell.read_text() == kept
    assert len(trained) == 4


def test_a_damaged_cell_is_refused(compare, trained, tmp_path, capsys):
    assert compare() == 0
    (tmp_path / "grid" / "results" / "table-softmax-seed_1.json").write_text("{")
    assert compare() == 2
    assert "remove it to train it again" in capsys.readouterr().err


def test_a_sweep_trains_no_cell_twice(compare, trained, tmp_path, capsys):
    assert compare("--grid", "loss.delta=0.05,0.1,0.10", seeds="0") == 0
    assert trained == [("softmax", 0), ("as_softmax", 0), ("as_softmax", 0)]
    files = sorted(path.name for path in (tmp_path / "grid" / "results").iterdir())
    assert files == [
        "table-as_softmax-loss.delta=0.05-seed_0.json",
        "table-as_softmax-loss.delta=0.1-seed_0.json",
        "table-softmax-seed_0.json",
    ]
    assert "\nas_softmax delta=0.05 " in capsys.readouterr().out


def test_tasks_are_compared_side_by_side(
    compare, trained, table_config, topics_config, tmp_path, capsys
):
    """For several labels, a loss means its sibling."""
    configs = [table_config, topics_config]
    results = tmp_path / "results.md"
    results.write_text("# Results\n")
    assert compare("--markdown", str(results), configs=configs) == 0
    assert [loss for loss, _ in trained[4:]] == 2 * ["multi_label_softmax"] + 2 * [
        "multi_label_as_softmax"
    ]
    said = capsys.readouterr().out
    assert "\nsoftmax and as_softmax on table\n" in said
    assert "\nmulti_label_softmax and multi_label_as_softmax on topics\n" in said
    assert (
        "[5/8] topics-multi_label_softmax-seed_0: test micro_f1 0.6000, 2.5 s; about "
        in said
    )
    text = results.read_text(encoding="utf-8")
    assert text.startswith("# Results\n\n<!-- table:start -->\n\n### softmax and as_")
    assert "<!-- topics:start -->" in text
    assert f"--config {table_config} {topics_config} " in text


def test_a_loss_without_a_sibling_is_refused(
    compare, trained, table_config, topics_config, capsys
):
    assert compare(configs=[table_config, topics_config], losses="softmax,focal") == 2
    said = capsys.readouterr().err
    assert "focal does not fit topics, which has several labels an example; " in said
    assert "multi_label_as_softmax" in said
    assert trained == []


def test_the_last_lines_say_where_the_report_lies(compare, trained, tmp_path, capsys):
    assert compare(losses="softmax") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[1/2] table-softmax-seed_0"
    # A whole line, whatever notes came before it.
    assert lines[1].startswith(
        "[1/2] table-softmax-seed_0: test accuracy 0.6000, 2.5 s; about "
    )
    assert lines[3] == "[2/2] table-softmax-seed_1: test accuracy 0.6000, 2.5 s"
    assert lines[5] == "softmax on table"
    assert "softmax      2  60.00 ± 0.00" in "\n".join(lines)
    assert lines[-1] == f"report: {tmp_path / 'grid' / 'report.html'}"
    assert (tmp_path / "grid" / "report.html").exists()


def interrupt():
    raise KeyboardInterrupt


def stopped():
    raise Stopped(signal.SIGTERM, "7 mini-steps done")


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("stop", "number"),
    [
        (interrupt, signal.SIGINT),
        (stopped, signal.SIGTERM),
        (terminate, signal.SIGTERM),
    ],
)
def test_an_interrupted_grid_goes_on(
    compare, trained, tmp_path, capsys, monkeypatch, stop, number
):
    handler = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patched:
        stop_at(patched, 3, stop)
        assert compare() == 128 + number
    assert signal.getsignal(signal.SIGTERM) == handler
    said = capsys.readouterr().err
    assert said.startswith(f"stopped by {number.name}; finished cells are kept in ")
    assert said.endswith("give the same command again to go on\n")
    assert said.count("\n") == 1
    assert trained == [("softmax", 0), ("softmax", 1)]
    assert not (tmp_path / "grid" / "report.html").exists()
    assert len(list((tmp_path / "grid" / "results").iterdir())) == 2

    assert compare() == 0
    assert trained[2:] == [("as_softmax", 0), ("as_softmax", 1)]
    assert (tmp_path / "grid" / "report.html").exists()


def test_real_training_ends_in_a_report(
    compare, table_config, topics_config, tmp_path, capsys
):
    configs = [table_config, topics_config]
    assert compare(configs=configs, losses="as_softmax", seeds="1") == 0
    cells = tmp_path / "grid" / "results"
    names = ("table-as_softmax-seed_1", "topics-multi_label_as_softmax-seed_1")
    table, topics = (json.loads((cells / f"{n}.json").read_text()) for n in names)
    assert table["config"]["seed"] == topics["config"]["seed"] == 1
    assert (table["metric"], topics["metric"]) == ("accuracy", "micro_f1")
    assert topics["config"]["loss"]["name"] == "multi_label_as_softmax"
    page = (tmp_path / "grid" / "report.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 2 * 8
    if table["suspicious"]:
        assert "<dd>“x " in page
    assert "\nmulti_label_as_softmax " in capsys.readouterr().out
    # The run's folder stays.
    assert (tmp_path / "grid" / names[0] / "config.json").exists()
