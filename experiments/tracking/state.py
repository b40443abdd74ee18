"""What a folder's `.tracking.json` remembers: which store has which of its runs and files.

It only saves work. Without it a sync finds every run again by its tag and writes the same things once more.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.tracking.runs import FolderContent, RunContent
from metrics.record import write_atomically
from metrics.typed import from_json

STATE_FILE = ".tracking.json"
STATE_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class FileStamp:
    """A file as it was uploaded. An equal size and time spare reading it again, as in git's index."""

    sha256: str
    num_bytes: int
    mtime_ns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncedRun:
    """One run as the store has it. files: artifact path -> stamp."""

    run_uuid: str
    run_id: str
    content_sha256: str
    files: Mapping[str, FileStamp]


def load_state(folder: Path, uri: str, experiment: str) -> dict[str, SyncedRun]:
    """RunContent.key -> what was synced. Empty where there is no state, or none that can be read."""
    for store in _stores(folder):
        if (store.get("uri"), store.get("experiment")) == (uri, experiment):
            try:
                return {key: from_json(SyncedRun, data) for key, data in store["runs"].items()}
            except (KeyError, ValueError, AttributeError):
                return {}
    return {}


def save_state(folder: Path, uri: str, experiment: str, runs: Mapping[str, SyncedRun]) -> None:
    """Replace what is remembered of this store; the memory of other stores stays."""
    others = [store for store in _stores(folder) if (store.get("uri"), store.get("experiment")) != (uri, experiment)]
    mine = {"uri": uri, "experiment": experiment, "runs": {key: asdict(run) for key, run in runs.items()}}
    content = json.dumps({"schema_version": STATE_VERSION, "stores": [*others, mine]}, indent=1, sort_keys=True)
    try:
        write_atomically(folder / STATE_FILE, content + "\n")
    except OSError as error:
        print(
            f"note: {folder / STATE_FILE} cannot be written ({error.strerror}); the next sync repeats this one",
            file=sys.stderr,
        )


def _stores(folder: Path) -> list[dict[str, Any]]:
    try:
        data = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        stores = data["stores"] if data["schema_version"] == STATE_VERSION else []
        return [store for store in stores if isinstance(store, dict)]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return []


def stamps_of(content: RunContent, known: SyncedRun | None) -> dict[str, FileStamp]:
    """The files of a run as they are now."""
    before = known.files if known is not None else {}
    return {name: _stamp(path, before.get(name)) for name, path in content.files.items()}


def _stamp(path: Path, before: FileStamp | None) -> FileStamp:
    status = path.stat()
    if before is not None and (before.num_bytes, before.mtime_ns) == (status.st_size, status.st_mtime_ns):
        return before
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return FileStamp(sha256=digest, num_bytes=status.st_size, mtime_ns=status.st_mtime_ns)


def changed_files(content: RunContent, stamps: Mapping[str, FileStamp], known: SyncedRun | None) -> dict[str, Path]:
    """artifact path -> file, for what the store does not have yet or has otherwise."""
    before = {name: stamp.sha256 for name, stamp in known.files.items()} if known is not None else {}
    return {name: path for name, path in content.files.items() if before.get(name) != stamps[name].sha256}


def is_current(content: RunContent, known: SyncedRun | None) -> bool:
    """Whether the store has this run as the files have it."""
    if known is None or (known.run_uuid, known.content_sha256) != (content.run_uuid, content.sha256()):
        return False
    return not changed_files(content, stamps_of(content, known), known)


def is_folder_current(content: FolderContent, uri: str, experiment: str) -> bool:
    state = load_state(content.folder, uri, experiment)
    return all(is_current(run, state.get(run.key)) for run in content.runs())
