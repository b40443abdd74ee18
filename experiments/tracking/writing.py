"""One folder's content into one store: what is there already is left, what was begun is finished."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from experiments.tracking.runs import FolderContent, RunContent
from experiments.tracking.state import SyncedRun, changed_files, is_current, load_state, save_state, stamps_of
from experiments.tracking.store import Store


@dataclass(kw_only=True)
class Tally:
    """What one folder's sync wrote, and the address at which a browser shows it."""

    num_runs: int = 0
    num_new: int = 0
    num_changed: int = 0
    num_artifacts: int = 0
    conflicts: list[str] = field(default_factory=list)
    address: str = ""


def write_folder(content: FolderContent, store: Store) -> Tally:
    """Shared runs, then the parent that its children name. The folder remembers each run as soon as it is whole."""
    with _locked(content.folder):
        where = store.destination
        state = load_state(content.folder, where.uri, where.experiment)
        tally = Tally()
        parent_id = None
        for run in content.runs():
            is_child = run is not content.parent and run not in content.shared
            synced = _write_run(run, parent_id if is_child else None, store, state.get(run.key), tally)
            if synced is not state.get(run.key):
                state[run.key] = synced
                save_state(content.folder, where.uri, where.experiment, state)
            if run is content.parent:
                parent_id = synced.run_id
        tally.address = store.address(parent_id if content.children else None)
        return tally


def _write_run(
    content: RunContent, parent_id: str | None, store: Store, known: SyncedRun | None, tally: Tally
) -> SyncedRun:
    found = store.find(content)
    if known is not None and (found is None or found.info.run_id != known.run_id):
        known = None
    tally.num_runs += 1
    if known is not None and is_current(content, known):
        return known
    tally.num_new += found is None
    tally.num_changed += found is not None
    run = found or store.create(content, parent_id)
    stamps = stamps_of(content, known)
    sha256 = content.sha256()
    artifacts: dict[str, Path | str] = {**changed_files(content, stamps, known)}
    if known is None or known.content_sha256 != sha256:
        tally.conflicts += store.fill(run, content, parent_id)
        artifacts.update(content.texts)
    store.upload(run, artifacts)
    store.finish(run, content)
    tally.num_artifacts += len(artifacts)
    return SyncedRun(run_uuid=content.run_uuid, run_id=run.info.run_id, content_sha256=sha256, files=stamps)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two syncs of one folder would each find no run and each make one; the second waits instead."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
