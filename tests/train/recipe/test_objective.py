"""Losses by name, as the library's table has them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest

from as_softmax_jax.losses import LOSSES
from train.config import LossConfig, ModelConfig
from train.errors import ConfigError
from train.recipe.objective import check_sub_centers, choose_head, make_objective


def objective(*, target="labels", num_classes=5, ordered=False, **fields):
    config = LossConfig(**fields)
    return make_objective(
        config, target=target, num_classes=num_classes, ordered=ordered
    )


# With extra inputs: `tests/train/training/test_each_loss_trains.py`.
@pytest.mark.parametrize(
    "name", [name for name, row in LOSSES.items() if not row.extras]
)
def test_every_loss_of_the_table_runs_by_its_name(name, quick_jit):
    row = LOSSES[name]
    loss = objective(target=row.target, name=name, num_classes=12, ordered=True)
    logits = jax.random.normal(jax.random.key(0), (6, row.num_logits(12)))
    labels = jnp.arange(6, dtype=jnp.int32)
    if row.target == "multi_hot":
        labels = jax.nn.one_hot(labels, 12, dtype=bool)
    where = jnp.array([True] * 4 + [False] * 2)
    arguments = dict(loss.keywords) | {"where": where}
    losses = quick_jit(functools.partial(loss.losses, **arguments))(logits, labels)
    settled = quick_jit(functools.partial(loss.settled, **arguments))(logits, labels)
    assert losses.shape == settled.shape == (6,)
    assert settled.dtype == bool
    assert jnp.isfinite(losses).all()
    assert (losses[4:] == 0).all()
    assert hash(loss) == hash(dataclasses.replace(loss))


def test_the_table_decides_whether_an_example_settles():
    logits = jnp.array([[9.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    labels = jnp.array([0, 0], jnp.int32)
    arguments = {"where": jnp.array([True, True]), "delta": jnp.float32(0.1)}
    loss = objective(name="as_softmax", delta=0.1)
    settled = loss.settled(logits, labels, **arguments)
    assert settled.tolist() == [True, False]


@pytest.mark.parametrize(
    ("fields", "margin", "value", "unit"),
    [
        ({}, "logit_margin", LOSSES["as_softmax"].keywords["logit_margin"], "logits"),
        ({"logit_margin": 3}, "logit_margin", 3.0, "logits"),
        ({"delta": 0.2}, "delta", 0.2, "probability"),
        ({"logit_margin": 0.0}, "logit_margin", 0.0, "logits"),
        ({"name": "entmax", "delta": 0.2}, None, 0.0, "probability"),
    ],
)
def test_the_loss_has_the_margin_that_is_given(fields, margin, value, unit):
    loss = objective(**fields)
    keywords = dict(loss.keywords)
    assert loss.margin == loss.row.margin == margin
    assert loss.active_up_to(keywords) == value
    assert loss.unit == unit
    assert {*keywords} & {"delta", "logit_margin"} == {margin} - {None}


def test_an_output_layer_without_logits_takes_the_margin_of_the_loss():
    for fields in ({"logit_margin": 3.0}, {"delta": 0.2}):
        loss = objective(**fields)
        assert loss.linear_keywords(dict(loss.keywords)) == fields | {
            name: jnp.float32(value) for name, value in fields.items()
        }


def test_several_vectors_a_class_are_of_cosines_alone():
    model = ModelConfig(sub_centers=3)
    check_sub_centers(model, "blocked_cosine")
    with pytest.raises(ConfigError, match="the output layer is linear"):
        check_sub_centers(model, "linear")


def test_a_layer_without_cosines_takes_the_margin_of_a_loss_by_its_own_name():
    loss = objective(name="arcface", options={"margin": 0.25})
    assert loss.linear_keywords(dict(loss.keywords)) == {
        "angle": 0.25,
        "scale": 64.0,
        "beyond": "linear",
        "straight_through": False,
    }


def test_options_fill_the_keywords_and_keep_their_type():
    assert objective(name="am_softmax", options={"scale": 10}).keywords == (
        ("margin", LOSSES["am_softmax"].keywords["margin"]),
        ("scale", 10.0),
    )
    ((_, k),) = objective(name="sparse_softmax", options={"k": 3.0}).keywords
    assert type(k) is int


def test_an_option_may_be_a_name():
    loss = objective(name="ldr_kl", options={"logit_norm": "l1", "temperature": 2})
    assert dict(loss.keywords) == {
        "temperature": 2.0,
        "margin": LOSSES["ldr_kl"].keywords["margin"],
        "logit_norm": "l1",
    }


def test_refuses_a_choice_of_all_classes():
    """Where there is nothing to choose there is nothing to learn."""
    fields = {"name": "multi_label_soft_top_k", "target": "multi_hot"}
    with pytest.raises(ConfigError, match="with 5 classes and k=5, alpha"):
        objective(**fields)
    assert objective(**fields, options={"k": 4}).keywords[0] == ("k", 4)


def test_only_cosines_are_scaled_into_the_logits_of_their_softmax():
    loss = objective(name="am_softmax", options={"scale": 2.0})
    assert loss.row.input == "cosines"
    assert loss.scale == 2.0
    assert objective(name="softmax").scale == 1.0


def test_refuses_a_loss_for_one_label_where_there_are_many():
    with pytest.raises(ConfigError, match="softmax wants one label an example"):
        objective(target="multi_hot", name="softmax")


@pytest.mark.parametrize(
    ("name", "head", "chosen"),
    [
        ("as_softmax", "", "linear"),
        ("as_softmax", "blocked", "blocked"),
        ("softmax", "blocked", "blocked"),
        ("am_softmax", "", "cosine"),
        ("am_softmax", "cosine", "cosine"),
        ("arcface", "blocked_cosine", "blocked_cosine"),
        ("ordinal_cross_entropy", "", "thresholds"),
        ("softmax", "fourier", "fourier"),
        ("dismax", "", "distance"),
    ],
)
def test_the_loss_chooses_its_output_layer(name, head, chosen):
    assert choose_head(head, objective(name=name, ordered=True), ordered=True) == chosen


@pytest.mark.parametrize(
    ("name", "head", "message"),
    [
        ("softmax", "linaer", "`model.head`: no 'linaer'; did you mean `linear`?"),
        ("entmax", "blocked", "blocked goes with as_softmax, softmax, and"),
        ("am_softmax", "linear", "linear gives logits, and `loss.name` am_softmax "),
        ("softmax", "cosine", "cosine gives cosines, and `loss.name` softmax takes"),
        ("focal", "blocked_cosine", "goes with am_softmax, arcface, margin_softmax"),
        ("arcface", "blocked", "it can be cosine, blocked_cosine"),
        ("softmax", "thresholds", "thresholds gives thresholds, and `loss.name` sof"),
        ("softmax", "fourier", "fourier is for classes in order, of the ordinal tas"),
    ],
)
def test_an_output_layer_that_does_not_fit_is_refused(name, head, message):
    with pytest.raises(ConfigError) as refusal:
        choose_head(head, objective(name=name), ordered=False)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "as_sotfmax"}, ["loss.name", "did you mean `as_softmax`?"]),
        (
            {"name": "multi_label_as_softmax"},
            ["wants any number of labels", "it can be ", " arcface, as_softmax"],
        ),
        ({"options": {"smoothing": 0.1}}, ["has no 'smoothing'; it has no options"]),
        (
            {"name": "label_smoothing", "options": {"smooth": 0.1}},
            ["has no 'smooth'; did you mean `smoothing`?"],
        ),
        (
            {"name": "label_smoothing", "options": {"smoothing": 2.0}},
            ["`loss`: label_smoothing: ", "2.0"],
        ),
        (
            {"name": "sparse_softmax", "options": {"k": 2.5}},
            ["`loss.options.k` must be whole", "2.5"],
        ),
        (
            {"name": "label_smoothing", "options": {"smoothing": "x"}},
            ["`loss.options.smoothing` must be a number; got 'x'"],
        ),
        (
            {"name": "ldr_kl", "options": {"logit_norm": 1.0}},
            ["`loss.options.logit_norm` must be a name; got 1.0"],
        ),
        (
            {"name": "ldr_kl", "options": {"logit_norm": "l2"}},
            ["`loss`: ldr_kl: `logit_norm` must be one of"],
        ),
        (
            {"name": "ordinal_cross_entropy"},
            ["is for two or more classes in order", "such as ordinal_text"],
        ),
    ],
)
def test_refuses(fields, words):
    with pytest.raises(ConfigError) as refusal:
        objective(**fields)
    for word in words:
        assert word in str(refusal.value)
