"""The MLflow side of the sink: one store, runs found again by their own tag, nothing written twice.

Only this file talks to MLflow, and imports it late: the rest works, and says what is missing, without the package.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engine.contract import ConfigError
from engine.paths import find_file
from experiments.tracking.place import FILES, SQLITE, moved_reason
from experiments.tracking.runs import RUN_UUID, RunContent
from experiments.tracking.series import Point

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_ENTITIES_PER_BATCH = 100
MAX_POINTS_PER_BATCH = 1000
SQLITE_BUSY_S = 5.0
MAX_REASON_CHARS = 200


class TrackingError(Exception):
    """The store did not take what it was given; one line that says why."""


class UnreachableError(TrackingError):
    """Nobody answers there: asking again for the next folder would only wait again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """Where runs go. `uri` as the configuration has it: a relative sqlite path starts where any other does.

    source: what `uri` is from, for a refusal.
    """

    uri: str
    experiment: str
    timeout_s: float
    source: str = "tracking.uri"

    def __post_init__(self) -> None:
        if "@" in urlsplit(self.uri).netloc and self.uri.startswith(("http://", "https://")):
            shown = self.uri.replace(urlsplit(self.uri).netloc.rpartition("@")[0], "...")
            remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD and leave them out of the address"
            raise ConfigError(self.source, shown, "an address without a password: it is stored with every run", remedy)

    @property
    def database(self) -> Path | None:
        """The sqlite file, None for a server."""
        if not self.uri.startswith(SQLITE):
            return None
        return find_file(self.uri.removeprefix(SQLITE)).absolute()

    @property
    def absolute_uri(self) -> str:
        return self.uri if self.database is None else f"{SQLITE}{self.database}"


def open_store(destination: Destination) -> Store:
    """Find or create the experiment. Raises TrackingError within a few times `timeout_s` where nobody answers."""
    _set_client_limits(destination.timeout_s)
    if destination.database is not None:
        _check_database(destination.database)
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        remedy = "`pip install -c constraints.txt -e '.[mlflow]'`"
        raise TrackingError(f"the package mlflow cannot be imported ({error}); {remedy}") from error
    # Its start-up of a new database reports every schema migration
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    with one_line_errors(destination):
        client = MlflowClient(tracking_uri=destination.absolute_uri)
        return Store(destination, client, _find_or_create_experiment(client, destination))


def _set_client_limits(timeout_s: float) -> None:
    """MLflow reads these when it is used: short waits, no report of its use, and no run id of somebody else's.

    With MLFLOW_RUN_ID set, "child" runs would silently be written into that run (mlflow issue 15713).
    """
    os.environ.pop("MLFLOW_RUN_ID", None)
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(max(1, round(timeout_s)))
    os.environ["MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT"] = str(max(1, round(timeout_s)))
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


def _check_database(path: Path) -> None:
    """MLflow retries a database that it cannot open for 200 seconds; sqlite says so at once."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=SQLITE_BUSY_S)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except (OSError, sqlite3.Error) as error:
        raise TrackingError(f"the MLflow database {path.name} cannot be written ({error})") from error


def _find_or_create_experiment(client: Any, destination: Destination) -> str:
    database, found = destination.database, client.get_experiment_by_name(destination.experiment)
    if found is None:
        # A server chooses its own place; beside a local database the files stay together with it
        location = str(database.parent / FILES) if database is not None else None
        return str(client.create_experiment(destination.experiment, artifact_location=location))
    if found.lifecycle_stage != "active":
        remedy = f"`mlflow experiments restore --experiment-id {found.experiment_id}`, or --experiment OTHER"
        raise TrackingError(f"the experiment {destination.experiment} is deleted there; {remedy}")
    reason = database and moved_reason(database, destination.experiment, found.artifact_location)
    if reason:
        raise TrackingError(reason)
    return str(found.experiment_id)


@contextmanager
def one_line_errors(destination: Destination) -> Iterator[None]:
    """Whatever MLflow, its HTTP client, its database or the disk raise becomes one TrackingError."""
    import requests
    from mlflow.exceptions import MlflowException

    local_failures: tuple[type[Exception], ...] = (OSError, *_database_errors())
    try:
        yield
    except (MlflowException, requests.RequestException) as error:
        reason = " ".join(str(error).split())
        if isinstance(error, requests.RequestException) or "API request to" in reason:
            raise UnreachableError(f"tracking server {destination.uri} cannot be reached ({_short(reason)})") from error
        raise TrackingError(f"tracking store {destination.uri} refused ({_short(reason)})") from error
    except local_failures as error:
        reason = " ".join(str(error).split())
        raise TrackingError(f"tracking store {destination.uri} failed ({reason[:MAX_REASON_CHARS]})") from error


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


class Store:
    """One experiment in one MLflow store."""

    def __init__(self, destination: Destination, client: Any, experiment_id: str):
        self.destination = destination
        self._client = client
        self._experiment_id = experiment_id

    def find(self, run_uuid: str) -> Any:
        """The run that carries this tag, None where there is none."""
        found = self._client.search_runs(
            [self._experiment_id],
            filter_string=f"tags.`{RUN_UUID}` = '{run_uuid}'",
            order_by=["attributes.start_time ASC"],
            max_results=1,
        )
        return found[0] if found else None

    def create(self, content: RunContent, parent_id: str | None) -> Any:
        """A run that began when the measurement began, and still runs as far as MLflow knows."""
        tags = {RUN_UUID: content.run_uuid} | ({"mlflow.parentRunId": parent_id} if parent_id else {})
        return self._client.create_run(
            self._experiment_id, start_time=content.start_ms, tags=tags, run_name=content.name
        )

    def fill(self, run: Any, content: RunContent, parent_id: str | None) -> list[str]:
        """Write what `run` lacks; the names of parameters that stand there with another value come back."""
        tags = dict(content.tags) | ({"mlflow.parentRunId": parent_id} if parent_id else {})
        self._log_tags(run, tags)
        conflicts = self._log_params(run, content.params)
        self._log_summary(run, content.summary, content.end_ms or content.start_ms)
        self._log_points(run, content.points)
        return conflicts

    def upload(self, run: Any, artifacts: Mapping[str, Path | str]) -> None:
        """artifact path -> a file, or a text that becomes one."""
        if not artifacts:
            return
        with tempfile.TemporaryDirectory(prefix="f5bench-") as folder:
            for name, content in artifacts.items():
                staged = Path(folder, name)
                staged.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, Path):
                    staged.symlink_to(content.resolve())
                else:
                    staged.write_text(content, encoding="utf-8")
            self._client.log_artifacts(run.info.run_id, folder)

    def finish(self, run: Any, content: RunContent) -> None:
        """The state and the end of the original; last of all, so that a run cut short is seen as running."""
        if (run.info.status, run.info.end_time) == (content.status, content.end_ms):
            return
        if content.end_ms is None:
            self._client.update_run(run.info.run_id, status=content.status)
        else:
            self._client.set_terminated(run.info.run_id, status=content.status, end_time=content.end_ms)

    def _log_tags(self, run: Any, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        changed = [RunTag(key, value) for key, value in tags.items() if run.data.tags.get(key) != value]
        for batch in _batches(changed, MAX_ENTITIES_PER_BATCH):
            self._client.log_batch(run.info.run_id, tags=batch)

    def _log_params(self, run: Any, params: Mapping[str, str]) -> list[str]:
        from mlflow.entities import Param

        known = run.data.params
        new = [Param(key, value) for key, value in params.items() if key not in known]
        for batch in _batches(new, MAX_ENTITIES_PER_BATCH):
            self._client.log_batch(run.info.run_id, params=batch)
        return [key for key, value in params.items() if known.get(key, value) != value]

    def _log_summary(self, run: Any, summary: Mapping[str, float], end_ms: int) -> None:
        """A number that was computed anew (a score repeated) must come later than the old one to be shown."""
        known = run.data.metrics
        points = [
            Point(
                key=key,
                value=value,
                timestamp_ms=self._stamp_after(run, key, end_ms) if key in known else end_ms,
                step=0,
            )
            for key, value in summary.items()
            if known.get(key) != value
        ]
        self._log_points(run, points)

    def _stamp_after(self, run: Any, key: str, end_ms: int) -> int:
        history = self._client.get_metric_history(run.info.run_id, key)
        return max([end_ms, *(metric.timestamp for metric in history)]) + 1

    def _log_points(self, run: Any, points: Sequence[Point]) -> None:
        """The same point twice is one point for MLflow, so a replay changes nothing."""
        from mlflow.entities import Metric

        for batch in _batches(points, MAX_POINTS_PER_BATCH):
            metrics = [Metric(point.key, point.value, point.timestamp_ms, point.step) for point in batch]
            self._client.log_batch(run.info.run_id, metrics=metrics)


def _batches(entries: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]
