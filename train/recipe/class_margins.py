"""Margins of single classes: given by name, or by how rare a class is."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..config import LossConfig, nearest
from ..data.examples import Classes
from ..errors import ConfigError
from .course import Course


class ClassMargins(NamedTuple):
    """Of each class a margin, times a factor; hashable, as a part of the objective."""

    values: tuple[float, ...]  # the distinct margins
    places: tuple[int, ...]  # of each class, where its margin stands among them
    factors: tuple[float, ...]  # of each class

    def at(self, course: Course, examples_seen: jax.Array | int) -> jax.Array:
        """Returns the margin of each class, float32 [classes].

        Args:
          course: that each of the distinct margins takes.
          examples_seen: where training stands.
        """
        values = jnp.stack([course.at(v, examples_seen) for v in self.values])
        of_classes = values[jnp.asarray(self.places, jnp.int32)]
        factors = jnp.asarray(self.factors, jnp.float32)
        return jnp.minimum(of_classes * factors, course.softmax)


def make_class_margins(
    config: LossConfig,
    margin: str | None,
    value: float,
    classes: Classes,
    counts: np.ndarray | None,
) -> ClassMargins | None:
    """Returns the margins of single classes; None where all have the same.

    Args:
      config: names them, or says how they follow from the counts.
      margin: the loss's, one of `train.config.MARGINS`; None: it has none.
      value: of that margin, for classes without one of their own.
      classes: by number; empty where an example may have several.
      counts: how often each class is a training label.

    Raises:
      ConfigError: a class is unknown or its margin out of range, or the loss has no
        margin of a class.
    """
    named, power = config.class_margins, config.class_margin_power
    if not named and not power:
        return None
    key = "loss.class_margins" if named else "loss.class_margin_power"
    if named and power:
        raise ConfigError(
            f"`{key}` and `loss.class_margin_power`: both give each class a margin; "
            "leave one of them out"
        )
    if margin is None:
        raise ConfigError(f"`{key}`: {config.name} has no margin; leave it out")
    if not classes:
        raise ConfigError(
            f"`{key}`: an example may have several labels here, and one margin for all "
            "of them; leave it out"
        )
    if power:
        assert counts is not None, "whoever has the classes has counted them"
        rarity = (counts.max(initial=1.0) / np.maximum(counts, 1.0)) ** power
        factors = tuple(map(float, rarity))
        return ClassMargins((value,), (0,) * len(classes), factors)
    _check_named(named, margin, classes)
    of_classes = [float(named.get(str(name), value)) for name in classes]
    values = sorted(set(of_classes))
    places = tuple(values.index(v) for v in of_classes)
    return ClassMargins(tuple(values), places, (1.0,) * len(classes))


def _check_named(named: Mapping[str, float], margin: str, classes: Classes) -> None:
    """Refuses a class that there is not, and a margin out of range."""
    known = {str(name) for name in classes}
    top = 1.0 if margin == "delta" else np.inf
    for name, value in named.items():
        if name not in known:
            raise ConfigError(
                f"`loss.class_margins`: no class {name!r}; {nearest(name, known)}"
            )
        if not 0.0 <= value <= top:
            most = "" if np.isinf(top) else f" and at most {top}"
            raise ConfigError(
                f"`loss.class_margins.{name}` must be at least 0.0{most}, as "
                f"`loss.{margin}`; got {value}"
            )
