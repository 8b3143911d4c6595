"""The recipe: everything but arrays that a compiled step depends on."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from as_softmax_jax.losses import LOSSES, PerBatch, PerRun, StepKey

from ..config import (
    CompactConfig,
    Config,
    DataConfig,
    OptimizerConfig,
    SelectionConfig,
    TrainingConfig,
    default_slack,
)
from ..data.examples import Sequences, TaskData
from ..data.pipeline import batches_per_epoch
from ..errors import ConfigError
from ..models.heads import HEADS
from ..tasks import find_task
from ..tasks.task import Task
from .course import Course, make_course
from .layers import check_layers, trained
from .mesh import make_mesh
from .network import Network
from .objective import Objective
from .optimizer import LearningRate, make_learning_rate, make_optimizer
from .scorer import Scorer, make_scorer


class Drawing(NamedTuple):
    """What of `DataConfig` a step depends on, or the order of the examples."""

    augment: tuple[str, ...] = ()
    balance: str = ""
    class_stages: int = 0
    class_weights_from: float = 0.0


# What a compiled step takes as arguments: these fields, and settings by section.
_PARTS = ("scorer", "course", "rate", "mini_steps_per_epoch", "total_examples")
_NUMBERS = {
    "optimizer": ("learning_rate", "warmup", "weight_decay"),
    "training": ("epochs",),
    "compact": ("slack",),
}


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class Recipe:
    """An argument of the steps; a pytree of numbers that may be traced.

    Recipes that differ in those alone share one compilation: a learning rate, a weight
    decay, a margin, a number of epochs. The seed is not in it at all.

    Attributes:
      scorer: network, objective and mesh.
      data: how training examples are drawn and changed.
      course: of the loss's margin; None where it has none.
      rate: the learning rate by examples seen.
      optimizer: the optimizer's configuration.
      training: epochs, batches and the window rule.
      compact: how active examples are found, where `training.mode` is compact.
      selection: how others are chosen, where it is none of plain and compact.
      mini_steps_per_epoch: batches that hold every training example once.
      total_examples: examples seen at the end of training.
    """

    scorer: Scorer
    data: Drawing
    course: Course | None
    rate: LearningRate
    optimizer: OptimizerConfig
    training: TrainingConfig
    compact: CompactConfig
    selection: SelectionConfig
    mini_steps_per_epoch: int
    total_examples: int

    def tree_flatten(self) -> tuple[tuple[Any, ...], "Recipe"]:
        """Returns what may be traced, and everything else."""
        return self._flat

    @functools.cached_property
    def _flat(self) -> tuple[tuple[Any, ...], "Recipe"]:
        # Each step asks for it.
        numbers = {
            section: tuple(getattr(getattr(self, section), name) for name in names)
            for section, names in _NUMBERS.items()
        }
        parts = {name: getattr(self, name) for name in _PARTS}
        rest = self._with({s: (None,) * len(n) for s, n in _NUMBERS.items()})
        nothing: dict[str, Any] = dict.fromkeys(_PARTS)
        return (numbers, parts), dataclasses.replace(rest, **nothing)

    @classmethod
    def tree_unflatten(cls, rest: "Recipe", values: tuple[Any, ...]) -> "Recipe":
        """Returns the recipe of what `tree_flatten` returned."""
        numbers, parts = values
        return dataclasses.replace(rest._with(numbers), **parts)

    def _with(self, numbers: dict[str, tuple[Any, ...]]) -> "Recipe":
        """Returns the recipe with other numbers in its sections."""
        changed: dict[str, Any] = {
            section: dataclasses.replace(
                getattr(self, section),
                **dict(zip(names, numbers[section], strict=True)),
            )
            for section, names in _NUMBERS.items()
        }
        return dataclasses.replace(self, **changed)

    @property
    def network(self) -> Network:
        """The scorer's."""
        return self.scorer.network

    @property
    def objective(self) -> Objective:
        """The scorer's."""
        return self.scorer.objective

    @property
    def mesh(self) -> Mesh:
        """The scorer's."""
        return self.scorer.mesh

    @property
    def task(self) -> Task:
        """The kind of input and the kind of answer."""
        return find_task(self.network.task)

    @property
    def metric(self) -> str:
        """The validation metric that decides which checkpoint is the best."""
        target, ranks = self.task.target, self.objective.row.shift_invariant
        own = target.ranking_metric if ranks else target.metric
        return self.training.metric or own

    def keywords_at(self, examples_seen: jax.Array | int) -> dict[str, Any]:
        """Returns the loss's keywords after so many examples; see `Objective`."""
        return self.objective.keywords_on(self.course, examples_seen)

    def margin_at(self, examples_seen: int) -> dict[str, float]:
        """Returns the margin by its keyword, that of classes without one of their own.

        Nothing where the loss has no margin.
        """
        if self.course is None:
            return {}
        name, keywords = self.course.margin, dict(self.objective.keywords)
        return {name: float(self.course.at(keywords[name], examples_seen))}

    @property
    def slack(self) -> float:
        """How much more than the margin an example leads by that is not trained on."""
        given = self.compact.slack
        in_logits = self.objective.unit == "logits"
        return default_slack(logits=in_logits) if given is None else given

    @functools.cached_property
    def filter_scorer(self) -> Scorer:
        """The scorer in the type in which it looks for active examples."""
        dtype = self.compact.compute_dtype
        if not dtype and jax.default_backend() != "cpu":
            dtype = "bfloat16"
        model = dataclasses.replace(
            self.network.model, compute_dtype=dtype or self.network.model.compute_dtype
        )
        network = dataclasses.replace(self.network, model=model)
        return dataclasses.replace(self.scorer, network=network)

    @functools.cached_property
    def transformation(self) -> Any:
        """The optimizer as an optax transformation."""
        model = self.network.model
        partly = model.freeze or model.lora_rank
        return make_optimizer(
            self.optimizer,
            self.training,
            self.rate,
            rescale=self.compact.scale_learning_rate,
            trained=functools.partial(trained, model) if partly else None,
        )

    @property
    def remembers(self) -> tuple[str, ...]:
        """What of each example is kept from step to step: its lead, or its loss."""
        if self.training.mode == "infobatch":
            return ("loss",)
        skips = self.training.mode == "compact" and self.compact.max_skipped_epochs
        return ("lead",) if skips and not HEADS[self.network.head].blocked else ()


def make_recipe(config: Config, data: TaskData) -> Recipe:
    """Returns the recipe; refuses a configuration that does not fit together.

    Args:
      config: a checked configuration.
      data: what the task made of its data.

    Raises:
      ConfigError: the loss, the mesh or the length of training does not work.
    """
    training, train = config.training, data.splits["train"]
    total_examples = training.epochs * len(train)
    if total_examples > np.iinfo(np.int32).max:
        raise ConfigError(
            f"`training.epochs`: {training.epochs} epochs of {len(train)} "
            "examples are more than 2^31 - 1; lower it"
        )
    check_layers(config)
    mesh = make_mesh(config.mesh, batch_size=training.batch_size)
    scorer = _make_scorer(config, data, mesh)
    objective = scorer.objective
    if objective.margin is not None and objective.unit == "probability":
        delta = objective.active_up_to(dict(objective.keywords))
        scorer.target.note_settling(train.labels, delta)
    _check_class_share(config)
    _check_stages(config, data)
    _check_late_weights(config)
    if training.mode == "compact":
        _check_compact(config, scorer)
    if training.mode != "plain":
        _check_queued(config, scorer)
        if training.evaluate_steps:
            raise ConfigError(
                f"`training.evaluate_steps`: steps of {training.mode} training are not "
                "of equal length; leave it out and set `training.evaluate_every`"
            )
    if training.group_by_length and not isinstance(train, Sequences):
        raise ConfigError(
            f"`training.group_by_length`: inputs of {config.task} are all of one size; "
            "leave it out"
        )
    if config.data.augment and find_task(config.task).augment is None:
        raise ConfigError(f"`data.augment`: {config.task} has no such thing; empty it")
    return Recipe(
        scorer=scorer,
        data=_drawing(config.data),
        course=make_course(config.loss, objective.row, total_examples=total_examples),
        rate=make_learning_rate(config.optimizer, total_examples=total_examples),
        optimizer=config.optimizer,
        training=training,
        compact=config.compact,
        selection=config.selection,
        mini_steps_per_epoch=batches_per_epoch(train, training.batch_size),
        total_examples=total_examples,
    )


def _drawing(data: DataConfig) -> Drawing:
    return Drawing(
        data.augment, data.balance, data.class_stages, data.class_weights_from
    )


def _make_scorer(config: Config, data: TaskData, mesh: Mesh) -> Scorer:
    """Returns the scorer, with what the training labels decide of it."""
    counts = None
    if config.loss.class_margin_power:
        counts = count_labels(config, data)
    return make_scorer(config, data.spec, mesh, classes=data.classes, counts=counts)


def count_labels(config: Config, data: TaskData) -> np.ndarray:
    """Returns how often each class is a training label, float32 [classes]."""
    target, labels = find_task(config.task).target, data.splits["train"].labels
    return target.class_counts(labels, data.spec.num_classes)


def _check_class_share(config: Config) -> None:
    """Refuses a share of the classes where each step needs all."""
    if config.model.class_share == 1.0:
        return
    if not (config.model.head and HEADS[config.model.head].blocked):
        raise ConfigError(
            "`model.class_share`: this output layer makes the logits of all classes; "
            "set `model.head` to blocked, or for cosines to blocked_cosine"
        )
    if config.training.window != "none":
        raise ConfigError(
            "`model.class_share`: a window's gradients would be of other classes each; "
            "set `training.window` to none"
        )


def _check_stages(config: Config, data: TaskData) -> None:
    """Refuses more stages than there are classes or epochs, and modes that choose."""
    stages, most = config.data.class_stages, data.spec.num_classes
    if stages > min(most, config.training.epochs):
        raise ConfigError(
            f"`data.class_stages`: {stages} stages, {most} classes and "
            f"{config.training.epochs} epochs; give at most as many as of each"
        )
    if stages and config.training.mode != "plain":
        raise ConfigError(
            f"`data.class_stages`: {config.training.mode} training chooses among all "
            "examples; set `training.mode` to plain"
        )


def _check_late_weights(config: Config) -> None:
    """Refuses weights that come late where examples have others besides."""
    if config.data.class_weights_from and config.training.mode == "infobatch":
        raise ConfigError(
            "`data.class_weights_from`: infobatch weighs examples itself; set "
            "`training.mode` to another, or leave it out"
        )


def _check_compact(config: Config, scorer: Scorer) -> None:
    """Refuses compact training of what it cannot serve."""
    row = scorer.objective.row
    if not row.exact_zeros:
        fit = [n for n, r in LOSSES.items() if r.exact_zeros and r.target == row.target]
        raise ConfigError(
            f"`training.mode`: {row.name} never has a loss of exactly 0, so each "
            f"example is active; train plainly, or take {', '.join(sorted(fit))}"
        )
    of_batch = PerBatch | PerRun | StepKey
    tied = [
        keyword
        for keyword, extra in row.extras.items()
        if isinstance(extra, of_batch) or getattr(extra, "of_batch", False)
    ]
    if tied or not row.row_local:
        raise ConfigError(
            f"`training.mode`: {row.name} depends on the other examples of a batch, or "
            "on a draw, so an example settled in one batch is active in another; train "
            "plainly"
        )


def _check_queued(config: Config, scorer: Scorer) -> None:
    """Refuses what no choice of examples goes with."""
    if config.training.window != "none":
        raise ConfigError(
            f"`training.window`: {config.training.mode} batches are full of chosen "
            "examples already; set it to none"
        )
    size, devices = config.compact.batch_size, scorer.mesh.shape["data"]
    if size % devices:
        raise ConfigError(
            f"`compact.batch_size`: {size} does not divide over {devices} devices; "
            "make it a multiple, or set `mesh.data`"
        )
