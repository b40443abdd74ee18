"""MLflow as a sink: fills a store from what runs, sweeps, comparisons and loads left on disk, at any time afterwards.

    python -m experiments.tracking sync [DIR ...] [--uri URI] [--experiment NAME] [--best-effort]
    python -m experiments.tracking status [DIR ...] [--uri URI] [--experiment NAME]

Nothing here runs while anything is timed, and no verdict depends on it. A sync may be repeated at will.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.common.cli import EXIT_JOB_FAILED, EXIT_OK, EXIT_USAGE, one_line, run_verb
from experiments.tracking.content import load_content
from experiments.tracking.failures import TrackingError, UnreachableError, one_line_errors
from experiments.tracking.place import VARIABLE, chosen_uri
from experiments.tracking.runs import FolderContent
from experiments.tracking.state import is_folder_current
from experiments.tracking.store import REPOSITORY, Destination, Store, open_store
from experiments.tracking.verdicts import is_comparison, is_load, verdict_folder
from experiments.tracking.view import all_runs
from experiments.tracking.writing import write_folder
from metrics.record import RecordError
from reports.commands import VerbParser, here, typed

MEASURED = ("sweep.json", "result.json")
# A local store keeps copies of records: they are not runs of their own
NEVER_ENTERED = ("mlartifacts", "mlruns", "audio", "mel", "plots")
DEFAULT_TIMEOUT_S = 5.0


@dataclass(kw_only=True)
class _Session:
    """What one call has opened, said and written. addresses: where a browser shows the folders of a destination."""

    stores: dict[Destination, Store | TrackingError] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    addresses: dict[Destination, list[str]] = field(default_factory=dict)


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
    session = _Session()
    worst = EXIT_OK
    for folder in folders:
        try:
            _sync_one(folder, options, session)
        except RecordError as error:
            _say_failure(error, options.best_effort)
            worst = worst or EXIT_USAGE
        except TrackingError as error:
            later = typed("experiments.tracking", "sync", *([_shown(folder)] if options.dirs else []))
            _say_failure(f"{error}; nothing is lost; later: {later}", options.best_effort)
            worst = EXIT_JOB_FAILED
    _say_addresses(session)
    if not folders:
        print("nothing to sync below outputs/")
    return EXIT_OK if options.best_effort else worst


def _sync_one(folder: Path, options: argparse.Namespace, session: _Session) -> None:
    content = _content(folder)
    destination = _destination(content, options)
    if destination is None:
        print(f"{_shown(folder)}: tracking is off in its configuration; --uri URI would log it all the same")
        return
    if destination.source == VARIABLE and VARIABLE not in session.told:
        session.told.add(VARIABLE)
        print(f"note: the store is {destination.uri}, by {VARIABLE}; tracking.uri or --uri wins", file=sys.stderr)
    # A folder that was named is compared with the store itself: somebody may have emptied that
    if not options.dirs and _is_settled(content, destination):
        print(f"{_shown(folder)}: up to date")
        return
    store = _opened(destination, session.stores)
    try:
        with one_line_errors(destination.uri):
            tally = write_folder(content, store)
    except UnreachableError as error:
        session.stores[destination] = error
        raise
    print(
        f"{_shown(folder)}: {tally.num_runs} runs ({tally.num_new} new, {tally.num_changed} changed), "
        f"{tally.num_artifacts} artifacts -> {destination.uri}, experiment {destination.experiment}"
    )
    session.addresses.setdefault(destination, []).append(tally.address)
    if torn := content.parent.tags.get("journal.torn"):
        print(f"note: {content.folder}: {torn}; every whole line was taken", file=sys.stderr)
    if tally.conflicts:
        names = ", ".join(sorted(set(tally.conflicts))[:6])
        print(f"note: parameters that MLflow holds with another value stay as they are: {names}", file=sys.stderr)


def _say_addresses(session: _Session) -> None:
    """One a store: of its folder, or of all runs where several were written."""
    for destination, addresses in session.addresses.items():
        if destination.database is not None:
            print(here(f"start    mlflow ui --backend-store-uri {shlex.quote(destination.absolute_uri)}"))
        print(f"mlflow   {addresses[0] if len(set(addresses)) == 1 else all_runs(addresses[0])}")


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


def _say_failure(message: object, is_best_effort: bool) -> None:
    print(f"{'warning' if is_best_effort else 'error'}: {here(one_line(message))}", file=sys.stderr, flush=True)


def _shown(folder: Path) -> str:
    """As one would type it here."""
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)


if __name__ == "__main__":
    sys.exit(run_verb(main))
