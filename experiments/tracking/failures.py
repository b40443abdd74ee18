"""What MLflow, its HTTP client, its database or the disk raise, as one line that says which store did not take what."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

MAX_REASON_CHARS = 200


class TrackingError(Exception):
    """The store did not take what it was given; one line that says why."""


class UnreachableError(TrackingError):
    """Nobody answers there: asking again for the next folder would only wait again."""


@contextmanager
def one_line_errors(uri: str) -> Iterator[None]:
    """Whatever is raised while the store of `uri` is spoken to becomes one TrackingError."""
    import requests
    from mlflow.exceptions import MlflowException

    local_failures: tuple[type[Exception], ...] = (OSError, *_database_errors())
    try:
        yield
    except (MlflowException, requests.RequestException) as error:
        reason = " ".join(str(error).split())
        if isinstance(error, requests.RequestException) or "API request to" in reason:
            raise UnreachableError(f"tracking server {uri} cannot be reached ({_short(reason)})") from error
        raise TrackingError(f"tracking store {uri} refused ({_short(reason)})") from error
    except local_failures as error:
        reason = " ".join(str(error).split())
        raise TrackingError(f"tracking store {uri} failed ({reason[:MAX_REASON_CHARS]})") from error


def _database_errors() -> tuple[type[Exception], ...]:
    """The client without databases, mlflow-skinny, comes without SQLAlchemy."""
    try:
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        return (sqlite3.Error,)
    return (sqlite3.Error, SQLAlchemyError)


def _short(reason: str) -> str:
    """MLflow wraps the cause in the story of its retries; the cause stands at the end."""
    for cause in ("Connection refused", "timed out", "timeout", "Name or service not known", "error code"):
        if cause.lower() in reason.lower():
            at = reason.lower().index(cause.lower())
            return reason[at : at + 60].split("'")[0].rstrip(")] ")
    return reason[:MAX_REASON_CHARS]
