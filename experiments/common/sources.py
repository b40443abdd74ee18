"""The one hash of code: which of our files can change an answer, and what they hold, committed or not.

The engine counts whole, C++ and data included, because configurations name what they call there by text. Outside it a
module counts where it is imported, in any spelling, by one that counts.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from engine.paths import ROOT

ROOMS = ("engine", "experiments", "metrics", "baselines", "reports")
TIMED_PATH = ("experiments.measuring.worker",)
SCORING = ("experiments.scoring.score",)
# No answer hangs on what only people read or what Python makes of a module; weights and clips are hashed where a
# configuration names them, so that another model's cells stay
NOT_CODE = (".md", ".pyc", ".safetensors", ".wav")
# Modules whose distributions have other names
DISTRIBUTIONS = {"yaml": ("pyyaml",), "onnxruntime": ("onnxruntime", "onnxruntime-gpu")}
BEHIND = ("einops", "librosa", "torchdiffeq", "triton", "x_transformers")  # what f5_tts and torch compute with


def code_hash(root: Path = ROOT) -> str:
    """Of the engine and of what the worker imports: what only judges or renders is left out. 16 hexadecimal digits."""
    return sources_hash(root, {*room_files(root, "engine"), *imported(root, TIMED_PATH)})


def scoring_hash(root: Path = ROOT) -> str:
    """Of the metrics, which children call by name, and of what the scoring process imports."""
    return sources_hash(root, {*room_files(root, "metrics"), *imported(root, SCORING)})


def package_versions(root: Path = ROOT) -> dict[str, str | None]:
    """Installed version of every package that the code of `code_hash` imports; None where it is not installed."""
    paths = {*room_files(root, "engine"), *imported(root, TIMED_PATH)}
    modules = {name.partition(".")[0] for path in paths if path.suffix == ".py" for name in _imports(root, path)}
    foreign = sorted({*(modules - {*ROOMS, *sys.stdlib_module_names, ""}), *BEHIND})
    return {name: _version(DISTRIBUTIONS.get(name, (name,))) for name in foreign}


def sources_hash(root: Path, paths: Iterable[Path]) -> str:
    """Of the files' places below the root and their contents."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.relative_to(root).as_posix()} {_content(path)}\n".encode())
    return digest.hexdigest()[:16]


def room_files(root: Path, room: str) -> list[Path]:
    """Every file below a room that an answer can hang on, of whatever kind."""
    return [
        path
        for path in (root / room).rglob("*")
        if path.is_file() and path.suffix not in NOT_CODE and not path.name.startswith(".") and path.name[-1] != "~"
    ]


def imported(root: Path, modules: Iterable[str]) -> set[Path]:
    """The files of the modules and of all of ours that they import, packages' own files included."""
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _file_of(root, name)
        if path is None or path in found:
            continue
        found.add(path)
        waiting += _imports(root, path)
        waiting += [name.rpartition(".")[0]]
    return found


def _file_of(root: Path, module: str) -> Path | None:
    """None for what is not ours, and for a name that a module holds."""
    if module.partition(".")[0] not in ROOMS:
        return None
    place = root.joinpath(*module.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def _imports(root: Path, path: Path) -> tuple[str, ...]:
    stat = path.stat()
    package = path.parent.relative_to(root).parts
    return _imports_of(path, package, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1024)
def _imports_of(path: Path, package: tuple[str, ...], num_bytes: int, mtime_ns: int) -> tuple[str, ...]:
    return tuple(_names(ast.parse(path.read_bytes()), package))


def _names(tree: ast.Module, package: tuple[str, ...]) -> Iterator[str]:
    """What may be a module: `from a import b` may mean a.b or a name in a."""
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Every statement, however deep. Expressions hold none, and most nodes are expressions."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for blocks in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, blocks, ())


def _content(path: Path) -> str:
    stat = path.stat()
    return _content_of(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1024)
def _content_of(path: Path, num_bytes: int, mtime_ns: int) -> str:
    """A sweep asks twice a cell: a file is read again only when it was written again."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _version(distributions: Iterable[str]) -> str | None:
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None
