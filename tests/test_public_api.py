"""The doors: what each topic has it exports, and each name is documented."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import as_softmax_jax
from as_softmax_jax import heads, losses, transforms

PAGES = "\n".join(
    page.read_text() for page in (Path(__file__).parents[1] / "docs").glob("*.md")
)
TOPICS = {topic.__name__.split(".")[-1]: topic for topic in (heads, losses, transforms)}
FUNCTIONS = {
    f"{name}.{public}": getattr(topic, public)
    for name, topic in TOPICS.items()
    for public in topic.__all__
    if inspect.isfunction(getattr(topic, public))
}
LOSS_FUNCTIONS = sorted(name for name in FUNCTIONS if name.endswith("_loss"))


def private_modules(topic):
    """The modules that a topic's functions are defined in."""
    return [
        importlib.import_module(f"{topic.__name__}.{module.name}")
        for module in pkgutil.iter_modules(topic.__path__)
    ]


def defined_in(module):
    """The functions of a module that have no underscore before their name."""
    return [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]


# Functions that modules of one topic share; no user calls them.
SHARED = {
    "_extras": {"extra_keywords", "own_keywords"},
    "_draws": {"draws_by_shared_key"},
    "_blocks": None,
    "_passes": None,
}


@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_exports_every_function_that_it_defines(name):
    topic = TOPICS[name]
    for module in private_modules(topic):
        shared = SHARED.get(module.__name__.split(".")[-1], set())
        if shared is not None:
            hidden = {*defined_in(module)} - {*topic.__all__} - shared
            assert not hidden, f"{module.__name__} defines {hidden}"


@pytest.mark.parametrize("door", [as_softmax_jax, *TOPICS.values()])
def test_a_door_lists_its_names_in_order(door):
    constants_first = sorted(door.__all__, key=lambda n: (n.lower() == n, n))
    classes_after = sorted(
        door.__all__, key=lambda n: (not n.isupper(), n.lower() == n, n)
    )
    assert list(door.__all__) in (constants_first, classes_after)
    assert all(hasattr(door, name) for name in door.__all__)


def test_what_is_at_the_top_is_in_its_topic_too():
    for name in {*as_softmax_jax.__all__} - {*TOPICS}:
        value = getattr(as_softmax_jax, name)
        assert any(vars(topic).get(name) is value for topic in TOPICS.values()), name


@pytest.mark.parametrize("door", [as_softmax_jax, *TOPICS.values()])
def test_every_public_name_is_on_a_page(door):
    for name in door.__all__:
        assert f"`{name}`" in PAGES, f"no page of docs/ has `{name}`"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_is_documented_in_full(name):
    docstring = inspect.getdoc(FUNCTIONS[name])
    assert docstring.splitlines()[0].endswith((".", "one."))
    own = inspect.signature(FUNCTIONS[name]).parameters.keys() - {
        *("logits", "labels", "targets", "where", "class_mask", "axis"),
        *("features", "kernel", "bias", "kernel_layout", "axis_name"),
    }
    sections = ["Args:"] if own else []
    for part in sections:
        assert part in docstring, f"{name} has no {part!r} in its docstring"
    if (
        name.startswith("losses.")
        and "logits" in inspect.signature(FUNCTIONS[name]).parameters
    ):
        assert "`as_softmax_jax.losses`" in docstring
        assert ">>> " in docstring


@pytest.mark.parametrize("name", LOSS_FUNCTIONS)
def test_losses_share_one_grammar(name):
    if name == "losses.register_loss":
        pytest.skip("puts a loss into the table")
    parameters = list(inspect.signature(FUNCTIONS[name]).parameters.values())
    arrays, keywords = parameters[:2], parameters[2:]
    shared = {"where", "class_mask"}
    if name.startswith("heads."):
        # What makes the logits stands in their place; their classes come last.
        assert [p.name for p in parameters[:3]] == ["features", "kernel", "labels"]
        keywords = parameters[3:]
    else:
        assert arrays[0].name == "logits"
        assert arrays[1].name == ("targets" if "multi_label" in name else "labels")
        shared |= {"axis"}
    assert all(p.kind is p.KEYWORD_ONLY for p in keywords)
    assert shared <= {p.name for p in keywords}


def test_importing_the_library_loads_no_kernel():
    program = (
        "import sys, jax, optax; before = {*sys.modules}; import as_softmax_jax; "
        "print(*(m for m in {*sys.modules} - before if 'pallas' in m or 'mosaic' in m))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""


def test_the_library_imports_neither_flax_nor_the_trainer():
    program = (
        "import sys, as_softmax_jax; "
        "print(*(m for m in ('flax', 'train', 'grain', 'sklearn') if m in sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""
