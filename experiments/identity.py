"""The cell key: a hash of everything that decides what a cell measures, in four parts that can be named apart.

config: the resolved settings that reach the engine and the measuring loop. code: the engine package and every module
of the timed path. weights: the bytes of checkpoints, vocabulary, texts and voices. environment: host class, versions,
threads, power mode. A stored cell is reused only while all four are what they were.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.checkpoint import content_sha256, is_random, locate
from engine.paths import find_file
from experiments.compose import ROOT
from experiments.environment import fingerprint
from experiments.workload import load_workload
from metrics.record import to_json

# What decides neither speed nor sound: where results go, who is told, and what is computed from them afterwards
NOT_MEASURED = ("out", "sweep", "tracking", "gate", "quality")
# What a fingerprint holds of the machine itself; its load and the hour are states
STABLE = (
    "host_class", "cpu_model", "cpu_flags", "num_cores", "memory_bytes", "kernel", "python", "versions", "device",
    "gpu", "power_mode", "threads",
)  # fmt: skip
TIMED_PATH = (
    "experiments.worker", "experiments.measure", "experiments.calibration", "experiments.workload", "experiments.texts",
    "experiments.written", "experiments.cold",
)  # fmt: skip
FOLLOWED = ("experiments.measure", "experiments.calibration")
SHARED_ROOMS = ("experiments", "metrics")


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Four hashes of 16 hexadecimal digits."""

    config: str
    code: str
    weights: str
    environment: str

    @property
    def key(self) -> str:
        """The cell key."""
        return _short(to_json(asdict(self)))

    def changed_since(self, before: Mapping[str, str] | None) -> list[str]:
        """The names of the parts that differ from a stored identity; all of them where none is stored."""
        known = before or {}
        return [name for name, value in asdict(self).items() if known.get(name) != value]


def identity_of(config: Mapping[str, Any], root: Path = ROOT) -> Identity:
    """Of a resolved configuration, as code, weights and machine are now. root: of the sources that are hashed.

    Raises ConfigError where weights, texts or voices are not to be found.
    """
    settings = {key: value for key, value in config.items() if key not in NOT_MEASURED}
    return Identity(
        config=_short(to_json(settings)),
        code=code_hash(root),
        weights=_short(to_json(_weights(config))),
        environment=_environment(to_json(config["device"])),
    )


def code_hash(root: Path = ROOT) -> str:
    """Of the sources of the engine and of the timed path, committed or not; what only judges or renders is left out."""
    digest = hashlib.sha256()
    for path in (*sorted((root / "engine").rglob("*.py")), *timed_sources(root)):
        stat = path.stat()
        content = _source_sha256(path, stat.st_size, stat.st_mtime_ns)
        digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=1024)
def _source_sha256(path: Path, num_bytes: int, mtime_ns: int) -> str:
    """A sweep asks twice a cell: a file is read again only when it was written again."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@lru_cache(maxsize=4)
def timed_sources(root: Path = ROOT) -> tuple[Path, ...]:
    """The modules outside the engine that run around a timed call, with what they import of ours."""
    found = set(TIMED_PATH)
    waiting = list(FOLLOWED)
    while waiting:
        for name in _imports(_file_of(root, waiting.pop())):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return tuple(sorted(_file_of(root, name) for name in found))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in SHARED_ROOMS:
            yield node.module


def _file_of(root: Path, module: str) -> Path:
    return root / f"{module.replace('.', '/')}.py"


def _weights(config: Mapping[str, Any]) -> dict[str, str]:
    """Everything that is read from files: by content, wherever it lies."""
    sources = {
        "model.checkpoint": config["model"]["checkpoint"],
        "model.vocab": config["model"]["vocab"],
        "vocoder.checkpoint": config["vocoder"]["checkpoint"],
    }
    hashes = {key: _hash_of(key, str(source)) for key, source in sources.items()}
    hashes["workload"] = load_workload(config).identity_sha256
    for key, value in config["engine"].items():
        if isinstance(value, str) and "/" in value and find_file(value).is_file():
            hashes[f"engine.{key}"] = content_sha256(find_file(value))
    return hashes


def _hash_of(key: str, source: str) -> str:
    return source if is_random(source) else content_sha256(locate(key, source))


@lru_cache(maxsize=8)
def _environment(device: str) -> str:
    """Read once in a process: it takes programs and a window of time, and the machine stays the machine."""
    known = fingerprint(json.loads(device))
    return _short(to_json({name: known.get(name) for name in STABLE}))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
