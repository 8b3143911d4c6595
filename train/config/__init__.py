"""The typed configuration: its fields, its files, its overrides, its refusals.

A configuration file is a Python file with a function `get_config()` that returns a
`Config` and names only what differs from the defaults in `sections.py`. Overrides are
flags of the form `--config.loss.delta=0.2`.
"""

from .files import load, with_flags
from .margins import (
    default_slack,
    keywords_of_field,
    row_of_margin,
    unread_fields,
    with_margin,
)
from .overrides import override
from .sections import (
    MARGINS,
    CompactConfig,
    Config,
    DataConfig,
    LossConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    SelectionConfig,
    TrainingConfig,
)
from .stored import as_dict, first_difference, flatten, from_dict, settings
from .values import check, keys, nearest

__all__ = [
    "MARGINS",
    "CompactConfig",
    "Config",
    "DataConfig",
    "LossConfig",
    "MeshConfig",
    "ModelConfig",
    "OptimizerConfig",
    "SelectionConfig",
    "TrainingConfig",
    "as_dict",
    "check",
    "default_slack",
    "first_difference",
    "flatten",
    "from_dict",
    "keys",
    "keywords_of_field",
    "load",
    "nearest",
    "override",
    "row_of_margin",
    "settings",
    "unread_fields",
    "with_flags",
    "with_margin",
]
