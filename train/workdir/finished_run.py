"""A finished run, read back from its folder in another process."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from ..config import Config, MeshConfig, check, from_dict, override
from ..data.examples import Classes
from ..errors import ConfigError, WorkdirError
from ..recipe.mesh import make_mesh
from ..recipe.network import Network
from ..recipe.scorer import Scorer, make_scorer
from ..storage import as_folder, read_json
from ..targets import Calibration
from ..tasks import find_task
from ..tasks.task import Codec, Task
from ..training.measures import Held
from .checkpoints import read_checkpoint

# How often each class is a training label, where the loss or its margins take that;
# by the keyword of the loss, or the key of the configuration.
CLASS_COUNTS = "class_counts.json"
OF_MARGINS = "class_margin_power"
# The classes that training has met, where the loss takes them; by its keyword.
ACTIVE_CLASSES = "active_classes.json"
# States of the run, where the loss takes them; by its keyword, leaf by leaf.
RUN_STATES = "run_states.json"


class FinishedRun(NamedTuple):
    """What a run's folder keeps for those who use its model."""

    workdir: Path
    config: Config
    task: Task
    classes: Classes
    codec: Codec
    scorer: Scorer
    held: Held  # extra inputs of the loss
    calibration: Calibration
    checkpoint: int  # the mini-step after which the parameters were saved
    params: Any

    @property
    def origin(self) -> str:
        """Which checkpoint this is, in words."""
        return f"{self.workdir}, checkpoint after mini-step {self.checkpoint}"


def read_run(workdir: str | os.PathLike, overrides: Sequence[str] = ()) -> FinishedRun:
    """Reads the best checkpoint of a finished run and all that goes with it.

    Args:
      workdir: the folder that the trainer wrote.
      overrides: flags such as `--config.data.path=FOLDER` for what is other of the
        data now.

    Raises:
      WorkdirError: it is no such folder, or something in it cannot be read.
      ConfigError: a flag is none of the data's.
    """
    workdir = as_folder(workdir)
    config = _with_overrides(_read_config(workdir), overrides)
    classes = tuple(_read(workdir, "classes.json"))
    calibration = Calibration(**_read(workdir, "calibration.json"))
    task = find_task(config.task)
    try:
        codec = task.codec.load(config, workdir)
    except (OSError, ValueError, KeyError) as error:
        raise WorkdirError(
            f"--workdir: {workdir} does not hold what its task needs "
            f"({type(error).__name__}: {error}); train again"
        ) from error
    mesh = make_mesh(config.mesh, batch_size=config.training.batch_size)
    of_margins = None
    if config.loss.class_margin_power:
        of_margins = np.array(_read(workdir, CLASS_COUNTS)[OF_MARGINS], np.float32)
    spec = codec.spec(len(classes))
    scorer = make_scorer(config, spec, mesh, classes=classes, counts=of_margins)
    held: dict[str, Any] = {}
    if names := scorer.objective.class_counts:
        counts = _read(workdir, CLASS_COUNTS)
        held = {name: jnp.asarray(counts[name], jnp.float32) for name in names}
    if names := scorer.objective.active_classes:
        active = _read(workdir, ACTIVE_CLASSES)
        held |= {name: jnp.asarray(active[name], bool) for name in names}
    if states := scorer.objective.run_states:
        numbers = _read(workdir, RUN_STATES)
        for name, extra in states.items():
            leaves = [jnp.asarray(leaf, jnp.float32) for leaf in numbers[name]]
            structure = jax.tree.structure(extra.initial())
            held[name] = jax.tree.unflatten(structure, leaves)
    checkpoint, params = read_checkpoint(workdir, _shapes(scorer.network))
    return FinishedRun(
        workdir,
        config,
        task,
        classes,
        codec,
        scorer,
        held,
        calibration,
        checkpoint,
        params,
    )


def _read_config(workdir: Path) -> Config:
    try:
        return from_dict(_read(workdir, "config.json"))
    except ConfigError as error:
        raise WorkdirError(
            f"--workdir: {workdir / 'config.json'} is of another version: {error}"
        ) from error


def _with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """Returns the run's configuration with other data, on one device."""
    for flag in overrides:
        if not flag.startswith("--config.data."):
            raise ConfigError(f"{flag}: only --config.data.* can differ from the run")
        config = override(config, flag)
    check(config)
    return dataclasses.replace(config, mesh=MeshConfig(data=1))


def _read(workdir: Path, name: str) -> Any:
    try:
        return read_json(workdir / name, flag="--workdir", cure="train again")
    except FileNotFoundError as error:
        raise WorkdirError(
            f"--workdir: {workdir} holds no finished run ({name} is not there); name "
            "the folder that the trainer has written"
        ) from error


def _shapes(network: Network) -> Any:
    """Returns the parameters' shapes, all on one device."""
    here = SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here),
        network.shapes(),
    )
