"""The import graph of the product: no circle, no verb within a verb, rooms that one can look over."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from experiments.__main__ import INTERNAL
from reports.commands import ROOT

ROOMS = ("engine", "metrics", "baselines", "reports", "experiments")
MOST_MODULES = 15
MAIN = '\nif __name__ == "__main__":'
Graph = Mapping[str, set[str]]


@cache
def modules() -> dict[str, Path]:
    """Name -> file. A package's own file goes by the package's name."""
    paths = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(path: Path) -> set[str]:
    """Modules of ours that the file names in an import, at its top, in a function, or for types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= whole & set(modules()) or {node.module}
            found |= {node.module} if whole - set(modules()) else set()
    return found & set(modules())


@cache
def graph() -> dict[str, set[str]]:
    return {name: imported(path) - {name} for name, path in modules().items()}


def room_of(module: str) -> str:
    """The folder; a verb that is one file stands for itself, as a folder would."""
    path = modules()[module]
    package = path.parent.relative_to(ROOT).as_posix()
    return module if path.parent.name in ROOMS and path.name != "__init__.py" else package


def rooms(edges: Graph) -> dict[str, set[str]]:
    """Arrows within one of the five packages; a module at its top is a room of its own, shared or a verb."""
    found: dict[str, set[str]] = {}
    for module, others in edges.items():
        here = room_of(module)
        found.setdefault(here, set()).update(room_of(other) for other in others if room_of(other) != here)
    return found


def circle_in(edges: Graph) -> list[str]:
    """One of the circles, as the names that lie on it; empty where there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle_in(graph()) == []


def test_no_rooms_import_each_other_in_a_circle() -> None:
    assert circle_in(rooms(graph())) == []


def test_a_circle_would_be_seen() -> None:
    edges = {name: set(others) for name, others in graph().items()}
    edges["experiments.common.cli"].add("experiments.run")
    assert "experiments.run" in circle_in(edges)
    assert circle_in(rooms(edges)) != []


def test_no_verb_imports_a_verb() -> None:
    """What two of them need lies in a room below."""
    programs = {f"experiments.{name}" for name in INTERNAL} | {"metrics.isolation"}  # children that a verb starts
    verbs = {name for name, path in modules().items() if MAIN in path.read_text("utf-8")} - programs
    assert {"experiments.run", "experiments.sweep.__main__", "reports.__main__"} <= verbs
    arrows = {(name, other) for name in modules() for other in graph()[name] & verbs}
    assert arrows == set()


@pytest.mark.parametrize("folder", sorted({path.parent for path in modules().values()}), ids=str)
def test_a_folder_can_be_looked_over(folder: Path) -> None:
    names = [path.name for path in folder.glob("*.py") if path.name not in ("__init__.py", "__main__.py")]
    assert len(names) <= MOST_MODULES
    assert (folder / "__init__.py").is_file() or folder.parent.name == "engine", "a room says what it is for"
    if (folder / "__init__.py").is_file():
        says = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8")))
        assert says, f"{folder}/__init__.py: a docstring of one line says what the room is for"


def test_every_room_is_on_the_map() -> None:
    text = (ROOT / "docs/house.md").read_text("utf-8")
    named = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    folders = {path.parent.relative_to(ROOT).as_posix() for path in modules().values()}
    assert named == folders, "docs/house.md has one row for every folder with Python files"
