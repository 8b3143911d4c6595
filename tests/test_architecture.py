"""Imports lead downwards: no arrow back up, no circle, and few files at the top."""

import architecture
import pytest


def test_every_room_stands_on_a_floor():
    floors = [room for names in architecture.FLOORS for room in names]
    assert sorted(floors) == sorted({"as_softmax_jax", *architecture.rooms()})


def test_no_import_leads_back_up():
    assert architecture.arrows_up() == []


def test_no_circle():
    assert architecture.circle(architecture.arrows()) == []
    assert architecture.circle(architecture.rooms()) == []


def test_the_comparison_stands_apart_from_the_trainer():
    assert architecture.forbidden() == []


def test_the_top_has_the_commands_the_loop_and_what_all_stand_on():
    top = {path.stem for path in (architecture.ROOT / "train").glob("*.py")}
    assert top == {
        *("__init__", "__main__", "compare", "evaluate", "predict", "export", "push"),
        "serve",
        *("loop", "runs", "tune", "init", "errors", "storage", "api"),
    }


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ({"a": {"b"}, "b": set()}, []),
        ({"a": {"b"}, "b": {"a"}}, ["a", "b", "a"]),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, ["b", "c", "b"]),
    ],
)
def test_a_circle_is_found(graph, found):
    assert architecture.circle(graph) == found
