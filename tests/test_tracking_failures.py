"""Where MLflow cannot be filled: one clear line, the agreed exit code, and every measured file as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.common.cli import run_verb
from experiments.tracking.__main__ import main
from experiments.tracking.content import load_content
from metrics.speed.steady import counters_score
from reports.commands import here, typed
from tests.tracking_folders import record, write_run, write_sweep

REPOSITORY = Path(__file__).resolve().parents[1]
DOWN = "http://127.0.0.1:9"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "sweep", DOWN)


@pytest.mark.parametrize(("flags", "code"), [([], 14), (["--best-effort"], 0)])
def test_a_server_that_is_down_costs_one_line(sweep: Path, flags: list[str], code: int) -> None:
    """In a process of its own: the refused connection is a real one, which the test run's block would hide."""
    before = {path: path.read_bytes() for path in sorted(sweep.rglob("*")) if path.is_file()}
    command = [sys.executable, "-m", "experiments.tracking", "sync", str(sweep), *flags]
    environment = {**os.environ, "no_proxy": "127.0.0.1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.splitlines()
    assert "tracking server http://127.0.0.1:9 cannot be reached (Connection refused" in line
    assert f"nothing is lost; later: {here(typed('experiments.tracking', 'sync', sweep))}" in line
    assert {path: path.read_bytes() for path in sorted(sweep.rglob("*")) if path.is_file()} == before


def test_a_run_that_was_not_steady_brings_its_quality_and_no_time(tmp_path: Path) -> None:
    run = record("run-9", "fp32-euler_7", DOWN)
    moved = counters_score({"compilations": 1}, {"compilations": 2})
    assert moved is not None
    for name, scores in (("steady", run.scores), ("unsteady", (*run.scores, moved))):
        write_run(tmp_path / name, replace(run, scores=scores))
    (steady,), (unsteady,) = (list(load_content(tmp_path / name).runs())[-1:] for name in ("steady", "unsteady"))
    assert {"rtf", "latency/p50_ms"} <= set(steady.summary)
    assert steady.points
    assert not unsteady.points
    assert not [name for name in unsteady.summary if name.startswith(("rtf", "latency", "stage"))]
    assert unsteady.tags["timing.unsteady"] == "compilations went from 1 to 2 in the timed region"
    assert "timing.unsteady" not in steady.tags


def test_without_mlflow_the_remedy_is_named(sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "shadow/mlflow").mkdir(parents=True)
    (tmp_path / "shadow/mlflow/__init__.py").write_text("raise ImportError('not here')")
    command = [sys.executable, "-m", "experiments.tracking", "sync", str(sweep)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "shadow")}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 14
    (line,) = done.stderr.splitlines()
    assert "pip install -c constraints.txt" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sync", "NOWHERE"], "no sweep.json, result.json"),
        (["sync", "SWEEP", "--uri", "http://me:secret@host"], "MLFLOW_TRACKING_PASSWORD"),
    ],
)
def test_bad_input_is_one_line(
    sweep: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run_verb(main, [str(sweep) if argument == "SWEEP" else argument for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert "secret" not in line


def test_an_unwritable_database_is_one_line(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run_verb(main, ["sync", str(sweep), "--uri", f"sqlite:///{tmp_path}/file/mlflow.db"]) == 14
    assert "nothing is lost" in capsys.readouterr().err.splitlines()[-1]
