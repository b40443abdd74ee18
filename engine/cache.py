"""What takes long to make and depends on its inputs only (exported graphs, optimised files, plans), kept on disk by the
hash of those inputs.

A folder appears complete or not at all (made beside its place, then renamed), with a manifest of sizes and hashes. One
that was cut short or altered is made again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from engine.contract import ConfigError
from engine.paths import with_home
from engine.weights.checkpoint import content_sha256

MANIFEST = "manifest.json"


def cache_root() -> Path:
    """F5BENCH_CACHE, else the user's cache folder; a user without a home has one among the temporary folders."""
    own = os.environ.get("F5BENCH_CACHE")
    if own:
        return with_home(own)
    shared = with_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return shared / "f5bench" if shared.is_absolute() else _temporary_cache()


def _temporary_cache() -> Path:
    """Raises ConfigError where somebody else has made the folder of this name: what lies there is loaded and run."""
    folder = Path(tempfile.gettempdir()) / f"f5bench-cache-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise ConfigError("F5BENCH_CACHE", folder, "belongs to somebody else", "name a folder of your own")
    return folder


def source_sha256(*modules: str) -> str:
    """Hash of the modules' source files: what they make is theirs as long as they stay the same."""
    digest = hashlib.sha256()
    for name in modules:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(name)
        digest.update(Path(spec.origin).read_bytes())
    return digest.hexdigest()


def cached_folder(kind: str, parts: Mapping[str, object], make: Callable[[Path], object]) -> Path:
    """The folder made from `parts` (JSON values), by `make(empty folder)` where there is none yet, or a damaged one.

    Raises ConfigError where the cache cannot be written; what `make` raises passes through and leaves nothing behind.
    """
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
    shelf = cache_root() / kind
    place = shelf / key
    if intact(place, parts):
        return place
    try:
        shelf.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=shelf))
    except OSError as refused:
        raise ConfigError(
            "F5BENCH_CACHE", str(cache_root()), f"cannot be written ({refused.strerror})", "name a folder of your own"
        ) from refused
    try:
        make(new)
        seal(new, parts)
        _move(new, place, parts)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return place


def _move(new: Path, place: Path, parts: Mapping[str, object]) -> None:
    """Another process may have been faster: then its folder stays."""
    if place.exists() and not intact(place, parts):
        shutil.rmtree(place, ignore_errors=True)
    try:
        new.rename(place)
    except OSError:
        if not intact(place, parts):
            raise


def seal(folder: Path, parts: Mapping[str, object]) -> None:
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": content_sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / MANIFEST).write_text(json.dumps({"made_from": parts, "files": files}, indent=1), "utf-8")


def intact(folder: Path, parts: Mapping[str, object]) -> bool:
    """Whether it was made from `parts`, and every file is there, as long and as it was written, and no other."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {MANIFEST}
        as_made = manifest["made_from"] == json.loads(json.dumps(parts)) and there == set(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return as_made and damage_of(folder) is None


def damage_of(folder: Path) -> str | None:
    """The first file that is not there as it was written, None where all are; others may lie beside them."""
    try:
        files = json.loads((folder / MANIFEST).read_text("utf-8"))["files"]
        wanted = [(name, fact["bytes"], fact["sha256"]) for name, fact in files.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return MANIFEST
    return next((name for name, size, sha256 in wanted if not _is_as_written(folder / name, size, sha256)), None)


def _is_as_written(path: Path, size: int, sha256: str) -> bool:
    try:
        return path.stat().st_size == size and content_sha256(path) == sha256
    except OSError:
        return False
