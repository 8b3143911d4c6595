"""The recipe: everything that a compiled step depends on beside its arrays."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from as_softmax_jax.losses import LOSSES
from train.config import (
    CompactConfig,
    Config,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)
from train.data.examples import InputSpec, Sequences, TaskData
from train.data.pipeline import batches_per_epoch
from train.errors import ConfigError
from train.models.head import Logits
from train.recipe.mesh import make_mesh
from train.recipe.objective import (
    Objective,
    check_blocked,
    make_objective,
    note_rows_that_never_settle,
)
from train.recipe.optimizer import make_optimizer
from train.tasks import find_task
from train.tasks.task import Task, model_name


@dataclasses.dataclass(frozen=True)
class Network:
    """A network without its parameters.

    Attributes:
      task: the task's name, which finds the model.
      spec: what the model must know of its data.
      model: the model's configuration.
      cosine: whether its logits are cosines.
    """

    task: str
    spec: InputSpec
    model: ModelConfig
    cosine: bool

    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        """Returns the network with fresh parameters."""
        models = find_task(self.task).models
        model = models[model_name(models, self.model)]
        return model(self.model, self.spec, cosine=self.cosine, rngs=rngs)

    @functools.cached_property
    def graphdef(self) -> Any:
        """The network's structure, to be merged with parameters."""
        abstract = nnx.eval_shape(lambda: self.build(nnx.Rngs(0)))
        # Parameters are all that a model may hold: nnx refuses anything else here.
        return nnx.split(abstract, nnx.Param)[0]

    def logits(
        self, params: Any, inputs: jax.Array, *, rngs: nnx.Rngs | None
    ) -> jax.Array:
        """Returns the network's logits; dropout is on when `rngs` is given."""
        return nnx.merge(self.graphdef, params)(inputs, rngs=rngs)

    def output(
        self, params: Any, inputs: jax.Array, *, rngs: nnx.Rngs | None
    ) -> Logits:
        """Returns what the training loss takes: logits, or how to make them."""
        network = nnx.merge(self.graphdef, params)
        network.head.blocked = self.model.head == "blocked"
        return network(inputs, rngs=rngs)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A static argument of the steps: equal recipes share one compilation.

    The seed is not in it, so runs that differ by seed alone compile once.

    Attributes:
      network: what computes logits.
      augment: the changes made to training inputs.
      objective: the loss with its keywords.
      optimizer: the optimizer's configuration.
      training: epochs, batches and the window rule.
      compact: how active examples are found, where `training.mode` is compact.
      mini_steps_per_epoch: batches that hold every training example once.
      total_examples: examples seen at the end of training.
      mesh: the devices.
    """

    network: Network
    augment: tuple[str, ...]
    objective: Objective
    optimizer: OptimizerConfig
    training: TrainingConfig
    compact: CompactConfig
    mini_steps_per_epoch: int
    total_examples: int
    mesh: Mesh

    @property
    def task(self) -> Task:
        """Returns the kind of input and the kind of answer."""
        return find_task(self.network.task)

    @property
    def metric(self) -> str:
        """Returns the validation metric that decides which checkpoint is the best."""
        return self.training.metric or self.task.target.metric

    @functools.cached_property
    def filter_network(self) -> Network:
        """The network in the type in which it looks for active examples."""
        dtype = self.compact.compute_dtype
        if not dtype and jax.default_backend() != "cpu":
            dtype = "bfloat16"
        model = dataclasses.replace(
            self.network.model, compute_dtype=dtype or self.network.model.compute_dtype
        )
        return dataclasses.replace(self.network, model=model)

    @functools.cached_property
    def transformation(self) -> Any:
        """The optimizer as an optax transformation."""
        return make_optimizer(
            self.optimizer, self.training, total_examples=self.total_examples
        )


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
    task = find_task(config.task)
    objective = make_objective(
        config.loss,
        target=task.target.loss_target,
        num_classes=data.spec.num_classes,
        total_examples=total_examples,
    )
    if task.target.loss_target == "multi_hot":
        note_rows_that_never_settle(objective, train.labels)
    if config.model.head == "blocked":
        check_blocked(objective)
    _check_class_share(config)
    mesh = make_mesh(config.mesh, batch_size=training.batch_size)
    if training.mode == "compact":
        _check_compact(config, objective, mesh)
    if training.group_by_length and not isinstance(train, Sequences):
        raise ConfigError(
            f"`training.group_by_length`: inputs of {config.task} are all of one size; "
            "leave it out"
        )
    if config.data.augment and task.augment is None:
        raise ConfigError(f"`data.augment`: {config.task} has no such thing; empty it")
    return Recipe(
        network=Network(config.task, data.spec, config.model, objective.cosine),
        augment=config.data.augment,
        objective=objective,
        optimizer=config.optimizer,
        training=training,
        compact=config.compact,
        mini_steps_per_epoch=batches_per_epoch(train, training.batch_size),
        total_examples=total_examples,
        mesh=mesh,
    )


def _check_class_share(config: Config) -> None:
    """Refuses a share of the classes where each step needs all."""
    if config.model.class_share == 1.0:
        return
    if config.model.head != "blocked":
        raise ConfigError(
            "`model.class_share`: a dense head makes the logits of all classes; set "
            "`model.head` to blocked"
        )
    if config.training.window != "none":
        raise ConfigError(
            "`model.class_share`: a window's gradients would be of other classes each; "
            "set `training.window` to none"
        )


def _check_compact(config: Config, objective: Objective, mesh: Mesh) -> None:
    """Refuses compact training of what it cannot serve."""
    if not objective.settles:
        target = LOSSES[objective.name].target
        fit = [n for n, r in LOSSES.items() if r.exact_zeros and r.target == target]
        raise ConfigError(
            f"`training.mode`: {objective.name} never has a loss of exactly 0, so each "
            f"example is active; train plainly, or take {', '.join(sorted(fit))}"
        )
    if config.training.window != "none":
        raise ConfigError(
            "`training.window`: compact batches are full of active examples already; "
            "set it to none"
        )
    size, devices = config.compact.batch_size, mesh.shape["data"]
    if size % devices:
        raise ConfigError(
            f"`compact.batch_size`: {size} does not divide over {devices} devices; "
            "make it a multiple, or set `mesh.data`"
        )
