"""Which store is meant, and whether a local one still lies where its own database says.

MLflow writes the folder of an experiment's files into the database as an absolute path: a store that was moved would go
on filling the old folder.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

SQLITE = "sqlite:///"
DEFAULT_URI = f"{SQLITE}outputs/mlflow.db"  # relative to the repository
VARIABLE = "MLFLOW_TRACKING_URI"
FILES = "mlartifacts"
# Every place where MLflow keeps a path below an experiment's folder
PATHS = (("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location"))


def chosen_uri(given: object) -> tuple[str, str]:
    """(uri, what it is from): what was given, else MLFLOW_TRACKING_URI, else the store below outputs/.

    MLflow reads a relative sqlite path of the variable from the working folder, and so does this.
    """
    if given is not None:
        return str(given), "tracking.uri"
    named = os.environ.get(VARIABLE, "").strip()
    if not named:
        return DEFAULT_URI, "tracking.uri"
    if named.startswith(SQLITE):
        named = f"{SQLITE}{Path.cwd() / named.removeprefix(SQLITE)}"
    return named, VARIABLE


def moved_reason(database: Path, experiment: str, location: str | None) -> str | None:
    """None where the files of an experiment lie beside the database, or where somebody else chose their place.

    A store that was moved or copied whole is put right, with a line on stderr. Otherwise why nothing may be written.
    """
    old = _local(location)
    new = database.parent / FILES
    if old is None or old.name != FILES or old.resolve() == new.resolve():
        return None
    if old.is_dir() and not new.is_dir():
        return (
            f"the database {database.name} was moved without its files: experiment {experiment} keeps them in {old}; "
            f"move or copy that folder to {new}, or choose another experiment with --experiment NAME"
        )
    _rewrite(database, str(location).rstrip("/"), new)
    print(
        f"note: the store was moved; its files are looked for in {new} from now on, no more in {old}", file=sys.stderr
    )
    return None


def _local(location: str | None) -> Path | None:
    """None for a place that is no folder of this machine."""
    parts = urlsplit(location or "")
    if parts.scheme not in ("", "file") or not parts.path:
        return None
    return Path(unquote(parts.path) if parts.scheme else str(location))


def _rewrite(database: Path, old: str, new: Path) -> None:
    """Every path below the old folder, in one transaction."""
    fresh = new.as_uri() if urlsplit(old).scheme else str(new)
    with closing(sqlite3.connect(database)) as connection, connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table, column in PATHS:
            if table in tables:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (fresh, len(old) + 1, old, len(old) + 1, f"{old}/"),
                )
