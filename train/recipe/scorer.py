"""What scores examples: network, objective and mesh, without a schedule of training."""

import dataclasses
import functools

import jax
import numpy as np
from jax.sharding import Mesh

from ..config import Config
from ..data.examples import Classes, InputSpec
from ..targets import Target
from ..tasks import find_task
from .class_margins import make_class_margins
from .network import Network
from .objective import Objective, check_sub_centers, choose_head, make_objective


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["objective"],
    meta_fields=["network", "mesh"],
)
@dataclasses.dataclass(frozen=True)
class Scorer:
    """An argument of the steps that evaluate; a pytree of the margin's value.

    Attributes:
      network: what computes logits.
      objective: the loss with its keywords.
      mesh: the devices.
    """

    network: Network
    objective: Objective
    mesh: Mesh

    @property
    def target(self) -> Target:
        """The kind of answer."""
        return find_task(self.network.task).target

    @property
    def answers_sets(self) -> bool:
        """Whether a second output layer answers with sets, of examples of one class."""
        return self.objective.set_size is not None and self.target.one_label


def make_scorer(
    config: Config,
    spec: InputSpec,
    mesh: Mesh,
    *,
    classes: Classes,
    counts: np.ndarray | None = None,
) -> Scorer:
    """Returns what scores examples; refuses a loss that does not fit.

    Args:
      config: a checked configuration.
      spec: what the model must know of its data.
      mesh: the devices.
      classes: by number.
      counts: how often each class is a training label, where `loss.class_margin_power`
        asks for it.

    Raises:
      ConfigError: the loss does not fit the task, or the output layer the loss.
    """
    target = find_task(config.task).target
    objective = make_objective(
        config.loss,
        target=target.loss_target,
        num_classes=spec.num_classes,
        ordered=target.ordered,
    )
    class_margins = make_class_margins(
        config.loss,
        objective.margin,
        objective.active_up_to(dict(objective.keywords)),
        classes if target.loss_target == "labels" else (),
        counts,
    )
    objective = dataclasses.replace(objective, class_margins=class_margins)
    head = choose_head(config.model.head, objective, ordered=target.ordered)
    check_sub_centers(config.model, head)
    network = Network(
        config.task,
        spec,
        config.model,
        head,
        two_heads=objective.two_heads,
        learned=objective.learned(spec.num_classes),
    )
    return Scorer(network, objective, mesh)
