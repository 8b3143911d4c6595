"""Tables as people have them: blanks, categories, names, and numbers as text."""

import csv
import json

import numpy as np
import pytest

from train.config import Config, DataConfig, ModelConfig, TrainingConfig
from train.data.records import Records, object_column
from train.errors import DataError
from train.loop import train_and_evaluate
from train.predict import main as predict
from train.tasks.cells import Column, is_blank
from train.tasks.features import FeatureCodec

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)
MIXED = Config(task="features", data=DataConfig(mixed_columns=True))


def table(**columns):
    arrays = {name: object_column(values) for name, values in columns.items()}
    return Records("train", "train.csv", arrays)


PEOPLE = {
    "age": ["22", "", "38", "26", "NA"],
    "sex": ["male", "female", " female", "female", "male"],
    "port": ["S", "C", None, "S", "Q"],
    "fare": [7.25, 71.3, 7.9, float("nan"), 53.1],
    "class": [3, 1, 3, 1, 1],
}


def test_columns_become_numbers_blanks_and_categories():
    codec = FeatureCodec.fit(MIXED, table(**PEOPLE))
    assert codec.table == (
        Column("age", fill=26.0, has_blanks=True),
        Column("sex", categories=("female", "male")),
        Column("port", categories=("C", "Q", "S"), has_blanks=True),
        Column("fare", fill=pytest.approx(30.5), has_blanks=True),
        Column("class", fill=1.0),
    )
    names = [name for column in codec.table for name in column.names]
    assert names == [
        *("age", "age=(blank)", "sex=female", "sex=male"),
        *("port=C", "port=Q", "port=S", "port=(blank)"),
        *("fare", "fare=(blank)", "class"),
    ]
    inputs = codec.encode(table(**PEOPLE)).inputs
    assert inputs.shape == (5, 11) == (5, *codec.spec(2).shape)
    raw = inputs * codec.deviation + codec.mean
    np.testing.assert_allclose(raw[:, 0], [22, 26, 38, 26, 26], rtol=1e-6)
    np.testing.assert_allclose(raw[:, 1], [0, 1, 0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(raw[:, 2], [0, 1, 1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(raw[2, 4:8], [0, 0, 0, 1], atol=1e-6)


def test_it_is_kept_with_the_run_and_read_again(tmp_path):
    codec = FeatureCodec.fit(MIXED, table(**PEOPLE))
    for name, text in codec.files().items():
        (tmp_path / name).write_text(text)
    again = FeatureCodec.load(MIXED, tmp_path)
    assert again.table == codec.table
    np.testing.assert_array_equal(
        again.encode(table(**PEOPLE)).inputs, codec.encode(table(**PEOPLE)).inputs
    )
    # A table of numbers alone is kept as ever.
    plain = FeatureCodec.fit(Config(task="features"), table(x=[1.0, 2.0]))
    assert "mixed" not in json.loads(plain.files()["features.json"])


def test_what_training_never_saw_is_none_of_it():
    codec = FeatureCodec.fit(MIXED, table(**PEOPLE))
    other = {name: [values[0]] for name, values in PEOPLE.items()}
    new = codec.encode(table(**other | {"sex": ["other"], "class": [""]})).inputs
    raw = new * codec.deviation + codec.mean
    np.testing.assert_allclose(raw[0, 2:4], 0, atol=1e-6)
    np.testing.assert_allclose(raw[0, -1], 1.0, rtol=1e-6)  # the median


def test_names_and_prose_are_left_out_and_said(capsys):
    people = {"name": [f"person {k}" for k in range(60)], "x": list(range(60))}
    empty = {"note": [""] * 60}
    codec = FeatureCodec.fit(MIXED, table(**people, **empty))
    assert codec.columns == ("x",)
    shown = capsys.readouterr().err
    assert "no feature: `name` (60 different texts), `note` (all blank)" in shown
    with pytest.raises(DataError, match="no column is left"):
        FeatureCodec.fit(MIXED, table(name=people["name"]))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("age", "old", "`age` has 'old' in row 1, and is a column of numbers"),
        ("age", "1_000", "`age` has '1_000' in row 1"),
        ("age", "1" + "0" * 400, "`age` has '1000"),
        ("fare", np.inf, "`fare` has 1 values that are not finite, the first in row 1"),
        ("fare", 1e300, "`fare` has 1e\\+300 in row 1, too far from training's"),
    ],
)
def test_what_is_no_number_is_refused_by_its_row(column, value, message):
    codec = FeatureCodec.fit(MIXED, table(**PEOPLE))
    with pytest.raises(DataError, match=message):
        codec.encode(table(**PEOPLE | {column: [value, *PEOPLE[column][1:]]}))


@pytest.mark.parametrize("value", [None, "", "  ", "NA", "n/a", "NaN", "?", np.nan])
def test_a_blank_has_many_forms(value):
    assert is_blank(value)


@pytest.mark.parametrize("value", [0, 0.0, "0", False, "none of it", np.inf])
def test_other_values_are_no_blanks(value):
    assert not is_blank(value)


def test_without_it_blanks_and_texts_say_how_to_have_it():
    plain = Config(task="features")
    for column in ("sex", "fare"):
        with pytest.raises(DataError, match=r"data\.mixed_columns=true"):
            FeatureCodec.fit(plain, table(**{column: PEOPLE[column]}))


def test_a_table_with_blanks_trains_and_predicts(tmp_path):
    generator = np.random.default_rng(0)
    for split, count in (("train", 300), ("validation", 80), ("new", 5)):
        with (tmp_path / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["name", "sex", "age", "label"])
            for k in range(count):
                sex, age = generator.choice(["male", "female"]), generator.integers(80)
                label = "yes" if sex == "female" or age < 12 else "no"
                shown = "" if generator.random() < 0.2 else age
                writer.writerow([f"{split} {k}", sex, shown, label])
    config = Config(
        task="features",
        data=DataConfig(source="files", path=str(tmp_path), mixed_columns=True),
        model=ModelConfig(width=16, depth=1),
        training=TrainingConfig(epochs=15, batch_size=16),
    )
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    assert result["validation_accuracy"] > 0.9
    out = tmp_path / "answers.jsonl"
    flags = ["--input", str(tmp_path / "new.csv"), "--output", str(out)]
    assert predict(["--workdir", str(tmp_path / "run"), *flags]) == 0
    assert len(out.read_text().splitlines()) == 5
