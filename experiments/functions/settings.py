"""The command line of `experiments.functions`: what each side calls, what both share, of conf/compare/blocks.yaml."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from baselines.paired.data import CANDIDATE, DEVICE_TIME, REFERENCE
from engine.contract import ConfigError
from experiments.compare.settings import COMPARE, SIDES, Compare, Settings, read_settings
from experiments.settings.typed import unknown_key

SIDE_KEYS = ("function", "repository", "revision", "path", "python")
SHARED_KEYS = ("texts", "calls", "device", "threads", "out")
FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
DEVICE = re.compile(r"cpu|cuda(:[0-9]+)?")
MOST_CALLS = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class FunctionSide:
    """function: module:name. repository: a checkout; revision: of it, None for the files as they lie there. path: the
    folder below it that is imported from. python: the interpreter, whose environment holds what the module needs."""

    function: str
    repository: Path
    revision: str | None
    path: str
    python: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FunctionCommand:
    """texts: what the calls get, one each in turn; (None,) for functions without arguments."""

    sides: Mapping[str, FunctionSide]
    texts: tuple[str | None, ...]
    calls: int
    device: str
    threads: int | None
    out: Path | None
    settings: Settings


def read_command(argv: Sequence[str]) -> FunctionCommand:
    """[reference.|candidate.]KEY=VALUE. Raises ConfigError."""
    asked: dict[str, dict[str, str]] = {side: {} for side in SIDES}
    shared: dict[str, str] = {}
    limits: list[str] = []
    known = (*SIDE_KEYS, *SHARED_KEYS, *Compare.model_fields)
    for text in argv:
        key, equals, value = text.partition("=")
        side, _, rest = key.partition(".")
        if not equals:
            raise ConfigError("setting", text, "must be KEY=VALUE", "see --help")
        if side in SIDES and rest in SIDE_KEYS:
            asked[side][rest] = value
        elif key in SIDE_KEYS:
            for own in asked.values():
                own.setdefault(key, value)
        elif key in SHARED_KEYS:
            shared[key] = value
        elif key in Compare.model_fields or key.partition(".")[0] == COMPARE.name:
            limits.append(text)
        else:
            raise unknown_key(key, value, known)
    sides = {side: _side(side, asked[side]) for side in SIDES}
    _refuse_same(sides)
    return FunctionCommand(
        sides=sides, texts=_texts(shared.get("texts")), calls=_whole("calls", shared.get("calls", "1"), MOST_CALLS),
        device=_device(shared.get("device", "cpu")),
        threads=_whole("threads", shared["threads"], 4096) if "threads" in shared else None,
        out=Path(shared["out"]) if "out" in shared else None, settings=_limits(limits, sides),
    )  # fmt: skip


def _side(side: str, asked: Mapping[str, str]) -> FunctionSide:
    function = asked.get("function", "")
    if not FUNCTION.fullmatch(function):
        raise ConfigError(
            f"{side}.function", function, "must be module:function", "write function=package.module:name for both sides"
        )
    repository = Path(asked.get("repository", "."))
    if not repository.is_dir():
        raise ConfigError(f"{side}.repository", repository, "is no folder", "give a checkout")
    path = asked.get("path", "")
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise ConfigError(
            f"{side}.path", path, "must lie below the repository", "give a folder of it, such as path=src"
        )
    named = asked.get("python", "python3")
    python = shutil.which(named)
    if python is None:
        raise ConfigError(
            f"{side}.python",
            named,
            "there is no such program",
            "give the interpreter of your environment, .venv/bin/python",
        )
    return FunctionSide(
        function=function, repository=repository.resolve(), revision=asked.get("revision") or None, path=path,
        python=str(Path(python).absolute()),
    )  # fmt: skip


def _refuse_same(sides: Mapping[str, FunctionSide]) -> None:
    if sides[REFERENCE] == sides[CANDIDATE]:
        raise ConfigError(
            "candidate", sides[CANDIDATE].function, "is the reference itself",
            "add reference.revision=HEAD~1 candidate.revision=HEAD, or candidate.function=, .repository= or .python=",
        )  # fmt: skip


def _texts(name: str | None) -> tuple[str | None, ...]:
    """The lines of a file that say something."""
    if name is None:
        return (None,)
    try:
        lines = Path(name).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise ConfigError("texts", name, f"cannot be read ({error})", "give a UTF-8 file, one text a line") from error
    texts = tuple(line.strip() for line in lines if line.strip())
    if not texts:
        raise ConfigError("texts", name, "holds no line", "write one text a line")
    return texts


def _whole(key: str, text: str, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= most:
        raise ConfigError(key, text, f"must be a whole number from 1 to {most}", f"use {key}=1")
    return int(text)


def _device(text: str) -> str:
    if not DEVICE.fullmatch(text):
        raise ConfigError("device", text, "must be cpu, cuda or cuda:N", "name what the functions run on")
    return text


def _limits(given: Sequence[str], sides: Mapping[str, FunctionSide]) -> Settings:
    settings = read_settings(given, num_trees=len({(side.repository, side.revision) for side in sides.values()}))
    if settings.limits.mode != "blocks":
        raise ConfigError(
            "mode", settings.limits.mode, "one set of processes says nothing about the next, of code that is not known",
            "leave it out",
        )  # fmt: skip
    if DEVICE_TIME in settings.limits.metrics:
        raise ConfigError("metrics", DEVICE_TIME, "is measured of engines only", "use metrics=[wall_time]")
    return settings
