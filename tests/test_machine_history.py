"""A run on a machine slower than its class: void in the record, the report, MLflow and the gate; drift is not."""

from __future__ import annotations

import io
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from baselines.class_history import (
    MACHINE,
    SHIPPED,
    calibration_key,
    judge_machine,
    load_history,
    machine_fault,
    path_of,
    save_history,
    with_run,
)
from baselines.stored.known import Known
from baselines.stored.machine import machine_findings
from baselines.stored.verdict import Limits
from engine.contract import ConfigError
from experiments.measuring.machine_check import checked
from experiments.measuring.validate import validate
from experiments.tracking.content import load_content
from metrics.record import CalibrationReading, RecordError, RunRecord, load_record, save_record
from reports.data.context import VOID, context_of, warnings_of
from reports.data.table import load_table
from reports.render.terminal import print_report
from reports.sections.notes import headline_of
from tests.engines import config
from tests.test_report_data import FakeCell, write_run

AMX = "intel-xeon-amx-2c-cpu"
USUAL_S = 0.008


def measured(seconds: float, num: int = 12) -> RunRecord:
    """A run of pocket on two AMX cores whose matrix products took so long."""
    composed = config("workload=smoke")
    readings = [
        CalibrationReading(work="gemm", repeat=i, is_warmup=i == 0, wall_s=seconds * (9 if i == 0 else 1), cpu_s=0.01)
        for i in range(num + 1)
    ]
    return RunRecord(
        run_id="r", created="2026-11-27T10:00:00+00:00", status="ok", reason=None, remedy=None, label="fp32-euler_7",
        config=composed, facts=None, environment={"host_class": AMX, "threads": 2, "device": "cpu"}, workload={},
        build_s=None, first_call_s=None, peak_rss_bytes=None, peak_pss_bytes=None, peak_device_bytes=None,
        calibrations=tuple(readings),
    )  # fmt: skip


def test_ten_times_slower_than_published_figures_is_void_and_usual_drift_is_not(tmp_path: Path) -> None:
    slow = checked(measured(10 * USUAL_S), tmp_path)
    state = slow.environment[MACHINE]
    assert (state["valid"], round(state["ratio"]), state["num_runs"]) == (False, 10, 47)
    assert "10.2 times as long as in 47 runs of its host class (47 published with f5bench)" in (
        machine_fault(slow.environment) or ""
    )
    assert load_history(tmp_path, AMX) == {}, "a slow machine is not what is remembered"
    for seconds in (USUAL_S / 3, USUAL_S / 1.3, 1.3 * USUAL_S):
        assert checked(measured(seconds), tmp_path).environment[MACHINE]["valid"] is True
    assert [len(runs) for runs in load_history(tmp_path, AMX).values()] == [3]


def test_every_published_row_would_have_passed() -> None:
    for path in sorted(SHIPPED.glob("*.json")):
        for key, runs in load_history(SHIPPED, path.stem).items():
            assert key == calibration_key(measured(1.0))
            assert max(runs) < 2 * float(np.median(runs)), path.stem


def test_sessions_that_drift_are_voided_in_one_of_a_hundred_at_most() -> None:
    """Simulated: one standard deviation of the log is 1.3 times; against the fewest runs that are judged by."""
    chance, sd = np.random.default_rng(7), math.log(1.3)
    usual = np.median(chance.normal(0, sd, (200_000, 5)), axis=1)
    assert np.mean(chance.normal(0, sd, 200_000) - usual > math.log(2)) < 0.0105


def test_a_history_begins_by_itself(tmp_path: Path) -> None:
    begun = replace(measured(USUAL_S), environment={"host_class": "new-4c-cpu", "threads": 4, "device": "cpu"})
    states = [checked(begun, tmp_path).environment[MACHINE] for _ in range(6)]
    assert [state["valid"] for state in states] == [None] * 5 + [True]
    assert "no earlier runs" in states[0]["reason"]
    assert "4 earlier runs" in states[4]["reason"]
    many = replace(begun, calibrations=tuple(replace(one, wall_s=1.0) for one in begun.calibrations))
    assert checked(many, tmp_path).environment[MACHINE]["valid"] is False


def test_what_cannot_be_judged_says_why(tmp_path: Path) -> None:
    few = checked(measured(USUAL_S, num=2), tmp_path).environment[MACHINE]
    assert (few["valid"], "fewer than 3" in few["reason"]) == (None, True)
    unasked = judge_machine(measured(9.0), None, {}, load_history(SHIPPED, AMX))
    assert (unasked.valid, unasked.reason) == (None, "measure.machine_ratio=null: nothing was asked of the machine")
    path_of(tmp_path, AMX).write_text("{")
    torn = checked(measured(USUAL_S), tmp_path).environment[MACHINE]
    assert (torn["valid"], "delete it" in torn["reason"]) == (None, True)
    assert path_of(tmp_path, AMX).read_text() == "{", "what cannot be read is not overwritten"


@pytest.mark.parametrize(
    "content", ["[]", '{"schema_version": 1, "runs": {"a": [0]}}', '{"schema_version": 1, "runs": 3}']
)
def test_a_file_that_is_no_history_is_named(content: str, tmp_path: Path) -> None:
    path_of(tmp_path, "x").write_text(content)
    with pytest.raises(RecordError, match=r"x\.json"):
        load_history(tmp_path, "x")


def test_a_history_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    runs = with_run(with_run({}, measured(0.01)), measured(0.02))
    save_history(tmp_path, AMX, runs)
    assert load_history(tmp_path, AMX) == runs == {calibration_key(measured(1.0)): [0.01, 0.02]}


@pytest.mark.parametrize("value", [1, 0, -2, "two", True, math.inf, math.nan])
def test_a_limit_that_means_nothing_is_refused(value: Any) -> None:
    composed = config("workload=smoke")
    with pytest.raises(ConfigError) as refused:
        validate({**composed, "measure": {**composed["measure"], "machine_ratio": value}}, check_texts=False)
    assert refused.value.key == "measure.machine_ratio"


def test_a_void_run_has_a_red_flag_and_no_headline(tmp_path: Path) -> None:
    write_run(tmp_path, FakeCell(label="int8-euler_7"))
    record = load_record(tmp_path / "result.json")
    state = asdict(judge_machine(measured(0.08), 2.0, {}, load_history(SHIPPED, AMX)))
    save_record(replace(record, environment={**record.environment, MACHINE: state}), tmp_path / "result.json")
    table = load_table(tmp_path)
    assert "Fastest" not in headline_of(table, context_of(table))
    assert warnings_of(table)[0].startswith(f"{VOID} (env.valid=false): int8-euler_7: its calibrations took 10.2 times")
    shown = io.StringIO()
    print_report(table, Console(file=shown, width=100, force_terminal=True))
    assert "\x1b[1;31mwarning: The machine was not in order" in shown.getvalue()
    run = load_content(tmp_path).parent
    assert run.tags["env.valid"] == "false"
    assert not [name for name in run.summary if "rtf" in name or "latency" in name]
    assert run.points == ()


def test_the_gate_does_not_judge_a_void_run() -> None:
    composed = config()["gate"]
    new = replace(
        measured(0.08), environment={**measured(0.08).environment, MACHINE: {"valid": False, "reason": "slow"}}
    )
    findings = machine_findings([measured(USUAL_S)], new, Limits.from_mapping(composed), Known())
    assert [(f.metric, f.outcome) for f in findings][:1] == [("machine.host_class", "INVALID_ENV")]
