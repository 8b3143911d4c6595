"""Wrong labels that are put in: how many, which, and what stays right."""

import numpy as np
import pytest

from train.config import DataConfig, load
from train.data.records import Records
from train.errors import ConfigError
from train.loop import train_and_evaluate
from train.tasks import prepare
from train.tasks.wrong_labels import mislabel

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)


@pytest.mark.parametrize(
    ("labels", "untyped"),
    [(["a", "b", "c"], False), ([3, 5, 9], False), (["3", "5", "9"], True)],
)
def test_a_share_is_of_another_class_and_no_other_row_changes(labels, untyped):
    column = np.repeat(np.array(labels, object), 200)
    records = Records("train", "a table", {"label": column}, untyped)
    classes = (3, 5, 9) if untyped else tuple(labels)
    found = mislabel(records, DataConfig(wrong_labels=0.3), classes).column("label")
    wrong = found != column
    assert wrong.sum() == 180
    # Each of the two other classes, alike often.
    first = [found[wrong & (column == k)] == labels[k == labels[0]] for k in labels]
    np.testing.assert_allclose([part.mean() for part in first], 0.5, atol=0.2)
    again = mislabel(records, DataConfig(wrong_labels=0.3), classes).column("label")
    np.testing.assert_array_equal(found, again)
    assert mislabel(records, DataConfig(), classes) is records


def test_training_alone_has_them(feature_config, change, tmp_path):
    right = prepare(feature_config).splits
    noisy = change(feature_config, "data", wrong_labels=0.25)
    wrong = prepare(noisy).splits
    differ = right["train"].labels != wrong["train"].labels
    assert differ.sum() == round(0.25 * len(differ))
    for split in right.keys() - {"train"}:
        np.testing.assert_array_equal(right[split].labels, wrong[split].labels)
    result = train_and_evaluate(noisy, tmp_path / "run", quiet=True)
    assert result["validation_accuracy"] > 0


@pytest.mark.parametrize("task", ["wnut17", "goemotions", "next_token"])
def test_tasks_without_one_class_an_example_refuse(task):
    with pytest.raises(ConfigError, match="wrong_labels`: an example"):
        prepare(load(f"configs/{task}.py", ["--config.data.wrong_labels=0.1"]))
