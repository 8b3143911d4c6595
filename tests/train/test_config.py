"""The configuration: overrides, refusals, and that each file of configs/ works."""

import ast
import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from small_inputs import small_flags

import train
from as_softmax_jax.losses import LOSSES
from train import config as config_module
from train.config import (
    Config,
    as_dict,
    check,
    first_difference,
    flatten,
    from_dict,
    keys,
    keywords_of_field,
    load,
    nearest,
    settings,
)
from train.errors import ConfigError
from train.evaluation.evaluation import eval_step
from train.loop import initial_state
from train.recipe.mesh import put_batch
from train.recipe.recipe import make_recipe
from train.tasks import prepare
from train.training.feeds import make_feed
from train.training.steps import BatchInfo, train_step

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)

FOLDER = Path(train.__file__).parents[1] / "configs"
CONFIGS = sorted(FOLDER.rglob("*.py"))
QUICK = ("clinc150_minilm", "digits")
DIGITS = next(path for path in CONFIGS if path.name == "digits.py")


def test_a_configuration_of_the_trainer_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "digits.py", "configs/digits", "configs/digits.py", DIGITS):
        assert load(name) == load(DIGITS)
    assert load("paper/sst5").data.name == "sst5"
    own = tmp_path / "configs" / "digits.py"
    own.parent.mkdir()
    own.write_text(
        "from train.config import *\ndef get_config(): return Config(seed=3)"
    )
    assert load("configs/digits.py").seed == 3


def test_refuses_a_name_of_none_with_those_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot read digit:.*digits.*paper/wos"):
        load("digit")


@pytest.mark.parametrize("package", ["train", "as_softmax_train"])
def test_a_file_is_the_same_in_a_clone_and_where_the_trainer_is_installed(
    package, tmp_path
):
    file = tmp_path / "own.py"
    file.write_text(
        f"from {package}.config import Config\nfrom {package} import config\n"
        "def get_config(): return Config(loss=config.LossConfig(name='entmax'))"
    )
    assert load(file).loss.name == "entmax"


def test_overrides_take_the_type_of_their_field():
    flags = [
        "--config.seed=7",
        "--config.loss.delta=1",
        "--config.loss.options.smoothing=0.2",
        "--config.data.feature_columns=a,b",
        "--config.data.path=with=sign",
    ]
    config = load(DIGITS, flags)
    assert config.seed == 7
    assert config.loss.delta == 1.0
    assert isinstance(config.loss.delta, float)
    assert config.loss.options == {"smoothing": 0.2}
    assert config.data.feature_columns == ("a", "b")
    assert config.data.path == "with=sign"


def margins(*flags):
    """The two margins of the configuration of digits; its file has logit_margin=2."""
    loss = load(DIGITS, [f"--config.loss.{flag}" for flag in flags]).loss
    return loss.logit_margin, loss.delta


def test_a_flag_for_a_margin_takes_the_place_of_the_other_one():
    assert margins() == (2.0, None)
    assert margins("delta=0.3") == (None, 0.3)
    assert margins("delta=0.3", "delta=0.4") == (None, 0.4)
    assert margins("logit_margin=3", "delta=none") == (3.0, None)
    assert margins("delta=none") == (2.0, None)
    assert margins("logit_margin=NONE") == (None, None)


@pytest.mark.parametrize("order", [1, -1])
def test_flags_for_both_margins_are_refused(order):
    with pytest.raises(ConfigError) as refusal:
        margins(*["delta=0.2", "logit_margin=3"][::order])
    assert "leave out `loss.delta` for a margin in logits, or `loss.logit_ma" in str(
        refusal.value
    )


def test_a_class_may_have_any_name():
    flags = ["B-a.b=0.5", "it is=2", "O=1"]
    flags = [f"--config.loss.class_margins.{flag}" for flag in flags]
    loss = load(DIGITS, flags).loss
    assert loss.class_margins == {"B-a.b": 0.5, "it is": 2.0, "O": 1.0}


def settings_of(name, **fields):
    return settings(as_dict(Config(loss=config_module.LossConfig(name=name, **fields))))


def test_what_a_loss_does_not_read_is_as_by_default():
    unread = {
        "delta": 0.1,
        "logit_margin_warmup": 0.5,
        "class_margins": {"O": 0.5},
        "margin_end_share": 0.1,
    }
    for name in ("softmax", "entmax"):
        assert settings_of(name, **unread) == settings_of(name)
    for key, value in unread.items():
        assert settings_of("as_softmax", **{key: value}) != settings_of("as_softmax")
    # The course of the other margin.
    assert settings_of("as_softmax", delta=0.1, logit_margin_warmup=0.5) == (
        settings_of("as_softmax", delta=0.1)
    )


def test_what_nobody_gives_is_what_the_table_has():
    default = LOSSES["as_softmax"].keywords["logit_margin"]
    assert settings_of("as_softmax") == settings_of("as_softmax", logit_margin=default)
    assert settings_of("as_softmax")["compact.slack"] == 0.0
    assert settings_of("as_softmax", delta=0.1)["compact.slack"] == 0.3
    assert settings_of("sparsemax")["compact.slack"] == 0.3


def test_what_nobody_gives_is_written_out_for_what_is_stored():
    def written(**fields):
        return config_module.with_margin(
            Config(loss=config_module.LossConfig(**fields))
        ).loss

    default = LOSSES["as_softmax"].keywords["logit_margin"]
    assert written(name="as_softmax").logit_margin == default
    for given in ({"name": "as_softmax", "delta": 0.2}, {"name": "softmax"}):
        assert written(**given) == config_module.LossConfig(**given)


def test_a_configuration_of_an_earlier_version_counts_as_it_was():
    """It had delta=0.1 for every loss, and no other margin."""
    plain = as_dict(Config())
    plain["loss"] = {"name": "softmax", "delta": 0.1, "delta_warmup": 0.0}
    assert settings(plain) == settings_of("softmax")
    plain["loss"]["name"] = "as_softmax"
    assert settings(plain) == settings_of("as_softmax", delta=0.1)
    assert from_dict(plain).loss == config_module.LossConfig(delta=0.1)


def test_settings_flatten_to_dotted_keys():
    nested = {"seed": 1, "loss": {"options": {}, "delta": 0.1, "more": {"k": [1]}}}
    assert flatten(nested) == {"seed": 1, "loss.delta": 0.1, "loss.more.k": [1]}


@pytest.mark.parametrize(
    ("held", "asked", "said"),
    [
        ({"a": 1}, {"a": 1}, ""),
        ({"b": 1, "a": 1}, {"b": 2, "a": 2}, "a: 1 there, 2 asked for"),
        ({"a": 1}, {}, "a: 1 there, nothing asked for"),
        ({}, {"a": None}, "a: nothing there, None asked for"),
    ],
)
def test_the_first_difference_is_named(held, asked, said):
    assert first_difference(held, asked) == said


def test_a_stored_value_of_an_older_version_is_read():
    plain = as_dict(Config())
    plain["model"]["head"] = "dense"
    assert from_dict(plain) == Config()


def test_as_dict_is_what_json_gives_back():
    plain = as_dict(load(DIGITS, ["--config.data.feature_columns=a,b"]))
    assert plain["data"]["feature_columns"] == ["a", "b"]
    assert plain["loss"]["options"] == {}
    assert plain.keys() == {field.name for field in dataclasses.fields(Config)}


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--config.loss.dleta=0.2", ["loss.dleta", "did you mean `loss.delta`?"]),
        ("--config.lr=0.2", ["unknown key `lr`", "it can be", "`loss.delta`"]),
        ("--config.loss.delta=high", ["loss.delta", "a finite number", "'high'"]),
        ("--config.loss.logit_margin=-1", ["loss.logit_margin", "at least 0", "-1"]),
        ("--config.loss.logit_margin=inf", ["a finite number or none", "inf"]),
        ("--config.loss.class_margins.O=x", ["loss.class_margins.O", "'x'"]),
        ("--config.loss.delta=1.5", ["loss.delta", "at most 1.0", "1.5"]),
        ("--config.loss.delta=nan", ["loss.delta", "a finite number", "nan"]),
        ("--config.training.epochs=2.5", ["training.epochs", "a whole number"]),
        ("--config.training.epochs=0", ["training.epochs", "at least 1", "0"]),
        ("--config.optimizer.name=adam", ["no 'adam'", "did you mean `adamw`?"]),
        ("--config.loss.options.smoothing=1x", ["loss.options.smoothing", "'1x'"]),
        ("--config.loss.options=x", ["unknown key `loss.options`"]),
        ("--config.data=x", ["unknown key `data`"]),
        ("--epochs=3", ["unknown flag '--epochs=3'", "--config.loss.delta=0.2"]),
        ("--config.loss.delta", ["unknown flag", "--config.loss.delta=0.2"]),
    ],
)
def test_refuses_an_override(flag, words):
    with pytest.raises(ConfigError) as refusal:
        load(DIGITS, [flag])
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def get_config(:\n", [":1:", "syntax error"]),
        ("x = 1\n", ["define get_config()"]),
        ("def get_config():\n    return {}\n", ["define get_config()"]),
        ("import no_such_thing\n", [":1:", "no_such_thing"]),
        (
            "from train.config import *\n"
            "def get_config():\n"
            "    return Config(loss=LossConfig(detla=0.1))\n",
            [":3:", "unknown key `detla`", "did you mean `delta`?"],
        ),
        (
            "from train.config import *\n"
            "def get_config():\n"
            "    return Config(loss=LossConfig(delta='0.1'))\n",
            ["loss.delta", "a finite number", "'0.1'"],
        ),
        (
            "from train.config import *\n"
            "def get_config():\n"
            "    return Config(loss=LossConfig(delta=0.1, logit_margin=2.0))\n",
            ["`loss.logit_margin` and `loss.delta`: ", "leave out `loss.delta` for"],
        ),
        (
            "from train.config import *\n"
            "def get_config():\n"
            "    return Config(loss=3)\n",
            ["loss", "LossConfig", "3"],
        ),
    ],
)
def test_refuses_a_file(tmp_path, body, words):
    path = tmp_path / "mine.py"
    path.write_text(body, encoding="utf-8")
    with pytest.raises(ConfigError) as refusal:
        load(path)
    for word in words:
        assert word in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_refuses_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*none\.py"):
        load(tmp_path / "none.py")


def test_refuses_a_file_that_is_not_utf8(tmp_path):
    path = tmp_path / "latin.py"
    path.write_bytes("# é".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(path)


def test_nearest_names_all_when_none_is_near():
    assert nearest("zzz", ["b", "a"]) == "it can be `a`, `b`"


def test_defaults_pass_their_own_check():
    check(Config())


def test_something_reads_every_key():
    read = set()
    for path in Path(train.__file__).parent.rglob("*.py"):
        if path.name != "config.py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            read |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    # A loss reads the field of its margin, and the warm-up of that.
    of_losses = {margin for row in LOSSES.values() for margin in row.margins}
    read |= {
        field
        for field, keywords in keywords_of_field().items()
        if len(keywords) == 1 and {*keywords} <= of_losses
    }
    unread = [key for key in keys() if key.rpartition(".")[2] not in read]
    assert unread == []


@pytest.mark.parametrize(
    "path",
    [
        # A network from scratch and a pretrained one are quick enough.
        pytest.param(path, marks=[pytest.mark.long] * (path.stem not in QUICK))
        for path in CONFIGS
    ],
    ids=lambda path: path.stem,
)
def test_config_takes_two_steps_and_something_reads_what_it_sets(
    path, tmp_path, encoder, monkeypatch, quick_jit
):
    monkeypatch.setenv("AS_SOFTMAX_DATA", str(tmp_path))
    config = load(path, small_flags(path, tmp_path, encoder))
    read = _record_reads(monkeypatch)
    jax.clear_caches()  # a cached trace would read nothing
    data = prepare(config)
    recipe = make_recipe(config, data)
    before = state = initial_state(recipe, seed=0)
    feed = make_feed(recipe, data.splits["train"], seed=0)
    step = quick_jit(train_step, static_argnums=0)
    for first, item in zip((True, False), feed.items(lambda: None), strict=False):
        batch = put_batch(recipe.mesh, item.batch)
        info = BatchInfo(np.int32(item.num_seen), np.bool_(first), np.bool_(item.last))
        state = step(recipe, state, batch, info)
    jax.eval_shape(lambda params: eval_step(recipe.scorer, params, batch), state.params)

    assert state.mini_step == 2
    assert np.isfinite(state.sums.loss)
    moved = jax.tree.map(lambda a, b: (a != b).any(), before.params, state.params)
    assert any(jax.tree.leaves(moved))
    # The loop reads it between steps, of which there are none here.
    of_the_loop = {
        ("TrainingConfig", "evaluate_steps"),
        ("TrainingConfig", "evaluate_every"),
    }
    assert _changed_keys(config) - read - of_the_loop == set()


def _record_reads(monkeypatch):
    """Returns a set that fills with (class, field) as train/ reads them."""
    read = set()
    own = Path(config_module.__file__).parent

    def getattribute(self, name):
        caller = sys._getframe(1).f_code.co_filename
        if not Path(caller).is_relative_to(own) and str(own.parent) in caller:
            read.add((type(self).__name__, name))
        return object.__getattribute__(self, name)

    for name, kind in vars(config_module).items():
        if name.endswith("Config") and dataclasses.is_dataclass(kind):
            monkeypatch.setattr(kind, "__getattribute__", getattribute, raising=False)
    return read


def _changed_keys(config):
    """Returns (class, field) for every field that differs from its default."""
    changed = set()
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            changed |= _changed_keys(value)
        elif value != getattr(type(config)(), field.name):
            changed.add((type(config).__name__, field.name))
    return changed
