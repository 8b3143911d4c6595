"""What compact training saves: the seconds that it took, and what they went into."""

import dataclasses
import math


@dataclasses.dataclass
class Gain:
    """Seconds since the run began, without evaluations; estimates, by the clock."""

    plain_seconds: float = 0.0  # of plain steps, compilation included
    look_seconds: float = 0.0  # of passes without gradient
    step_seconds: float = 0.0  # of steps on active examples
    num_plain: int = 0  # examples trained plainly
    num_looked: int = 0  # examples of passes without gradient
    num_trained: int = 0  # active examples trained
    # Of a plain step, for an example: the fastest span, which compiled nothing.
    plain_cost: float = math.inf
    padding: float = 0.0  # of the batches of active examples, summed over batches
    num_batches: int = 0  # of active examples

    def add_plain(self, seconds: float, num_examples: int) -> None:
        """Counts a span of plain training."""
        if num_examples:
            self.plain_seconds += seconds
            self.num_plain += num_examples
            self.plain_cost = min(self.plain_cost, seconds / num_examples)

    def figures(self, num_seen: int) -> dict[str, float]:
        """Returns what a record says of it; nothing before the first look.

        With f the cost of a look over that of a plain step, the least time that looking
        and training could take is that of the plain examples, f for each example of a
        compact epoch and 1 for each active one: the ceiling is over that.

        Args:
          num_seen: examples of the data that training has passed.
        """
        if not self.num_looked or math.isinf(self.plain_cost):
            return {}
        seconds = self.plain_seconds + self.look_seconds + self.step_seconds
        looks = self.look_seconds / self.plain_cost
        return {
            "plain_seconds": self.plain_seconds,
            "look_seconds": self.look_seconds,
            "step_seconds": self.step_seconds,
            "padded_share": self.padding / max(self.num_batches, 1),
            "look_cost": looks / self.num_looked,
            "speed_ratio": self.plain_cost * num_seen / seconds,
            "speed_ceiling": num_seen / (self.num_plain + looks + self.num_trained),
        }


def in_words(record: dict[str, float]) -> str:
    """Returns a record's figures in a line; empty where it has none."""
    if "speed_ceiling" not in record:
        return ""
    return (
        f"compact: {record['speed_ratio']:.2f} times plain training so far, at most "
        f"{record['speed_ceiling']:.2f}; a look costs {record['look_cost']:.2f} of a "
        f"step; seconds: {record['plain_seconds']:.0f} plain, "
        f"{record['look_seconds']:.0f} looks, {record['step_seconds']:.0f} steps on "
        f"active examples, {record['padded_share']:.0%} of these padding"
    )
