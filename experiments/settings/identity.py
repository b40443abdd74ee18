"""The cell key: a hash of everything that decides what a cell measures, in four parts that can be named apart.

config: the resolved settings that reach the engine and the measuring loop. code: the engine package and every module
of the timed path. weights: the bytes of checkpoints, vocabulary, texts, voices and every other file that the settings
name. environment: host class, versions, threads, power mode. A stored cell is reused only while all four are what they
were.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.families.family import family_of
from engine.paths import ROOT
from engine.weights.checkpoint import content_sha256
from experiments.common.environment import fingerprint
from experiments.common.plain import Config, as_plain
from experiments.common.sources import code_hash, package_versions
from experiments.workload.requests import load_workload
from metrics.record import to_json

# What decides neither speed nor sound: where results go, who is told, and what is computed from them afterwards
NOT_MEASURED = ("out", "sweep", "tracking", "gate", "quality", "launcher")
# What a fingerprint holds of the machine itself; its load and the hour are states
STABLE = (
    "host_class", "cpu_model", "cpu_flags", "num_cores", "memory_bytes", "kernel", "python", "versions", "device",
    "gpu", "power_mode", "threads",
)  # fmt: skip
# Hashed by what is spoken, wherever it was read
SPOKEN = ("workload", "reference")


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


def identity_of(config: Config, root: Path = ROOT) -> Identity:
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


def _weights(config: Config) -> dict[str, str]:
    """Everything that is read from files: by content, wherever it lies."""
    sources = family_of(config["model"]).files(config)
    hashes = dict(sources)
    hashes["workload"] = load_workload(config).identity_sha256
    for group in sorted(config.keys() - {*NOT_MEASURED, *SPOKEN}):
        for key, text in texts_in(group, as_plain(config)[group]):
            named = named_by(text) if key not in sources else []
            hashes.update({f"{key} {number}": content_sha256(path) for number, path in enumerate(named)})
    return hashes


def texts_in(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every text of a setting, however deep, with its key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from texts_in(f"{key}.{name}", inner)
    elif isinstance(value, Sequence):
        for number, inner in enumerate(value):
            yield from texts_in(f"{key}.{number}", inner)


def named_by(text: str) -> list[Path]:
    """The files that a setting names, from here or from the root, and what describes them (a plan's .json)."""
    places = [os.path.expanduser(text), str(ROOT / text)]
    return [Path(name) for place in places for name in (place, f"{place}.json") if os.path.isfile(name)]


@lru_cache(maxsize=8)
def _environment(device: str) -> str:
    """Read once in a process: it takes programs and a window of time, and the machine stays the machine."""
    known = fingerprint(json.loads(device))
    return _short(to_json([{name: known.get(name) for name in STABLE}, package_versions()]))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
