"""The table of losses: one declarative row each.

Whoever works on losses by name reads this table: the trainer, the tests that hold
every loss to one set of rules, the documentation, and what must refuse a loss
("compaction needs exact zeros"). A new loss is a function, a reference and a row.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

from as_softmax_jax.losses import _as_softmax, _margin, _multi_label, _softmax, _sparse
from as_softmax_jax.reference import _as_softmax as as_softmax_reference
from as_softmax_jax.reference import _margin as margin_reference
from as_softmax_jax.reference import _multi_label as multi_label_reference
from as_softmax_jax.reference import _softmax as softmax_reference
from as_softmax_jax.reference import _sparse as sparse_reference


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """What is known of a loss without calling it."""

    name: str
    function: Callable  # f(logits, labels or targets, *, <keywords>, where=, ...)
    reference: Callable  # f(logits, labels, <keywords>); positives, negatives
    settled: Callable | None = None  # same arguments; None: no example ever settles
    target: Literal["labels", "multi_hot"] = "labels"
    cosine: bool = False  # takes cosine similarities in [-1, 1] for logits
    keywords: Mapping[str, float] = dataclasses.field(
        default_factory=dict
    )  # its own, with defaults
    paper: str

    @property
    def exact_zeros(self) -> bool:
        """Whether easy examples have a loss and a gradient of exactly 0."""
        return self.settled is not None


_ROWS = (
    Loss(
        name="as_softmax",
        function=_as_softmax.as_softmax_loss,
        reference=as_softmax_reference.as_softmax_loss,
        settled=_as_softmax.as_softmax_settled,
        keywords={"delta": 0.1},
        paper="Lv et al., arXiv 2508.03175",
    ),
    Loss(
        name="multi_label_as_softmax",
        function=_multi_label.multi_label_as_softmax_loss,
        reference=multi_label_reference.multi_label_as_softmax_loss,
        settled=_multi_label.multi_label_as_softmax_settled,
        target="multi_hot",
        keywords={"delta": 0.1},
        paper="Lv et al., arXiv 2508.03175",
    ),
    Loss(
        name="softmax",
        function=_softmax.softmax_loss,
        reference=softmax_reference.softmax_loss,
        paper="Bridle, doi 10.1007/978-3-642-76153-9_28",
    ),
    Loss(
        name="temperature_softmax",
        function=_softmax.temperature_softmax_loss,
        reference=softmax_reference.temperature_softmax_loss,
        keywords={"temperature": 2.0},
        paper="Hinton et al., arXiv 1503.02531",
    ),
    Loss(
        name="label_smoothing",
        function=_softmax.label_smoothing_loss,
        reference=softmax_reference.label_smoothing_loss,
        keywords={"smoothing": 0.1},
        paper="Szegedy et al., arXiv 1512.00567",
    ),
    Loss(
        name="focal",
        function=_softmax.focal_loss,
        reference=softmax_reference.focal_loss,
        keywords={"gamma": 2.0},
        paper="Lin et al., arXiv 1708.02002",
    ),
    Loss(
        name="sparse_softmax",
        function=_sparse.sparse_softmax_loss,
        reference=sparse_reference.sparse_softmax_loss,
        keywords={"k": 10},
        paper="Sun et al., arXiv 2112.12433",
    ),
    Loss(
        name="sparsemax",
        function=_sparse.sparsemax_loss,
        reference=sparse_reference.sparsemax_loss,
        settled=_sparse.sparsemax_settled,
        paper="Martins and Astudillo, arXiv 1602.02068",
    ),
    Loss(
        name="entmax",
        function=_sparse.entmax_loss,
        reference=sparse_reference.entmax_loss,
        settled=_sparse.entmax_settled,
        keywords={"alpha": 1.5},
        paper="Peters et al., arXiv 1905.05702",
    ),
    Loss(
        name="am_softmax",
        function=_margin.am_softmax_loss,
        reference=margin_reference.am_softmax_loss,
        cosine=True,
        keywords={"margin": 0.35, "scale": 30.0},
        paper="Wang et al., arXiv 1801.05599",
    ),
    Loss(
        name="soft_margin_softmax",
        function=_margin.soft_margin_softmax_loss,
        reference=margin_reference.soft_margin_softmax_loss,
        keywords={"margin": 0.5},
        paper="Liang et al., doi 10.1007/978-3-319-70096-0_43",
    ),
    Loss(
        name="multi_label_softmax",
        function=_multi_label.multi_label_softmax_loss,
        reference=multi_label_reference.multi_label_softmax_loss,
        target="multi_hot",
        paper="Su et al., arXiv 2208.02955",
    ),
    Loss(
        name="multi_label_sparse_softmax",
        function=_multi_label.multi_label_sparse_softmax_loss,
        reference=multi_label_reference.multi_label_sparse_softmax_loss,
        target="multi_hot",
        keywords={"k": 10},
        paper="Sun et al., arXiv 2112.12433",
    ),
    Loss(
        name="multi_label_sigmoid",
        function=_multi_label.multi_label_sigmoid_loss,
        reference=multi_label_reference.multi_label_sigmoid_loss,
        target="multi_hot",
        paper="Nam et al., arXiv 1312.5419",
    ),
)

LOSSES: Mapping[str, Loss] = MappingProxyType({row.name: row for row in _ROWS})
