"""MLflow as a sink: fills a store from what runs, sweeps, comparisons and loads left on disk, at any time afterwards.

    python -m experiments.tracking sync [DIR ...] [--uri URI] [--experiment NAME] [--best-effort]
    python -m experiments.tracking status [DIR ...] [--uri URI] [--experiment NAME]

Nothing here runs while anything is timed, and no verdict depends on it. A sync may be repeated at will.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from experiments.common.cli import EXIT_JOB_FAILED, EXIT_OK, EXIT_USAGE, one_line, run_verb
from experiments.tracking.content import load_content
from experiments.tracking.place import VARIABLE, chosen_uri
from experiments.tracking.runs import FolderContent, RunContent
from experiments.tracking.state import (
    SyncedRun,
    changed_files,
    is_current,
    is_folder_current,
    load_state,
    save_state,
    stamps_of,
)
from experiments.tracking.store import (
    REPOSITORY,
    Destination,
    Store,
    TrackingError,
    UnreachableError,
    one_line_errors,
    open_store,
)
from experiments.tracking.verdicts import is_comparison, is_load, verdict_folder
from metrics.record import RecordError
from reports.commands import VerbParser, here, typed

MEASURED = ("sweep.json", "result.json")
# A local store keeps copies of records: they are not runs of their own
NEVER_ENTERED = ("mlartifacts", "mlruns", "audio", "mel", "plots")
DEFAULT_TIMEOUT_S = 5.0


@dataclass(kw_only=True)
class Tally:
    """What one folder's sync wrote."""

    num_runs: int = 0
    num_new: int = 0
    num_changed: int = 0
    num_artifacts: int = 0
    conflicts: list[str] = field(default_factory=list)


def main(argv: Sequence[str]) -> int:
    options = _parser().parse_args(argv)
    folders = _folders(options.dirs)
    return _status(folders, options) if options.verb == "status" else _sync(folders, options)


def _parser() -> VerbParser:
    parser = VerbParser(prog="python -m experiments.tracking", description="MLflow, filled from disk")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, purpose in (("sync", "fill MLflow from output folders"), ("status", "which folders are synced")):
        verb = verbs.add_parser(name, help=purpose, description=purpose)
        verb.add_argument("dirs", nargs="*", type=Path, metavar="DIR", help="default: all below outputs/")
        verb.add_argument("--uri", help=f"default: tracking.uri of the stored configuration, else {VARIABLE}")
        verb.add_argument("--experiment", help="default: tracking.experiment of the stored configuration")
        if name == "sync":
            verb.add_argument("--best-effort", action="store_true", help="exit 0 when the store cannot be reached")
    return parser


def _folders(given: Sequence[Path]) -> list[Path]:
    """Raises RecordError for a DIR that holds nothing that could be logged."""
    found: list[Path] = []
    for directory in given or [REPOSITORY / "outputs"]:
        if "\0" in str(directory):
            raise RecordError(f"{str(directory)!r}: holds a zero byte; give an output folder")
        below = list(_discover(_whole(directory)))
        if given and not below:
            raise RecordError(
                f"{directory}: no sweep.json, result.json, load.json or verdict.json of a comparison in it or below; "
                "give an output folder"
            )
        found += below
    return list(dict.fromkeys(found))


def _whole(directory: Path) -> Path:
    """A cell belongs to its sweep: synced alone it would lose its parent."""
    directory = directory.resolve()
    for sweep in (directory.parent, directory.parent.parent):
        if directory.name == "reference" or directory.parent.name == "cells":
            if any((sweep / marker).is_file() for marker in MEASURED):
                return sweep
    return directory


def _discover(root: Path) -> Iterator[Path]:
    """Runs, sweeps, comparisons and loads; nothing is searched inside of one, nor in hidden folders (references)."""
    for folder, names, files in os.walk(root):
        if any(marker in files for marker in MEASURED) or is_load(Path(folder)) or is_comparison(Path(folder)):
            names.clear()
            yield Path(folder)
        else:
            names[:] = sorted(name for name in names if name not in NEVER_ENTERED and not name.startswith("."))


def _content(folder: Path) -> FolderContent:
    """Raises RecordError where the files cannot be read."""
    is_measured = any((folder / marker).is_file() for marker in MEASURED)
    return load_content(folder) if is_measured else verdict_folder(folder)


def _destination(content: FolderContent, options: argparse.Namespace) -> Destination | None:
    """None where the run was configured not to be tracked and no --uri says otherwise."""
    settings = content.settings
    if settings.get("mode") in ("off", False) and options.uri is None:
        return None
    uri, source = chosen_uri(options.uri or settings["uri"])
    return Destination(
        uri=uri,
        source=source,
        experiment=str(options.experiment or settings["experiment"]),
        timeout_s=float(settings.get("timeout_s", DEFAULT_TIMEOUT_S)),
    )


def _is_settled(content: FolderContent, destination: Destination) -> bool:
    """By the folder's own memory, without asking the store; a database that is gone has forgotten everything."""
    if destination.database is not None and not destination.database.is_file():
        return False
    return is_folder_current(content, destination.uri, destination.experiment)


def _status(folders: Sequence[Path], options: argparse.Namespace) -> int:
    for folder in folders:
        try:
            content = _content(folder)
        except RecordError as error:
            print(f"broken   {_shown(folder)}  {one_line(error)}")
            continue
        destination = _destination(content, options)
        if destination is None:
            print(f"off      {_shown(folder)}")
            continue
        word = "synced " if _is_settled(content, destination) else "pending"
        print(f"{word}  {_shown(folder)}  {destination.uri}, experiment {destination.experiment}")
    if not folders:
        print("nothing to log below outputs/")
    return EXIT_OK


def _sync(folders: Sequence[Path], options: argparse.Namespace) -> int:
    """Every folder is tried; one that is damaged does not keep the others back."""
    stores: dict[Destination, Store | TrackingError] = {}
    worst = EXIT_OK
    told: set[str] = set()
    for folder in folders:
        try:
            _sync_one(folder, options, stores, told)
        except RecordError as error:
            _say_failure(error, options.best_effort)
            worst = worst or EXIT_USAGE
        except TrackingError as error:
            later = typed("experiments.tracking", "sync", *([_shown(folder)] if options.dirs else []))
            _say_failure(f"{error}; nothing is lost; later: {later}", options.best_effort)
            worst = EXIT_JOB_FAILED
    if not folders:
        print("nothing to sync below outputs/")
    return EXIT_OK if options.best_effort else worst


def _sync_one(
    folder: Path, options: argparse.Namespace, stores: dict[Destination, Store | TrackingError], told: set[str]
) -> None:
    content = _content(folder)
    destination = _destination(content, options)
    if destination is None:
        print(f"{_shown(folder)}: tracking is off in its configuration; --uri URI would log it all the same")
        return
    if destination.source == VARIABLE and VARIABLE not in told:
        told.add(VARIABLE)
        print(f"note: the store is {destination.uri}, by {VARIABLE}; tracking.uri or --uri wins", file=sys.stderr)
    # A folder that was named is compared with the store itself: somebody may have emptied that
    if not options.dirs and _is_settled(content, destination):
        print(f"{_shown(folder)}: up to date")
        return
    store = _opened(destination, stores)
    try:
        with _locked(folder), one_line_errors(destination):
            tally = _write(content, store)
    except UnreachableError as error:
        stores[destination] = error
        raise
    print(
        f"{_shown(folder)}: {tally.num_runs} runs ({tally.num_new} new, {tally.num_changed} changed), "
        f"{tally.num_artifacts} artifacts -> {destination.uri}, experiment {destination.experiment}"
    )
    if torn := content.parent.tags.get("journal.torn"):
        print(f"note: {content.folder}: {torn}; every whole line was taken", file=sys.stderr)
    if tally.conflicts:
        names = ", ".join(sorted(set(tally.conflicts))[:6])
        print(f"note: parameters that MLflow holds with another value stay as they are: {names}", file=sys.stderr)


def _opened(destination: Destination, stores: dict[Destination, Store | TrackingError]) -> Store:
    """A store that failed once is not waited for again."""
    if destination not in stores:
        if destination.database is not None and not destination.database.is_file():
            print(f"preparing {destination.uri} (some seconds, once)", file=sys.stderr, flush=True)
        try:
            stores[destination] = open_store(destination)
        except TrackingError as error:
            stores[destination] = error
    store = stores[destination]
    if isinstance(store, TrackingError):
        raise store
    return store


def _write(content: FolderContent, store: Store) -> Tally:
    """Parent first: its children name it. The folder remembers each run as soon as it is whole."""
    where = store.destination
    state = load_state(content.folder, where.uri, where.experiment)
    tally = Tally()
    parent_id = None
    for run in content.runs():
        synced = _write_run(run, parent_id, store, state.get(run.key), tally)
        if synced is not state.get(run.key):
            state[run.key] = synced
            save_state(content.folder, where.uri, where.experiment, state)
        parent_id = parent_id or synced.run_id
    return tally


def _write_run(
    content: RunContent, parent_id: str | None, store: Store, known: SyncedRun | None, tally: Tally
) -> SyncedRun:
    found = store.find(content.run_uuid)
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


def _say_failure(message: object, is_best_effort: bool) -> None:
    print(f"{'warning' if is_best_effort else 'error'}: {here(one_line(message))}", file=sys.stderr, flush=True)


def _shown(folder: Path) -> str:
    """As one would type it here."""
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)


if __name__ == "__main__":
    sys.exit(run_verb(main))
