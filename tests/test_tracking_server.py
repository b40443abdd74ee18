"""A real MLflow server, killed while it is being filled: the run does not care, and a later sync makes it whole."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from experiments.common.cli import run_verb
from experiments.settings.compose import compose_cells
from experiments.sweep.running import new_sweep, run_sweep
from experiments.tracking.__main__ import main

pytest.importorskip("mlflow")
pytestmark = pytest.mark.slow
FAKE = (sys.executable, "-m", "tests.fakes")
LIMIT_S = 240


class Server:
    """`mlflow server` on a loopback port, in a process group of its own."""

    def __init__(self, folder: Path):
        self.folder, self.database = folder, folder / "server.db"
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.database}", "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True, cwd=self.folder
            )
        deadline_s = time.monotonic() + LIMIT_S
        while not self._answers():
            assert time.monotonic() < deadline_s, (self.folder / "server.log").read_text()
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            threading.Event().wait(0.1)

    def _answers(self) -> bool:
        with closing(socket.socket()) as asking:
            return asking.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path, socket_enabled: None) -> Iterator[Server]:
    (tmp_path / "mlflow").mkdir()
    made = Server(tmp_path / "mlflow")
    try:
        made.start()
        yield made
    finally:
        made.kill()


def test_a_server_killed_in_the_middle_costs_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path / "locks"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("experiments.sweep.running._score_all", lambda sweep, references: 0)
    overrides = [
        "engine=fp32,bf16,upstream",
        "workload=smoke",
        "measure.rounds=2",
        "measure.calibration=none",
        "measure.gemm_peak=false",
    ]
    overrides += ["quality.enabled=false", f"tracking.uri={server.uri}", "out=out"]
    sweep = new_sweep(compose_cells(overrides))
    sweep.command = FAKE
    killer = threading.Thread(target=_kill_after_first_run, args=(server, tmp_path / "out/.tracking.json"))
    killer.start()
    assert run_sweep(sweep) == 0, "the exit code does not depend on MLflow"
    killer.join()
    captured = capfd.readouterr()
    assert "tracking: " in captured.err
    assert "nothing is lost" in captured.err
    partly = rows_of(server.database)
    assert 0 < len(partly["runs"]) < 4

    server.start()
    assert run_command("out") == 0
    assert run_verb(main, ["sync", "out", "--uri", f"sqlite:///{tmp_path}/never-killed.db"]) == 0
    whole, other = rows_of(server.database), rows_of(tmp_path / "never-killed.db")
    assert len(whole["runs"]) == 4
    for table in whole:
        assert whole[table] == other[table], table
    assert artifacts_of(server.folder / "artifacts", server.database) == artifacts_of(
        tmp_path / "mlartifacts", tmp_path / "never-killed.db"
    )
    assert run_command("out") == 0, "once more changes nothing"
    assert rows_of(server.database) == whole
    _query(server.database)


def _kill_after_first_run(server: Server, state: Path) -> None:
    """The sync remembers every run as soon as it is whole: that is the middle."""
    deadline_s = time.monotonic() + LIMIT_S
    while not state.is_file() and time.monotonic() < deadline_s:
        threading.Event().wait(0.002)
    server.kill()


def run_command(folder: str) -> int:
    command = [sys.executable, "-m", "experiments.tracking", "sync", folder]
    repository = str(Path(__file__).resolve().parents[1])
    return subprocess.run(
        command, env={**os.environ, "PYTHONPATH": repository}, check=False, timeout=LIMIT_S
    ).returncode


def rows_of(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of a run, with the run's own name instead of the id that the store drew."""
    with closing(sqlite3.connect(database)) as connection:
        uuid = dict(connection.execute("select run_uuid, value from tags where key = 'harness.run_uuid'"))
        tables = {
            "runs": "select run_uuid, name, status, start_time, end_time, lifecycle_stage from runs",
            "params": "select run_uuid, key, value from params",
            "metrics": "select run_uuid, key, value, timestamp, step, is_nan from metrics",
            "latest_metrics": "select run_uuid, key, value, timestamp, step, is_nan from latest_metrics",
            "tags": "select run_uuid, key, value from tags",
        }
        found = {}
        for table, query in tables.items():
            rows = [(uuid.get(run, "?"), *rest) for run, *rest in connection.execute(query)]
            parents = [(*row[:-1], uuid.get(row[-1], row[-1])) if table == "tags" else row for row in rows]
            found[table] = sorted(parents, key=repr)
        return found


def artifacts_of(folder: Path, database: Path) -> dict[tuple[str, str], str]:
    """(run's own name, path) -> hash of the file."""
    with closing(sqlite3.connect(database)) as connection:
        uuid = dict(connection.execute("select run_uuid, value from tags where key = 'harness.run_uuid'"))
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            parts = path.relative_to(folder).parts
            at = parts.index("artifacts")
            found[(uuid[parts[at - 1]], "/".join(parts[at + 1 :]))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _query(database: Path) -> None:
    """What a gate asks: the finished runs of one variant on one class of machine."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    experiment = client.get_experiment_by_name("f5bench")
    children = client.search_runs([experiment.experiment_id], "tags.`harness.kind` = 'measure'")
    tags = children[0].data.tags
    found = client.search_runs(
        [experiment.experiment_id],
        f"tags.`harness.fingerprint` = '{tags['harness.fingerprint']}' and tags.`host.class` = '{tags['host.class']}' "
        "and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
    )
    assert [run.info.run_id for run in found] == [children[0].info.run_id]
    assert tags["mlflow.parentRunId"]
