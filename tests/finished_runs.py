"""Results of runs that never ran, for the tests of tables, plots and comparisons."""

import numpy as np

from train.comparison.results import Comparison, Run
from train.config import Config, LossConfig, as_dict
from train.tasks import find_task

METRICS = {
    "image": ("accuracy", "macro_f1"),
    "features": ("accuracy", "macro_f1"),
    "text": ("accuracy", "macro_f1"),
    "multi_label": ("micro_f1", "macro_f1", "accuracy"),
    "tokens": ("f1", "precision", "recall", "accuracy"),
    "next_token": ("log_likelihood", "perplexity", "accuracy"),
}
TUNED = {"multi_label": ("micro_f1_tuned", "macro_f1_tuned")}


def make_result(config, *, score=0.9, epochs=5, test=True, bad=False):
    """A `result.json` whose scores rise with its epochs, up to `score`.

    With `bad`, no validation loss is finite and no margin was counted.
    """
    names = METRICS[config.task]
    records = [
        {
            "epoch": epoch,
            "train_loss": 1.0 / epoch,
            "train_accuracy": 1 - 0.6 / epoch,
            "validation_loss": None if bad else 1.1 / epoch,
            **{f"validation_{name}": score - 0.5 / epoch for name in names},
            "settled_share": 1 - 1 / epoch if "as_softmax" in config.loss.name else 0.0,
        }
        for epoch in range(1, epochs + 1)
    ]
    more = (*names[1:], *TUNED.get(config.task, ()))
    figures = {names[0]: score} | dict.fromkeys(more, 0.5)
    figures = {"loss": 0.2, **figures}
    if config.task != "next_token":  # There no logits are kept to calibrate.
        figures |= {"ece": 0.04, "ece_calibrated": 0.01}
    splits = ("validation", "test") if test else ("validation",)
    rng = np.random.default_rng(config.seed)
    counts = [rng.integers(0, 0 if bad else 9, 40, endpoint=True) for _ in range(2)]
    return {
        "task": config.task,
        "metric": names[0],
        "best_epoch": epochs,
        **{f"{split}_{n}": value for split in splits for n, value in figures.items()},
        **{name: records[-1][name] for name in ("train_loss", "settled_share")},
        "gradient_steps": 40,
        "records": records,
        "margins": {
            "edges": np.linspace(-1, 1, 41).round(6).tolist(),
            "before": counts[0].tolist(),
            "after": counts[1].tolist(),
        },
        "logit_margins": {
            "edges": np.linspace(-10, 10, 41).round(6).tolist(),
            "before": counts[0].tolist(),
            "after": counts[1].tolist(),
        },
        "seconds": 2.5,
        "config": as_dict(config),
        "versions": {"jax": "0.10.2"},
        "machine": {"device": "cpu", "processor": "x86_64"},
    }


def make_run(loss="softmax", seed=0, *, task="image", point=(), label=None, **result):
    """A run of `loss`; `result` are arguments of `make_result`."""
    config = Config(task=task, seed=seed, loss=LossConfig(name=loss))
    made = make_result(config, **result)
    return Run(label or loss, loss, dict(point), seed, made)


def compare(runs, name="digits"):
    """The comparison of some runs, of the task that they have."""
    runs = list(runs)
    return Comparison(name, runs, find_task(runs[0].result["task"]).target)


def make_runs(losses=("softmax", "as_softmax"), seeds=(0, 1), **fields):
    """Runs of every loss with every seed; a seed adds 0.01 to the score."""
    return [
        make_run(loss, seed, score=0.9 + 0.01 * seed, **fields)
        for loss in losses
        for seed in seeds
    ]
