"""The grid: which cells a command means, and what it refuses."""

import pytest

from train.comparison.grid import (
    Point,
    Sweep,
    fitting_losses,
    make_cells,
    make_points,
    parse_losses,
    parse_seeds,
    parse_sweep,
)
from train.config import Config, LossConfig, load
from train.errors import ConfigError


class Row:
    def __init__(self, keywords, target="labels", multi_label=None, margins=()):
        self.keywords = keywords
        self.target = target
        self.multi_label = multi_label
        self.margins = tuple(margins)
        self.by_margin = {m: Row({m: value}) for m, value in dict(margins).items()}


MARGINS = {"logit_margin": 2.0, "delta": 0.1}
TABLE = {
    "softmax": Row({}, multi_label="multi_label_softmax"),
    "as_softmax": Row(
        {"logit_margin": 2.0}, multi_label="multi_label_as_softmax", margins=MARGINS
    ),
    "focal": Row({"gamma": 2.0}),
    "entmax": Row({"alpha": 1.5}),
    "multi_label_softmax": Row({}, "multi_hot"),
    "multi_label_as_softmax": Row({"logit_margin": 2.0}, "multi_hot", margins=MARGINS),
}
CONFIG = """
from train.config import *

def get_config():
    return Config(training=TrainingConfig(epochs=3))
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "small.py").write_text(CONFIG)
    return str(tmp_path / "small.py")


def cells(losses, *, seeds=(0,), points=None, config=None):
    points = points or [Point({}, config or Config())]
    return make_cells("small", points, losses, list(seeds), TABLE)


def test_lists_are_read_in_their_order():
    assert parse_losses("focal, softmax", TABLE) == ["focal", "softmax"]
    assert parse_seeds("2,0,10") == [2, 0, 10]
    assert parse_sweep("loss.delta=0.2, 0.1") == Sweep("loss.delta", ("0.2", "0.1"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty name"),
        ("softmax,", "an empty name"),
        ("softmax,sofmax", "no 'sofmax'; did you mean `softmax`?"),
        (
            "hinge",
            "it can be `as_softmax`, `entmax`, `focal`, `multi_label_as_softmax`",
        ),
        ("softmax,focal,softmax", "softmax comes twice"),
    ],
)
def test_losses_are_refused(text, message):
    with pytest.raises(ConfigError, match=r"^--losses: ") as refusal:
        parse_losses(text, TABLE)
    assert message in str(refusal.value)


@pytest.mark.parametrize("text", ["", "0,", "0,x", "1.0", "0 1"])
def test_seeds_that_are_no_whole_numbers_are_refused(text):
    with pytest.raises(ConfigError, match=r"^--seeds must be whole numbers; got "):
        parse_seeds(text)


def test_a_repeated_seed_is_refused():
    with pytest.raises(ConfigError, match="--seeds: 0 comes twice"):
        parse_seeds("0,1,00")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss.delta", "write loss.delta=0.05,0.1"),
        ("=0.1", "write loss.delta=0.05,0.1"),
        ("loss.delta=0.1,", "write loss.delta=0.05,0.1"),
        ("seed=0,1", "--seeds decides it"),
        ("loss.name=softmax", "--losses decides it"),
        ("loss.delta=0.1,0.1", "0.1 comes twice"),
    ],
)
def test_sweeps_are_refused(text, message):
    with pytest.raises(ConfigError, match=r"^--grid") as refusal:
        parse_sweep(text)
    assert message in str(refusal.value)


def test_points_are_the_product_of_the_sweeps(file):
    sweeps = [Sweep("loss.delta", ("0.10", "0.2")), Sweep("model.width", ("4", "8"))]
    points = make_points(load(file), ["--config.seed=5"], sweeps)
    assert [dict(point.values) for point in points] == [
        {"loss.delta": "0.1", "model.width": "4"},
        {"loss.delta": "0.1", "model.width": "8"},
        {"loss.delta": "0.2", "model.width": "4"},
        {"loss.delta": "0.2", "model.width": "8"},
    ]
    last = points[-1].config
    assert (last.loss.delta, last.model.width, last.seed) == (0.2, 8, 5)
    assert last.training.epochs == 3


def test_without_a_sweep_there_is_one_point(file):
    (point,) = make_points(load(file), [], [])
    assert dict(point.values) == {}


@pytest.mark.parametrize(
    ("overrides", "sweeps", "message"),
    [
        ([], [Sweep("loss.dleta", ("1",))], "did you mean `loss.delta`?"),
        ([], [Sweep("loss.delta", ("0.1", "2"))], "`loss.delta` must be at least 0"),
        ([], [Sweep("model.width", ("x",))], "`model.width` must be a whole number"),
        ([], [Sweep("seed", ("1",)), Sweep("seed", ("2",))], "seed comes twice"),
        (
            ["--config.loss.delta=0.3"],
            [Sweep("loss.delta", ("0.1",))],
            "--grid varies this key",
        ),
        (
            [],
            [Sweep("loss.delta", ("0.1",)), Sweep("loss.logit_margin", ("2",))],
            "`loss.logit_margin` and `loss.delta`: a loss takes one margin",
        ),
        (
            ["--config.loss.delta=0.1"],
            [Sweep("loss.logit_margin", ("1",)), Sweep("training.window", ("none",))],
            "`loss.logit_margin` and `loss.delta`: a loss takes one margin",
        ),
        (
            ["--config.loss.logit_margin=2"],
            [Sweep("loss.delta", ("0.1",))],
            "`loss.logit_margin` and `loss.delta`: a loss takes one margin",
        ),
    ],
)
def test_points_are_refused(file, overrides, sweeps, message):
    with pytest.raises(ConfigError) as refusal:
        make_points(load(file), overrides, sweeps)
    assert message in str(refusal.value)


def test_several_labels_mean_the_sibling():
    names = ["softmax", "multi_label_as_softmax"]
    losses = fitting_losses(names, "multi_hot", TABLE, where="emotions")
    assert losses == ["multi_label_softmax", "multi_label_as_softmax"]
    assert fitting_losses(["focal"], "labels", TABLE, where="digits") == ["focal"]


@pytest.mark.parametrize(
    ("names", "target", "message"),
    [
        (
            ["softmax", "focal"],
            "multi_hot",
            "focal does not fit emotions, which has several labels an example; what "
            "fits is multi_label_softmax, multi_label_as_softmax",
        ),
        (
            ["multi_label_softmax"],
            "labels",
            "which has one label; what fits is softmax, as_softmax, focal, entmax",
        ),
        (
            ["softmax", "multi_label_softmax"],
            "multi_hot",
            "multi_label_softmax comes twice",
        ),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(names, target, message):
    with pytest.raises(ConfigError, match=r"^--losses") as refusal:
        fitting_losses(names, target, TABLE, where="emotions")
    assert message in str(refusal.value)


def test_cells_differ_by_loss_and_seed_alone():
    config = Config(loss=LossConfig(delta=0.3), seed=7)
    made = cells(["softmax", "as_softmax"], seeds=(0, 4), config=config)
    assert [cell.name for cell in made] == [
        "small-softmax-seed_0",
        "small-softmax-seed_4",
        "small-as_softmax-seed_0",
        "small-as_softmax-seed_4",
    ]
    assert [cell.label for cell in made] == ["softmax"] * 2 + ["as_softmax"] * 2
    assert made[3].config == Config(loss=LossConfig(delta=0.3), seed=4)


def test_a_loss_keeps_only_what_it_reads():
    """So its cells stay what they are when other losses' settings change."""
    options = {"gamma": 1.0, "alpha": 1.2}
    config = Config(loss=LossConfig(delta=0.3, delta_warmup=0.5, options=options))
    made = cells(["softmax", "as_softmax", "focal", "entmax"], config=config)
    assert [cell.config.loss for cell in made] == [
        LossConfig(name="softmax"),
        LossConfig(name="as_softmax", delta=0.3, delta_warmup=0.5),
        LossConfig(name="focal", options={"gamma": 1.0}),
        LossConfig(name="entmax", options={"alpha": 1.2}),
    ]


def test_a_loss_that_ignores_the_sweep_has_one_cell(file):
    sweeps = [
        Sweep("loss.delta", ("0.05", "0.1")),
        Sweep("loss.delta_warmup", ("0.5",)),
    ]
    made = cells(["softmax", "as_softmax"], points=make_points(load(file), [], sweeps))
    assert [cell.name for cell in made] == [
        "small-softmax-seed_0",
        "small-as_softmax-loss.delta=0.05-loss.delta_warmup=0.5-seed_0",
        "small-as_softmax-loss.delta=0.1-loss.delta_warmup=0.5-seed_0",
    ]
    assert made[0].label == "softmax"
    assert made[0].point == {}
    assert made[2].label == "as_softmax delta=0.1 delta_warmup=0.5"
    assert made[2].point == {"loss.delta": "0.1", "loss.delta_warmup": "0.5"}
    assert made[2].config.loss.delta_warmup == 0.5


def test_a_sweep_of_one_margin_takes_the_place_of_the_other_one(tmp_path):
    (tmp_path / "small.py").write_text(
        CONFIG.replace("Config(", "Config(loss=LossConfig(delta=0.1), ", 1)
    )
    sweeps = [Sweep("loss.logit_margin", ("1", "2"))]
    points = make_points(load(tmp_path / "small.py"), [], sweeps)
    made = cells(["softmax", "as_softmax"], points=points)
    assert [cell.label for cell in made] == [
        *("softmax", "as_softmax logit_margin=1", "as_softmax logit_margin=2")
    ]
    assert made[2].config.loss == LossConfig(logit_margin=2.0)


def test_a_sweep_of_one_margin_takes_the_place_of_a_flags(file):
    sweeps = [Sweep("loss.logit_margin", ("none", "2"))]
    points = make_points(load(file), ["--config.loss.delta=0.1"], sweeps)
    made = cells(["softmax", "as_softmax"], points=points)
    assert [cell.label for cell in made] == [
        *("softmax", "as_softmax", "as_softmax logit_margin=2")
    ]
    assert made[1].config.loss == LossConfig(delta=0.1)
    assert made[2].config.loss == LossConfig(logit_margin=2.0)


def test_either_margin_has_a_course_and_margins_of_classes(file):
    sweeps = [
        Sweep("loss.margin_end_share", ("0", "0.1")),
        Sweep("loss.class_margins.B-a.b", ("0.5",)),
    ]
    for flag in ("--config.loss.delta=0.2", "--config.loss.logit_margin=1"):
        points = make_points(load(file), [flag], sweeps)
        made = cells(["softmax", "as_softmax"], points=points)
        assert [dict(cell.point) for cell in made] == [
            {},
            {"loss.margin_end_share": "0", "loss.class_margins.B-a.b": "0.5"},
            {"loss.margin_end_share": "0.1", "loss.class_margins.B-a.b": "0.5"},
        ]


def test_the_warm_up_of_the_other_margin_is_not_read(file):
    sweeps = [Sweep("loss.delta_warmup", ("0", "0.5"))]
    flag = ["--config.loss.logit_margin=1"]
    (cell,) = cells(["as_softmax"], points=make_points(load(file), flag, sweeps))
    assert cell.name == "small-as_softmax-seed_0"


def test_options_are_swept_where_a_loss_has_them(file):
    points = make_points(load(file), [], [Sweep("loss.options.gamma", ("1", "2.5"))])
    labels = [cell.label for cell in cells(["softmax", "focal"], points=points)]
    assert labels == ["softmax", "focal gamma=1", "focal gamma=2.5"]


def test_keys_of_one_last_name_keep_their_sections(file):
    sweeps = [Sweep("model.name", ("cnn",)), Sweep("optimizer.name", ("sgd", "adamw"))]
    made = cells(["softmax"], points=make_points(load(file), [], sweeps))
    assert made[0].label == "softmax model.name=cnn optimizer.name=sgd"


def test_a_path_is_no_part_of_a_name(file):
    points = make_points(load(file), [], [Sweep("data.train", ("a/b", "train[:90%]"))])
    assert [cell.name for cell in cells(["softmax"], points=points)] == [
        "small-softmax-data.train=a_b-seed_0",
        "small-softmax-data.train=train__90__-seed_0",
    ]
    points = make_points(load(file), [], [Sweep("data.train", ("a/b", "a b"))])
    with pytest.raises(ConfigError, match="two cells would be called small-softmax-"):
        cells(["softmax"], points=points)


@pytest.mark.parametrize(
    ("options", "losses", "message"),
    [
        ({"gama": 1.0}, ["focal"], "no loss here has 'gama'; did you mean `gamma`?"),
        ({"gamma": 1.0}, ["softmax", "as_softmax"], "none of these losses has options"),
    ],
)
def test_an_option_of_no_loss_is_refused(options, losses, message):
    with pytest.raises(ConfigError) as refusal:
        cells(losses, config=Config(loss=LossConfig(options=options)))
    assert message in str(refusal.value)


def test_a_seed_out_of_range_is_refused():
    with pytest.raises(ConfigError, match="`seed` must be at least 0"):
        cells(["softmax"], seeds=[-1])
