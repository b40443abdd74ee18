"""What a cell needs on another machine: code and small files travel by the hash of their content, large files have to
lie there already, by the same path or in a cache, and are held to the hash of those here.

A file of the repository travels with the code. One that a setting names elsewhere travels with the first cell that
needs it, unless it is larger than launcher.small_bytes, and the setting then names the copy; the record keeps what was
asked.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.cache import cache_root
from engine.contract import ConfigError
from engine.families.family import family_of
from engine.paths import ROOT
from engine.weights.checkpoint import content_sha256
from experiments.common.plain import Config, as_config, as_plain
from experiments.settings.identity import NOT_MEASURED, named_by, texts_in
from experiments.workload.requests import load_workload

PACKAGES = ("engine", "experiments", "metrics", "baselines", "reports", "conf")
LEFT_OUT = ("__pycache__", "published")  # of the packages: made by Python, read by nobody who measures
SHOWN = 12  # digits of a hash

Expected = Mapping[str, Sequence[str]]


def code_archive(more: Collection[str] = (), root: Path = ROOT) -> tuple[str, bytes]:
    """(hash of its content, a zip) of the packages. more: further packages beside them (a worker of tests)."""
    names = sorted({*PACKAGES, *more})
    files = sorted(path for name in names for path in (root / name).rglob("*") if _travels(path, root))
    digest, archive = hashlib.sha256(), io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as pack:
        for path in files:
            name = path.relative_to(root).as_posix()
            digest.update(f"{name} {content_sha256(path)}\n".encode())
            pack.write(path, name)
    return digest.hexdigest()[:32], archive.getvalue()


def _travels(path: Path, root: Path) -> bool:
    parts = path.relative_to(root).parts  # wherever the checkout lies
    return path.is_file() and not any(part in LEFT_OUT or part.startswith(".") for part in parts)


def absolute(config: Config, root: Path = ROOT) -> Config:
    """The configuration with every file that it names from the working directory by its whole path; files of the
    repository keep their names, which are right in the copy too."""

    def place(text: str) -> str:
        path = Path(os.path.expanduser(text))
        if not path.is_file() or path.resolve().is_relative_to(root):
            return _of_root(text, root)
        return str(path.absolute())

    return _with_texts(config, place)


def _of_root(text: str, root: Path) -> str:
    path = Path(os.path.expanduser(text))
    inside = path.is_absolute() and path.is_file() and path.resolve().is_relative_to(root)
    return path.resolve().relative_to(root).as_posix() if inside else text


def small_files(config: Config, most_bytes: int, root: Path = ROOT) -> dict[str, list[tuple[str, str]]]:
    """Text of a setting -> (name, hash) of the files that it stands for, of those that travel with a cell."""
    found: dict[str, list[tuple[str, str]]] = {}
    for _, text in _measured_texts(config):
        paths = [path for path in dict.fromkeys(named_by(text)) if not path.resolve().is_relative_to(root)]
        if paths and all(path.stat().st_size <= most_bytes for path in paths):
            found[text] = [(path.name, content_sha256(path)) for path in paths]
    return found


def contents(config: Config, hashes: Collection[str]) -> dict[str, bytes]:
    """Hash -> content, of the small files that the other machine lacks."""
    named = {content_sha256(path): path for _, text in _measured_texts(config) for path in named_by(text)}
    return {sha256: named[sha256].read_bytes() for sha256 in hashes}


def shelved(sha256: str) -> Path:
    """Where a file that travelled lies on this machine: a folder of its own, in which it has its own name."""
    return cache_root() / "fleet" / "files" / sha256


def shelve(sha256: str, content: bytes) -> None:
    """Raises ValueError where the content is not what its hash says."""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"a file that travelled is not {sha256[:SHOWN]}")
    place = shelved(sha256)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=place.parent, prefix=".new-", delete=False) as file:
        file.write(content)
    os.replace(file.name, place)


def settled(config: Config, files: Mapping[str, Sequence[tuple[str, str]]], folder: Path) -> Config:
    """The configuration with the texts of `files` as paths below `folder`, where links of the right names lead to what
    was shelved: a description beside a file is found by its name."""
    places = {}
    for number, (text, entries) in enumerate(sorted(files.items())):
        (folder / str(number)).mkdir(parents=True, exist_ok=True)
        for name, sha256 in entries:
            shutil.copyfile(shelved(sha256), folder / str(number) / Path(name).name)
        places[text] = str(folder / str(number) / Path(entries[0][0]).name)
    return _with_texts(config, lambda text: places.get(text, text))


def expected_of(config: Config) -> dict[str, list[str]]:
    """Key of a setting -> hashes of what it stands for, equal wherever the files lie.

    Raises ConfigError where weights or texts are not to be found.
    """
    hashes: dict[str, set[str]] = {"workload": {load_workload(config).identity_sha256}}
    hashes |= {key: {found} for key, found in family_of(config["model"]).files(config).items()}
    for key, text in _measured_texts(config):
        if key not in hashes and (named := {content_sha256(path) for path in named_by(text)}):
            hashes[key] = named
    return {key: sorted(found) for key, found in sorted(hashes.items())}


def refuse_others(config: Config, expected: Expected, machine: str) -> None:
    """Raises ConfigError for the first file that is another one here than where the cell was asked for."""
    here = expected_of(config)
    for key, wanted in expected.items():
        if here.get(key) != list(wanted):
            group, _, name = key.partition(".")
            part = as_plain(config).get(group)
            value = part.get(name) if isinstance(part, Mapping) and name else group
            held = ", ".join(one[:SHOWN] for one in here.get(key, [])) or "no such file"
            raise ConfigError(
                key, value, f"is another file on {machine}: {held}, not {', '.join(one[:SHOWN] for one in wanted)}",
                "copy it there, or raise launcher.small_bytes so that it travels",
            )  # fmt: skip


def _measured_texts(config: Config) -> Iterator[tuple[str, str]]:
    for group in sorted(config.keys() - set(NOT_MEASURED)):
        yield from texts_in(group, as_plain(config)[group])


def _with_texts(config: Config, change: Any) -> Config:
    """Every text of what is measured changed, however deep."""

    def changed(value: Any) -> Any:
        if isinstance(value, str):
            return change(value)
        if isinstance(value, Mapping):
            return {name: changed(inner) for name, inner in value.items()}
        return [changed(inner) for inner in value] if isinstance(value, list | tuple) else value

    return as_config({key: value if key in NOT_MEASURED else changed(value) for key, value in config.items()})
