"""Names the machine, and puts a script's table into a page of docs/."""

import os
import platform
import re
from pathlib import Path

import jax
import optax

DOCS = Path(__file__).parents[1] / "docs"
PAGE, LOSSES_PAGE = DOCS / "benchmarks.md", DOCS / "losses.md"


def machine() -> str:
    """The processor, its cores and the versions, in a line."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"model name\s*: (.*)", cpuinfo.read_text())
        name = found.group(1) if found else name
    return (
        f"{name}, {os.cpu_count()} cores, device {jax.devices()[0].device_kind}; "
        f"Python {platform.python_version()}, jax {jax.__version__}, "
        f"optax {optax.__version__}"
    )


def write_section(name: str, section: str, page: Path = PAGE) -> None:
    """Puts a section between its own markers, and touches nothing else."""
    # The trainer's packages are not needed to measure.
    from train.comparison import sections

    sections.write_section(page, name, section)
