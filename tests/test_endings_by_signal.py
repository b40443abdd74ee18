"""A process that any signal ends, named or not, costs its own row and nothing else."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.common.failure import by_signal, kind_of_exit, signal_name
from experiments.doctor.probe import ended
from experiments.measuring.job import Launcher, launch, new_job
from experiments.settings.compose import compose_cells
from experiments.sweep.running import new_sweep, run_sweep
from metrics.record import load_record
from tests.engines import config

REAL_TIME = 40
ENDED_BY_40 = "import os; os.kill(os.getpid(), 40)"
# The first cell's worker is killed, every other one leaves a record
PROGRAM = f"""
import sys
from pathlib import Path
from tests import stub_worker
if "fp32" in sys.argv[1]:
    {ENDED_BY_40}
stub_worker.main(Path(sys.argv[1]))
"""


@given(st.integers(1, 200))
def test_every_number_has_a_name(number: int) -> None:
    name = signal_name(number)
    assert name in (f"signal {number}", *signal.Signals.__members__)
    assert by_signal(number) in (name, f"signal {number} ({name})")
    assert ended(-number) == f"ended the process by {by_signal(number)}"


def test_names_stand_where_there_are_some() -> None:
    assert (signal_name(9), by_signal(9)) == ("SIGKILL", "signal 9 (SIGKILL)")
    assert (signal_name(REAL_TIME), by_signal(REAL_TIME)) == ("signal 40", "signal 40")
    assert kind_of_exit(-REAL_TIME, 0, "") == "killed"


def test_a_worker_that_a_real_time_signal_ended_leaves_a_record(tmp_path: Path) -> None:
    spec = new_job(tmp_path / "run", "fp32-euler_7", "measure", config("workload=smoke"))
    result = launch(spec, Launcher(command=(sys.executable, "-c", ENDED_BY_40)))
    assert (result.record.status, result.failure, result.exit_code) == ("failed", "killed", -REAL_TIME)
    assert result.record.reason == "killed by signal 40; trials kept: 0"


def test_the_sweep_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path / "locks"))
    monkeypatch.setattr("experiments.sweep.running._score_all", lambda todo, held: 0)
    monkeypatch.setattr("experiments.sweep.running.publish", lambda sweep: 0)
    small = ["workload=smoke", "tracking=none", "quality.enabled=false", "out=out", "engine=fp32,bf16"]
    made = new_sweep(compose_cells(small))
    made.command = (sys.executable, "-c", PROGRAM)
    assert run_sweep(made) == 14
    killed, measured = json.loads(Path("out/sweep.json").read_text())["cells"]
    assert (killed["state"], measured["state"]) == ("failed", "ok")
    assert killed["reason"] == "killed by signal 40; trials kept: 0"
    assert [one["signal"] for one in killed["attempts"]] == ["signal 40", "signal 40"]
    assert load_record(Path("out/cells/bf16-euler_7/result.json")).status == "ok"
