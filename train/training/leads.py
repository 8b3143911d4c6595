"""A memory of leads: which settled examples need not be looked at yet."""

import dataclasses

import numpy as np

# Of the settled examples, those whose lead falls by no more than is reckoned with.
_QUANTILE = 0.98
# So many settled examples tell how fast leads fall; what fewer say is chance.
_ENOUGH = 32
# How much the newest examples decide of that speed.
_WEIGHT = 0.25


@dataclasses.dataclass
class Leads:
    """How far each example led when it was last seen, and how fast leads fall.

    An example is looked at again when its lead could be used up: at the speed at which
    98 % of the settled examples' leads fall at most, or at its own where that is more.
    """

    lead: np.ndarray  # shape=(rows,), dtype=float32, NaN before the first look
    epoch: np.ndarray  # in which that was, shape=(rows,), dtype=int32
    look_from: np.ndarray  # the epoch of the next look, shape=(rows,), dtype=int32
    fall: float = np.inf  # of a lead, an epoch

    @classmethod
    def unknown(cls, num_rows: int) -> "Leads":
        """Returns the memory before the first look."""
        zero = np.zeros(num_rows, np.int32)
        return cls(np.full(num_rows, np.nan, np.float32), zero, zero.copy())

    def note(
        self, rows: np.ndarray, lead: np.ndarray, epoch: int, *, limit: float, most: int
    ) -> None:
        """Takes in what a look says, and decides on the next one.

        Args:
          rows: that were looked at.
          lead: of each, shape=(n,).
          epoch: of the look.
          limit: the lead above which an example is settled.
          most: epochs that may be skipped.
        """
        old, passed = self.lead[rows], epoch - self.epoch[rows]
        known = ~np.isnan(old) & (passed > 0)
        with np.errstate(invalid="ignore"):  # Leads may be infinite.
            fall = np.where(known, (old - lead) / np.maximum(passed, 1), np.nan)
        measured = fall[known & (old > limit) & np.isfinite(fall)]
        if len(measured) >= _ENOUGH:
            self._learn(float(np.quantile(measured, _QUANTILE)))
        own = np.fmax(fall, self.fall)
        with np.errstate(invalid="ignore", divide="ignore"):
            lasting = np.floor((lead - limit) / np.maximum(own, 0.0))
        lasting = np.nan_to_num(lasting, nan=0.0, posinf=most, neginf=0.0)
        self.look_from[rows] = epoch + 1 + np.clip(lasting, 0, most)
        self.lead[rows], self.epoch[rows] = lead, epoch

    def _learn(self, fall: float) -> None:
        known = np.isfinite(self.fall)
        self.fall = self.fall + _WEIGHT * (fall - self.fall) if known else fall

    def begin(self, lead: np.ndarray, epoch: int) -> None:
        """Takes in what training steps saw before the first look; NaN: nothing."""
        there = ~np.isnan(lead) & np.isnan(self.lead)
        self.lead[there], self.epoch[there] = lead[there], epoch
