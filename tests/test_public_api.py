"""The doors: what each topic has it exports, and each name is documented."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import as_softmax_jax
from as_softmax_jax import heads, losses, regularizers, scores, transforms

PAGES = "\n".join(
    page.read_text() for page in (Path(__file__).parents[1] / "docs").glob("*.md")
)
TOPICS = {
    topic.__name__.split(".")[-1]: topic
    for topic in (heads, losses, regularizers, scores, transforms)
}
FUNCTIONS = {
    f"{name}.{public}": getattr(topic, public)
    for name, topic in TOPICS.items()
    for public in topic.__all__
    if inspect.isfunction(getattr(topic, public))
}


def parameters(name):
    return inspect.signature(FUNCTIONS[name]).parameters


LOSS_FUNCTIONS = [
    name for name in FUNCTIONS if name.endswith("_loss") and "register" not in name
]


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
    "_blocked": {"statistics"},
    "_blocks": None,
    "_gradients": {"gradients"},
    "_operands": None,
    "_passes": None,
    "_rows": None,
    "_products": {"product", "read", "sum_dtype"},
    "_centers": None,
    "_cosine": {"cosines_of"},
    "_linear_margin": {"margin_loss"},
}


@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_exports_every_function_that_it_defines(name):
    topic = TOPICS[name]
    for module in private_modules(topic):
        shared = SHARED.get(module.__name__.split(".")[-1], set())
        if shared is not None:
            hidden = {*defined_in(module)} - {*topic.__all__} - shared
            assert not hidden, f"{module.__name__} defines {hidden}"


def test_what_is_at_the_top_is_in_its_topic_too():
    for name in {*as_softmax_jax.__all__} - {*TOPICS}:
        value = getattr(as_softmax_jax, name)
        assert any(vars(topic).get(name) is value for topic in TOPICS.values()), name


@pytest.mark.parametrize("door", [as_softmax_jax, *TOPICS.values()])
def test_every_public_name_is_on_a_page(door):
    for name in door.__all__:
        assert f"`{name}`" in PAGES, f"no page of docs/ has `{name}`"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_documents_its_own_arguments(name):
    docstring = inspect.getdoc(FUNCTIONS[name])
    shared = f"`{FUNCTIONS[name].__module__.rpartition('.')[0]}`" in docstring
    shared |= "Arguments and errors are those of" in " ".join(docstring.split())
    for parameter in parameters(name).values():
        documented = f"\n  {parameter.name}: " in docstring
        documented |= f"\n  **{parameter.name}: " in docstring
        assert documented or shared, f"{name} does not document `{parameter.name}`"


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if "logits" in parameters(n)])
def test_each_loss_and_its_companions_have_an_example(name):
    assert ">>> " in inspect.getdoc(FUNCTIONS[name])


@pytest.mark.parametrize("name", LOSS_FUNCTIONS)
def test_losses_share_one_grammar(name):
    all_of_them = list(parameters(name).values())
    arrays, keywords = all_of_them[:2], all_of_them[2:]
    shared = {"where", "class_mask"}
    if name.startswith("heads."):
        # What makes the logits stands in their place; their classes come last.
        assert [p.name for p in all_of_them[:3]] == ["features", "kernel", "labels"]
        keywords = all_of_them[3:]
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
