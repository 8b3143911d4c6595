"""The scripts of benchmarks/ on tiny sizes: they run, and their tables hold figures."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.long
def test_the_script_for_an_accelerator_runs_here_on_tiny_sizes(tmp_path):
    command = [sys.executable, BENCHMARKS / "on_gpu.py", "--tiny", "--seconds=0.05"]
    ran = subprocess.run(
        [*command, f"--output={tmp_path / 'found'}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["left_out"] == []
    assert len(found["checked"]) == 8
    assert all(len(found[part]) == 1 for part in ("losses", "heads", "training"))
    assert found["training"][0]["settled"] == 0.5
    page = (tmp_path / "found.md").read_text()
    assert page.strip() in ran.stdout
    assert "0 of 8 forms err more than the plain formula." in page


@pytest.mark.long
def test_it_begins_nothing_when_the_time_is_up(tmp_path):
    command = [sys.executable, BENCHMARKS / "on_gpu.py", "--tiny"]
    flags = [f"--output={tmp_path / 'found'}", "--seconds-in-all=0"]
    subprocess.run([*command, *flags], check=True, cwd=tmp_path, capture_output=True)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["losses"] == found["heads"] == found["training"] == []
    assert "training with 50% settled" in found["left_out"]


@pytest.mark.long
def test_a_margin_over_many_classes_is_the_same_on_one_device_and_on_eight():
    command = [sys.executable, BENCHMARKS / "many_classes.py"]
    sizes = ["--classes=4000", "--width=8", "--rows=16"]
    ran = subprocess.run([*command, *sizes], capture_output=True, text=True, check=True)
    lines = ran.stdout.splitlines()
    shown = [line.split("|")[1:3] for line in lines if "4,000" in line]
    assert shown == [[" 1 ", " 4,000 "], [" 8 ", " 4,000 "]]
    apart = float(re.search(r"gradients are (\S+) apart", ran.stdout)[1])
    assert apart < 1e-5


def test_a_loss_that_misleads_is_told_from_one_that_does_not(monkeypatch, tmp_path):
    """One run whose loss rises while its score does, one where both agree."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import stopping

    data = {"train_examples": 0}
    scores, files = (0.5, 0.6, 0.7), []
    for name, delta, losses in (
        ("softmax", None, (1.0, 1.1, 1.2)),
        ("as_softmax", 0.1, (1.0, 0.9, 0.8)),
    ):
        both = zip(losses, scores, strict=True)
        records = [{"validation_loss": a, "validation_f1": b} for a, b in both]
        loss = {"name": name, "delta": delta}
        result = {"metric": "f1", "records": records}
        result["config"] = {"data": data, "loss": loss}
        files.append(tmp_path / f"cats-{name}-seed_0.json")
        files[-1].write_text(json.dumps(result))
    page = stopping.table(stopping.rows_of(files))
    assert "| cats, all, f1 | 3 | softmax | 1 | 1.00 | 20.00 |" in page
    assert "| cats, all, f1 | 3 | delta | 1 | -1.00 | 0.00 |" in page


def test_a_form_that_errs_more_than_the_plain_one_is_named(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import on_gpu

    plain = (1e-6, 1e-6)
    line = on_gpu.Checked("loss", "xla", "float32", "delta", 5, plain, plain)
    assert line.right
    wrong = line._replace(own=(1e-6, 1e-4))
    assert not wrong.right
    found = {"machine": "m", "ceilings": {"operations": 1.0, "bandwidth": 1.0}}
    found |= {part: [] for part in ("losses", "heads", "training", "left_out")}
    found["checked"] = [line._asdict(), wrong._asdict()]
    assert "1 of 2 forms err more than the plain formula: Checked(" in on_gpu.page(
        found
    )


@pytest.mark.parametrize(
    "name",
    ["poly", "two_head_average_k", "multi_label_sigmoid", "adaface", "sphereface2"],
)
def test_a_loss_has_a_line_of_times(name):
    """Each kind of input: labels, other logits, several labels, features, a number."""
    command = [sys.executable, BENCHMARKS / "every_loss.py", f"--losses={name}"]
    flags = ["--shapes=8x5,4x7", "--seconds=0.01"]
    ran = subprocess.run([*command, *flags], check=True, capture_output=True, text=True)
    cells = ran.stdout.strip().strip("|").split("|")
    assert cells[0].strip() == f"`{name}_loss`"
    *figures, why = cells[1:]
    assert all(float(cell.strip(" *")) > 0 for cell in figures)
    assert why.strip() or all("**" in cell for cell in figures)


def test_modes_are_set_beside_each_other_at_equal_seconds(monkeypatch):
    """By the last epoch that has ended when compact training does."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import training_speed

    def cell(mode, seconds, scores):
        epochs = [
            {"seconds": s, "test_accuracy": score}
            for s, score in zip(seconds, scores, strict=True)
        ]
        together = ["margin_compact_all", "softmax", "infobatch", "random"]
        config = {"task": "text"}
        return {"mode": mode, "seed": 0, "epochs": epochs, "config": config} | {
            "together_with": together
        }

    cells = [
        cell("margin_compact_all", (8, 2, 2), (0.7, 0.8, 0.9)),
        cell("softmax", (6, 6, 6), (0.5, 0.6, 0.75)),
        cell("infobatch", (13, 3, 3), (0.5, 0.6, 0.85)),
        cell("random", (2, 2, 2), (0.1, 0.2, 0.3)),
    ]
    (found,) = training_speed.at_equal_seconds({c["mode"]: [c] for c in cells})
    assert found.splitlines()[0].startswith("| seed 0, after 12.0 seconds | test acc")
    rows = {row.split("|")[1].strip(): row.split("|")[2:5] for row in found.split("\n")}
    titles = {name: mode.title for name, mode in training_speed.MODES.items()}
    assert rows[titles["softmax"]] == [" 60.00 ", " 18.0 ", " 75.00 "]
    assert rows[titles["infobatch"]] == ["  ", " 19.0 ", " 85.00 "]
    assert rows[titles["random"]] == [" 30.00 ", " 6.0 ", " 30.00 "]
    assert rows[titles["margin_compact_all"]] == [" 90.00 ", " 12.0 ", " 90.00 "]
