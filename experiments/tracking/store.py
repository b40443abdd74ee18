"""The MLflow side of the sink: one store, runs found again by their own tag, nothing written twice.

Only this file talks to MLflow, and imports it late: the rest works, and says what is missing, without the package.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engine.contract import ConfigError
from engine.paths import find_file
from experiments.tracking.failures import TrackingError, one_line_errors
from experiments.tracking.place import FILES, SQLITE, moved_reason
from experiments.tracking.runs import RUN_UUID, Dataset, RunContent
from experiments.tracking.series import COLUMNS, Point
from experiments.tracking.view import ALL_RUNS, EXPERIMENT_TAGS, VIEW_TAG, address_of, view_key, view_of

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_ENTITIES_PER_BATCH = 100
MAX_POINTS_PER_BATCH = 1000
SQLITE_BUSY_S = 5.0
PARENT = "mlflow.parentRunId"


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
    with one_line_errors(destination.uri):
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
    """Also gives it our view of its runs, and a kind and a description where it has none."""
    database, found = destination.database, client.get_experiment_by_name(destination.experiment)
    if found is None:
        # A server chooses its own place; beside a local database the files stay together with it
        location = str(database.parent / FILES) if database is not None else None
        client.create_experiment(destination.experiment, artifact_location=location)
        found = client.get_experiment_by_name(destination.experiment)
    if found.lifecycle_stage != "active":
        remedy = f"`mlflow experiments restore --experiment-id {found.experiment_id}`, or --experiment OTHER"
        raise TrackingError(f"the experiment {destination.experiment} is deleted there; {remedy}")
    reason = database and moved_reason(database, destination.experiment, found.artifact_location)
    if reason:
        raise TrackingError(reason)
    missing = {key: value for key, value in EXPERIMENT_TAGS.items() if key not in found.tags}
    table, view = f"{VIEW_TAG}{ALL_RUNS}", view_of(None)
    for key, value in (missing | ({} if found.tags.get(table) == view else {table: view})).items():
        client.set_experiment_tag(found.experiment_id, key, value)
    return str(found.experiment_id)


class Store:
    """One experiment in one MLflow store."""

    def __init__(self, destination: Destination, client: Any, experiment_id: str):
        self.destination = destination
        self._client = client
        self._experiment_id = experiment_id

    def find(self, content: RunContent) -> Any:
        """The run that carries the tag of today or of an earlier form, None where there is none."""
        for run_uuid in filter(None, (content.run_uuid, content.former_uuid)):
            found = self._client.search_runs(
                [self._experiment_id],
                filter_string=f"tags.`{RUN_UUID}` = '{run_uuid}'",
                order_by=["attributes.start_time ASC"],
                max_results=1,
            )
            if found:
                return found[0]
        return None

    def create(self, content: RunContent, parent_id: str | None) -> Any:
        """A run that began when the measurement began, and still runs as far as MLflow knows."""
        own = {key: content.tags[key] for key in ("mlflow.user",) if key in content.tags}
        tags = {RUN_UUID: content.run_uuid, **own, **({PARENT: parent_id} if parent_id else {})}
        return self._client.create_run(
            self._experiment_id, start_time=content.start_ms, tags=tags, run_name=content.name
        )

    def fill(self, run: Any, content: RunContent, parent_id: str | None) -> list[str]:
        """Write what `run` lacks; the names of parameters that stand there with another value come back."""
        tags = dict(content.tags) | ({PARENT: parent_id} if parent_id else {})
        self._log_tags(run, tags)
        conflicts = self._log_params(run, content.params)
        end_ms = content.end_ms or content.start_ms
        self._log_summary(run, content.summary, end_ms)
        self._log_points(run, content.points)
        self._restore(run, content, end_ms)
        self._withdraw(run, content, end_ms)
        if content.dataset is not None:
            self._log_dataset(run, content.dataset)
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

    def address(self, parent_id: str | None) -> str:
        """Where a browser shows the runs below a parent, or all runs, as a table with our columns."""
        key, text = view_key(parent_id), view_of(parent_id)
        if self._client.get_experiment(self._experiment_id).tags.get(f"{VIEW_TAG}{key}") != text:
            self._client.set_experiment_tag(self._experiment_id, f"{VIEW_TAG}{key}", text)
        return address_of(self.destination.uri, self._experiment_id, key)

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
        changed = {key: value for key, value in summary.items() if known.get(key) != value}
        points = [
            self._later_point(run, key, value, end_ms)
            if key in known
            else Point(key=key, value=value, timestamp_ms=end_ms, step=0)
            for key, value in changed.items()
        ]
        self._log_points(run, points)

    def _withdraw(self, run: Any, content: RunContent, end_ms: int) -> None:
        """MLflow deletes no number: one that counts no more (its audio was broken after all) becomes "not a number"."""
        told = {*content.summary, *(point.key for point in content.points)}
        gone = [key for key, value in run.data.metrics.items() if key in COLUMNS - told and not math.isnan(value)]
        self._log_points(run, [self._later_point(run, key, math.nan, end_ms) for key in gone])

    def _restore(self, run: Any, content: RunContent, end_ms: int) -> None:
        """A series that had been withdrawn is shown by its last point again."""
        last = {point.key: point.value for point in content.points}
        known = run.data.metrics
        self._log_summary(run, {key: last[key] for key in last if math.isnan(known.get(key, 0.0))}, end_ms)

    def _later_point(self, run: Any, key: str, value: float, end_ms: int) -> Point:
        """MLflow shows the point of the highest step, and of those the latest."""
        history = self._client.get_metric_history(run.info.run_id, key)
        stamp_ms = max([end_ms, *(metric.timestamp for metric in history)]) + 1
        step = max((metric.step for metric in history), default=0)
        return Point(key=key, value=value, timestamp_ms=stamp_ms, step=step)

    def _log_points(self, run: Any, points: Sequence[Point]) -> None:
        """The same point twice is one point for MLflow, so a replay changes nothing."""
        from mlflow.entities import Metric

        for batch in _batches(points, MAX_POINTS_PER_BATCH):
            metrics = [Metric(point.key, point.value, point.timestamp_ms, point.step) for point in batch]
            self._client.log_batch(run.info.run_id, metrics=metrics)

    def _log_dataset(self, run: Any, dataset: Dataset) -> None:
        from mlflow.entities import Dataset as LoggedDataset
        from mlflow.entities import DatasetInput, InputTag

        known = [(entry.dataset.name, entry.dataset.digest) for entry in run.inputs.dataset_inputs]
        if (dataset.name, dataset.digest) in known:
            return
        logged = LoggedDataset(
            name=dataset.name,
            digest=dataset.digest,
            source_type="code",
            source=json.dumps({"tags": dict(dataset.source)}),
            profile=json.dumps(dict(dataset.profile), ensure_ascii=False),
        )
        inputs = DatasetInput(logged, [InputTag("mlflow.data.context", "benchmark")])
        self._client.log_inputs(run.info.run_id, [inputs])


def _batches(entries: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]
