"""The rooms of `src/` stand on floors: a module imports only from its own room and from the floors below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src"

# From the ground up. Rooms of one floor do not know each other.
FLOORS = (
    ("errors",),
    ("system", "media"),
    ("config", "models", "transcription", "moderation"),
    ("utils",),
    ("jobs",),
    ("results", "scratch", "archives"),
    ("db", "s3_utils"),
    ("recovery", "monitoring", "policy_lab"),
    ("workers",),
    ("commands",),
    ("cli",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
DOORS = {"models.__main__": "only starts the command line", "db": "the door of `results`"}


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path
        for path in SRC.rglob("*.py")
    }


def imports(path: Path, known: set[str]) -> Iterator[str]:
    """Modules of ours that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from [name for name in inner if name in known] or [node.module]


def room(module: str) -> str:
    return module.partition(".")[0]


def test_every_room_stands_on_a_floor():
    assert {room(module) for module in modules()} == set(FLOOR)


def test_nothing_is_imported_from_a_higher_floor_or_from_a_neighbour():
    known = modules()
    wrong = [
        f"{module} imports {name}"
        for module, path in known.items()
        if module not in DOORS
        for name in imports(path, set(known))
        if room(name) != room(module) and FLOOR[room(name)] >= FLOOR[room(module)]
    ]
    assert wrong == []


def test_results_are_reached_by_their_door():
    known = modules()
    around = [
        f"{module} imports {name}"
        for module, path in known.items()
        if module != "db" and room(module) != "results"
        for name in imports(path, set(known))
        if room(name) == "results"
    ]
    assert around == []


def test_no_two_modules_import_each_other_in_a_circle():
    known = modules()
    graph = {module: {name for name in imports(path, set(known)) if name != module} for module, path in known.items()}
    # A package's __init__ re-exports its modules, which do not import it back; both ways would be a circle.
    while leaves := {module for module, needs in graph.items() if not needs & graph.keys()}:
        graph = {module: needs for module, needs in graph.items() if module not in leaves}
    assert {module for module in graph if module not in DOORS} == set()


@pytest.mark.parametrize("path", sorted(SRC.glob("**/__init__.py")), ids=lambda path: path.parent.name)
def test_every_room_says_what_it_holds(path):
    assert ast.get_docstring(ast.parse(path.read_text()))
