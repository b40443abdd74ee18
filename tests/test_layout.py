"""Policies of the house as tests: import arrows, configurations, file sizes, the README's map."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from engine.build import engine_arguments, target_of
from engine.contract import ConfigError
from tests.engines import ROOT, config

ROOMS = ("engine", "metrics", "baselines", "reports", "experiments")
ARROWS = {
    "engine": {"engine"},
    "metrics": {"metrics"},
    "baselines": {"baselines", "metrics"},
    "reports": {"reports", "metrics", "baselines"},
    "experiments": set(ROOMS),
}
SOURCES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
OWN = (
    "bisect",
    "compare",
    "load",
    "serve",
    "watch",
    "recipe",
)  # groups of one verb: no part of what is measured, so not in the default composition
GROUPS = sorted(
    (path.parent.name, path.stem) for path in (ROOT / "conf").glob("*/*.yaml") if path.parent.name not in ("texts",)
)


def imported_rooms(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names & set(ROOMS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    assert imported_rooms(path) <= ARROWS[room]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is too long"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "hasattr", "vary by type, not by probing"


def test_a_file_of_tests_can_be_read_too() -> None:
    lengths = {path.name: len(path.read_text("utf-8").splitlines()) for path in (ROOT / "tests").glob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


@pytest.mark.parametrize("path", sorted((ROOT / "engine" / "native").glob("*.[ch]*")), ids=lambda path: path.name)
def test_what_is_written_in_cpp_stays_readable_too(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) <= 300
    assert max(len(line) for line in lines) <= 120


@pytest.mark.parametrize(("group", "name"), GROUPS, ids=lambda part: part)
def test_every_configuration_composes(group: str, name: str) -> None:
    composed = config(f"+{group}={name}" if group in OWN else f"{group}={name}")
    if group in OWN:
        assert composed[group]
    elif group != "experiment":
        assert composed[group]["name"] == name


@pytest.mark.parametrize("name", [name for group, name in GROUPS if group == "engine"])
def test_every_engine_key_binds_to_its_build_function(name: str) -> None:
    composed = config(f"engine={name}")["engine"]
    inspect.signature(target_of(composed)).bind(context=None, **engine_arguments(composed))
    with pytest.raises(ConfigError, match="is not a key of this engine"):
        engine_arguments({**composed, "precison": "fp16"})


def test_what_is_published_stays_small() -> None:
    """Text and small pictures; audio by `make published-audio`."""
    paths = [path for path in (ROOT / "reports" / "published").rglob("*") if path.is_file()]
    assert {path.suffix for path in paths} <= {".md", ".png"}
    assert sum(path.stat().st_size for path in paths) < 3e6


@pytest.mark.parametrize(
    "page", [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`]*`", "", page.read_text("utf-8"))
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    assert [link for link in links if link and "://" not in link and not (page.parent / link).exists()] == []


def test_the_readme_stays_a_front_door() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 250
    assert len(text.encode()) <= 10_000
    linked = set(re.findall(r"\(docs/([a-z-]+)\.md", text))
    assert linked == {page.stem for page in (ROOT / "docs").glob("*.md")}, "a page that nobody finds"


def test_readme_file_map_matches_the_disk() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    file_map = readme.split("## File map", 1)[1].split("```", 2)[1]
    named = {line.split()[0].rstrip("/") for line in file_map.splitlines() if line.strip()}
    top = {p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name != "outputs"}
    hidden = {"node_modules", "f5bench.egg-info"}
    for room in ROOMS:
        assert room in named
    assert named <= top | {p.name for p in ROOT.iterdir()}, "the map names something that is not there"
    assert top - named - hidden == set(), "a folder is missing from the map"
