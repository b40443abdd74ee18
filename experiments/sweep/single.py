"""One variant from its overrides to the table: a sweep of one, without a ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.contract import ConfigError
from experiments.common.cli import EXIT_JOB_FAILED, EXIT_OK, EXIT_USAGE, complain, report_command
from experiments.common.device_lock import device_lock
from experiments.common.progress import Board, expected_text
from experiments.measuring.energy import launch_with_energy
from experiments.measuring.job import LOG, RESULT, JobResult, Launcher, new_job
from experiments.measuring.running import default_out, make_launcher, planned, score, sync_tracking, takes
from experiments.measuring.validate import one_cell, validate_out
from experiments.scoring.reference import provide_reference
from experiments.settings.compose import Cell
from experiments.settings.reference import is_reference, needs_reference
from experiments.workload.requests import load_workload
from reports.data.table import load_table
from reports.render.terminal import print_report, stdout_console


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one variant; is_scored False: measured, but the scoring process failed."""

    result: JobResult
    is_scored: bool


def run_variant(cell: Cell, out: Path, command: Sequence[str] | None = None) -> Outcome:
    """Measure and score one validated cell in `out`. command: how a worker is started, for tests."""
    plan = planned(cell)
    device = cell.config["device"]["kind"]
    with Board([plan]) as board, device_lock(device, cell.config["sweep"]["lock"], board.say, takes([plan])) as lock:
        board.say(f"{expected_text([plan])}; record in {out}, its log {out / LOG}")
        launcher = make_launcher(lock, lambda journal: board.tick(0, journal), command)
        board.start(0)
        result = launch_with_energy(new_job(out, cell.label, "measure", cell.config), launcher)
        board.finish(0, result.record.status, result.record.reason)
        if result.record.status != "ok":
            return Outcome(result, False)
        reference = _reference(cell, out, board, make_launcher(lock, None, command))
        board.say("measured; scoring the audio")
        return Outcome(result, score(out, reference, None))


def _reference(cell: Cell, out: Path, board: Board, launcher: Launcher) -> Path | None:
    if is_reference(cell.config) or not needs_reference(cell.config):
        return None
    return provide_reference(cell.config, out / "reference", launcher, board.say)


def run_one(overrides: Sequence[str]) -> int:
    """Compose, validate, measure, show. Raises ConfigError before anything is started."""
    cell = one_cell(overrides)
    resume = cell.config["sweep"].get("resume")
    if resume is not None:
        raise ConfigError("sweep.resume", resume, "a run resumes nothing", "use experiments.sweep with it")
    out = Path(cell.config["out"] or default_out(cell.label))
    is_new = not out.exists()
    validate_out(out, 2, len(load_workload(cell.config).lines))
    if is_new:
        out.rmdir()  # who is stopped while waiting for the device leaves no empty folder
    return run_and_show(cell, out)


def run_and_show(cell: Cell, out: Path, command: Sequence[str] | None = None) -> int:
    """Measure, score, log, print. The exit code says what became of the one variant that was asked for."""
    outcome = run_variant(cell, out, command)
    record = outcome.result.record
    if record.status != "ok":
        complain(f"{cell.label} {record.status}: {record.reason}; {record.remedy} ({out / LOG})")
        return EXIT_USAGE if outcome.result.is_config_error else EXIT_JOB_FAILED
    tracked = sync_tracking(cell.config, out)
    print_report(load_table(out), stdout_console())
    print(f"record  {out / RESULT}\naudio   {out / 'audio'}\npage    made by {report_command(out)}\n{tracked}", end="")
    return EXIT_OK if outcome.is_scored else EXIT_JOB_FAILED
