"""What a metric says of itself, and how its values are shown."""

from typing import NamedTuple


class Metric(NamedTuple):
    """A figure of a split, by its name in records and results."""

    name: str  # micro_f1
    title: str  # micro F1
    unit: str = "%"  # %: a share, shown times 100; nats; empty: a plain number
    larger_is_better: bool = True
    counted_over: str = "examples"  # or tokens, entities, labels

    @property
    def scale(self) -> float:
        """What a value is multiplied by before it is shown."""
        return 100.0 if self.unit == "%" else 1.0

    @property
    def heading(self) -> str:
        """Title and unit, as over a column or along an axis."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def in_words(self) -> str:
        """Title and unit, as in a sentence."""
        units = {"%": " in percent", "": ""}
        return self.title + units.get(self.unit, f" in {self.unit}")

    @property
    def step(self) -> str:
        """The unit of a difference."""
        return "points" if self.unit == "%" else self.unit

    def shown(self, value: float) -> str:
        """Returns a value with its unit: 97.33 %."""
        number = f"{self.scale * value:.2f}"
        return f"{number} {self.unit}" if self.unit else number


# Of a second output layer that answers with sets of classes.
OF_SETS = (
    Metric("set_accuracy", "label in the set"),
    Metric("set_size", "classes in a set", ""),
)

# Of examples of classes that training does not have; the last two where these have
# labels.
OF_OUTSIDE = (
    Metric("outside_auroc", "AUROC, outside"),
    Metric("outside_fpr95", "outside taken in", "%", False),
    Metric("outside_recall_at_1", "recall at 1, outside"),
    Metric("outside_map", "MAP, outside"),
)


def by_name(metrics: tuple[Metric, ...], name: str) -> Metric:
    """Returns the metric of that name; a share where none says what it is."""
    found = {metric.name: metric for metric in (*metrics, *OF_SETS, *OF_OUTSIDE)}
    return found.get(name, Metric(name, name.replace("_", " ")))


def loss(counted_over: str) -> Metric:
    """Returns the loss, a mean over what the target counts."""
    return Metric("loss", "loss", "", False, counted_over)


def calibration_errors(counted_over: str) -> tuple[Metric, ...]:
    """Returns the expected calibration errors: as it is, and with a temperature."""
    return (
        Metric("ece", "ECE", "%", False, counted_over),
        Metric("ece_calibrated", "ECE, calibrated", "%", False, counted_over),
    )
