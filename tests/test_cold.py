"""Cold starts and the process that waits for a worker: real processes, fake engines."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.checks import overhead
from experiments.common.progress import Board
from experiments.measuring import running as running_module
from experiments.measuring.cold import launch_with_cold_starts, process_age_s
from experiments.measuring.job import Launcher, launch, new_job
from experiments.settings.compose import compose_cells, compose_run
from experiments.sweep.running import new_sweep, run_sweep
from metrics.record import ColdStart, load_record, save_record
from reports.data.table import load_table
from reports.sections.starts import start_lines
from tests.test_report_data import FakeCell, write_run

FAKE = (sys.executable, "-m", "tests.fakes")
COLD = (
    "workload=smoke",
    "measure=cold",
    "measure.cold_starts=2",
    "measure.calibration=none",
    "measure.gemm_peak=false",
    "tracking=none",
)


def test_cold_starts_are_processes_of_their_own_before_the_measurement(tmp_path: Path) -> None:
    cell = compose_run([*COLD])
    spec = new_job(tmp_path / "out", cell.label, "measure", cell.config)
    record = launch_with_cold_starts(spec, Launcher(command=FAKE)).record
    assert record.status == "ok"
    assert record == load_record(tmp_path / "out" / "result.json")
    assert len(record.cold_starts) == 2
    for start in record.cold_starts:
        assert 0 < start.build_s + start.first_call_s < start.start_s
        assert start.audio_sha256 in {utterance.audio_sha256 for utterance in record.utterances}
    assert sorted(path.name for path in (tmp_path / "out" / "cold").iterdir()) == ["01", "02"]
    lines = (tmp_path / "out" / "cold" / "01" / "journal.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert kinds[0] == "build", "a user's process reads no fingerprint and measures no peak before it builds"
    alone = load_record(tmp_path / "out" / "cold" / "01" / "result.json")
    assert alone.environment["host_class"] == record.environment["host_class"]


def test_one_setting_times_cold_starts_of_every_cell_of_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path / "locks"))
    fewer = ("measure.cold_starts=1", "quality.enabled=false")
    made = new_sweep(compose_cells([*COLD, *fewer, "engine=fp32,bf16", "out=out"]))
    made.command = FAKE
    assert run_sweep(made) == 0
    starts = {line[0]: line for line in start_lines(load_table(tmp_path / "out"))}
    assert {label: line[1] for label, line in starts.items()} == {"fp32-euler_7": "1", "bf16-euler_7": "1"}
    assert {line[-1] for line in starts.values()} == {"the checked audio, bit by bit"}


def test_a_cold_start_that_fails_is_the_runs_failure(tmp_path: Path) -> None:
    cell = compose_run([*COLD, "engine=fp16"])
    spec = new_job(tmp_path / "out", cell.label, "measure", cell.config)
    record = launch_with_cold_starts(spec, Launcher(command=FAKE)).record
    assert (record.status, record.remedy) == ("skipped", "use engine=bf16")
    assert record.reason == "cold start 1 of 2: fp16 has no kernels here"
    assert load_record(tmp_path / "out" / "result.json").reason == record.reason


def test_the_age_of_a_process_is_the_kernels_word() -> None:
    first_s = process_age_s()
    before_s = time.monotonic()
    while time.monotonic() - before_s < 0.05:
        pass
    assert first_s + 0.03 < process_age_s() < first_s + 30
    assert first_s >= 0


def test_the_report_has_a_line_of_cold_starts_with_their_spread(tmp_path: Path) -> None:
    folder = write_run(tmp_path, FakeCell(label="fp32-euler_7"))
    record = load_record(folder / "result.json")
    sha = record.utterances[0].audio_sha256
    starts = tuple(
        ColdStart(build_s=0.5, first_call_s=0.1 * i, start_s=2.0 + i, audio_sha256=sha if i else "0") for i in range(7)
    )
    save_record(replace(record, cold_starts=starts), folder / "result.json")
    (line,) = start_lines(load_table(tmp_path))
    assert line[:3] == ("fp32-euler_7", "7", "0.500 (0.500..0.500)")
    assert line[4] == "5.00 (2.00..8.00)"
    assert line[5:] == ("n too small (7 < 59)", "6 gave the checked audio")


def test_the_waiting_parent_takes_less_than_2_percent_of_a_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FP32", "hang")
    cell = compose_run([*COLD, "measure=quick"])
    watch, board = overhead.ParentWatch.start(), Board([running_module.planned(cell)])

    def tick(journal: Path) -> None:
        board.tick(0, journal)
        watch.wake()
        if len(watch.wakings) == 9:
            raise KeyboardInterrupt

    board.start(0)
    spec = new_job(tmp_path / "out", cell.label, "measure", cell.config)
    with pytest.raises(KeyboardInterrupt):
        launch(spec, Launcher(on_tick=tick, command=FAKE))
    assert watch.share <= 0.02
