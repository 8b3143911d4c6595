"""Golden values: a case or more of each loss, worked out by hand or in float64.

A file a family. Each value was computed in float64 NumPy from the loss's formula, apart
from the package and its references, most by `make_golden.py`. A comment says the loss
as arithmetic, with p the softmax of the logits where it names one.
"""

import importlib
import pkgutil

from golden.case import Golden

__all__ = ("GOLDEN", "Golden")

GOLDEN = tuple(
    case
    for module in pkgutil.iter_modules(__path__, "golden.")
    if module.name != "golden.case"
    for case in importlib.import_module(module.name).GOLDEN
)
