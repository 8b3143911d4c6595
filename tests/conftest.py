"""Strict settings for every test: 8 CPU devices, strict dtypes and ranks."""

import itertools
import os

# These must be set before JAX starts its CPU backend. The tests compile thousands of
# small programs and run each once, so LLVM's optimisation costs more than it saves;
# XLA's own passes, which decide fusion, memory and communication, run as ever. Where
# cores are few and busy, one of eight devices may come to a collective a minute after
# the others; XLA ends the process after 40 s by default.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
        "--xla_cpu_collective_call_terminate_timeout_seconds=600",
    ]
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

from as_softmax_jax import kernels
from train.command.programs import forget_many_programs

pytest_plugins = ["small_runs"]

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


# A look at what Linux limits, the mappings of a process, costs 20 ms: not at each test.
_TESTS_A_LOOK = 25
_tests_run = itertools.count(1)


def pytest_runtest_teardown():
    """Keeps a worker, which compiles thousands of programs, below that limit."""
    if next(_tests_run) % _TESTS_A_LOOK == 0:
        forget_many_programs()


@pytest.fixture(autouse=True)
def _standard_promotion(request):
    """Lifts strict promotion for tests marked with a reason for it."""
    marker = request.node.get_closest_marker("standard_promotion")
    if marker is None:
        yield
        return
    assert marker.kwargs.get("reason"), "standard_promotion needs a reason"
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def pytest_make_parametrize_id(val):
    """Names no test by a file's bytes, which may hold the time they were written at."""
    return "binary" if isinstance(val, bytes) and b"\0" in val else None


@pytest.fixture(autouse=True)
def _interpreted_kernels(request):
    """Interprets kernels in the tests that take one as their `implementation`."""
    callspec = getattr(request.node, "callspec", None)
    name = callspec.params.get("implementation") if callspec else None
    if not str(name).startswith("mosaic"):
        yield
        return
    if not kernels.can_interpret(name):
        pytest.skip(f"jax {jax.__version__} cannot interpret {name}")
    with kernels.interpreted(name):
        yield


def pytest_collection_modifyitems(items):
    """Leaves to the night what is long in two ways: a loss of many, eagerly."""
    for item in items:
        if len([*item.iter_markers("long")]) > 1 and "losses" in item.nodeid:
            item.add_marker(pytest.mark.every)
