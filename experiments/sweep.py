"""Many variants, each in its own process: `python -m experiments.sweep engine=fp32,bf16 solver=euler_6,euler_7`.

Everything is validated before the first worker starts. A variant that fails is a row, not the end. Nothing is scored
while anything is timed. sweep.json says at every moment what is done, so an interrupted sweep goes on with resume=DIR.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from engine.contract import ConfigError
from experiments.cli import (
    EXIT_INTERRUPTED,
    EXIT_JOB_FAILED,
    EXIT_OK,
    EXIT_UNEXPECTED,
    EXIT_USAGE,
    complain,
    run_verb,
)
from experiments.compose import Cell, compose_cells
from experiments.device_lock import device_lock
from experiments.environment import usable_cores
from experiments.front import help_text, is_config, is_help, is_information, refuse_flags, show_by_hydra
from experiments.job import launch, module_environment, new_job, read_job, write_job
from experiments.ledger import Ledger, load_ledger, new_ledger
from experiments.progress import Board
from experiments.reference import is_reference, needs_reference, provide_reference, reference_config, reference_key
from experiments.run import default_out, finish_scoring, make_launcher, planned, start_scoring, sync_tracking
from experiments.validate import validate_cells, validate_out
from experiments.workload import load_workload

HELP = """Measure many variants, each in a fresh process, score their audio, print one table.

examples:
  python -m experiments.sweep                                   the default: experiment=bench
  python -m experiments.sweep engine=fp32,bf16 solver=euler_6,euler_7
  python -m experiments.sweep experiment=bench workload=smoke measure.rounds=1 out=outputs/try
  python -m experiments.sweep engine=fp32 solver.sway=-1,-0.5,0
  python -m experiments.sweep resume=outputs/20260101-120000-bench
"""
RESUME = ("resume=", "sweep.resume=")
# What an engine is compared with at the same grid must agree in these
ORACLE_KEYS = ("model", "solver", "vocoder", "reference", "workload", "seed")


@dataclass(slots=True, eq=False)
class Sweep:
    """The cells beside their ledger. command: how a worker is started, for tests."""

    folder: Path
    cells: Sequence[Cell]
    ledger: Ledger
    command: Sequence[str] | None = None
    config_errors: set[int] = field(default_factory=set)

    def dir_of(self, index: int) -> Path:
        return self.folder / self.ledger.entries[index].dir

    def measured(self) -> Iterator[tuple[int, Cell]]:
        for index, cell in enumerate(self.cells):
            if self.ledger.entries[index].state == "ok":
                yield index, cell


def main(argv: Sequence[str]) -> int:
    if is_help(argv):
        print(help_text(HELP))
        return EXIT_OK
    if is_config(argv):
        return _show_cells([arg for arg in argv if "=" in arg and not arg.startswith("-")])
    if is_information(argv):
        show_by_hydra(argv)
        return EXIT_OK
    refuse_flags(argv)
    folder = resume_folder(argv)
    return run_sweep(new_sweep(compose_cells(argv)) if folder is None else resumed_sweep(folder))


def resume_folder(argv: Sequence[str]) -> Path | None:
    """DIR of resume=DIR. A resumed sweep is the sweep that it was, so nothing else may be set."""
    given = [arg for arg in argv if arg.startswith(RESUME)]
    others = [arg for arg in argv if arg not in given]
    if not given:
        return None
    if others:
        raise ConfigError(
            others[0].partition("=")[0], others[0].partition("=")[2], "cannot be set beside resume",
            "a resumed sweep keeps its settings; start another one for other settings",
        )  # fmt: skip
    return Path(given[-1].partition("=")[2]).expanduser()


def new_sweep(cells: Sequence[Cell]) -> Sweep:
    """Validate all cells, make the folder, write every job and sweep.json."""
    validate_cells(cells)
    for key in ("out", "sweep", "tracking"):
        if any(cell.config[key] != cells[0].config[key] for cell in cells):
            raise ConfigError(key, "(several values)", "is one for the whole sweep", "give one value")
    head = cells[0].overrides[:1]
    name = head[0].partition("=")[2] if head and head[0].startswith("experiment=") else "sweep"
    folder = Path(cells[0].config["out"] or default_out(name))
    validate_out(folder, len(cells) + 1, max(len(load_workload(cell.config).lines) for cell in cells))
    ledger = new_ledger(folder, [cell.label for cell in cells], [cell.overrides for cell in cells])
    sweep = Sweep(folder=folder, cells=cells, ledger=ledger)
    for index, cell in enumerate(cells):
        write_job(new_job(sweep.dir_of(index), cell.label, "measure", cell.config))
    ledger.save()
    return sweep


def resumed_sweep(folder: Path) -> Sweep:
    """The sweep of a folder, with the configurations that it was started with."""
    ledger = load_ledger(folder)
    cells = [
        Cell(label=entry.label, overrides=entry.overrides, config=read_job(folder / entry.dir).config)
        for entry in ledger.entries
    ]
    validate_cells(cells)
    return Sweep(folder=folder, cells=cells, ledger=ledger)


def run_sweep(sweep: Sweep) -> int:
    """Measure what is not settled, score, report, log. Ctrl-C leaves a readable sweep and the command that goes on."""
    sweep.ledger.start()
    try:
        with ExitStack() as stack:
            unscored = _measure_and_score(sweep, stack)
    except KeyboardInterrupt:
        sweep.ledger.end("interrupted")
        complain(f"interrupted; go on with: python -m experiments.sweep resume={shlex.quote(str(sweep.folder))}")
        return EXIT_INTERRUPTED
    stopped = sweep.ledger.count("pending") > 0
    sweep.ledger.end("interrupted" if stopped else "done")
    code = _publish(sweep)
    if sweep.ledger.count("failed") or unscored:
        all_misconfigured = len(sweep.config_errors) == len(sweep.cells)
        return EXIT_USAGE if all_misconfigured else EXIT_JOB_FAILED
    return code if sweep.ledger.count("ok") else EXIT_JOB_FAILED


def _measure_and_score(sweep: Sweep, stack: ExitStack) -> int:
    """Number of cells whose scoring failed. The devices stay locked to the end: scoring would disturb another sweep."""
    todo = [index for index, entry in enumerate(sweep.ledger.entries) if not entry.is_settled]
    plans = [planned(sweep.cells[index], len(load_workload(sweep.cells[index].config).lines)) for index in todo]
    board = stack.enter_context(Board(plans))
    mode = sweep.cells[0].config["sweep"]["lock"]
    devices = sorted({str(cell.config["device"]["kind"]) for cell in sweep.cells})
    locks = {device: stack.enter_context(device_lock(device, mode, board.say)) for device in devices}
    for position, index in enumerate(todo):
        _measure_cell(sweep, index, position, board, locks)
        failed = sweep.ledger.entries[index].state == "failed"
        if failed and sweep.cells[index].config["sweep"]["fail_fast"]:
            board.say("sweep.fail_fast=true: the rest is left out")
            break
    references = _references(sweep, board, locks)
    board.say(f"scoring {sweep.ledger.count('ok')} variants")
    return _score_all(sweep, references)


def _measure_cell(sweep: Sweep, index: int, position: int, board: Board, locks: Mapping[str, int]) -> None:
    cell = sweep.cells[index]
    launcher = make_launcher(_lock(cell, locks), lambda journal: board.tick(position, journal), sweep.command)
    sweep.ledger.set_cell(index, "running")
    board.start(position)
    result = launch(new_job(sweep.dir_of(index), cell.label, "measure", cell.config), launcher)
    record = result.record
    if result.is_config_error:
        sweep.config_errors.add(index)
    sweep.ledger.set_cell(index, record.status, record.reason, record.remedy)
    board.finish(position, record.status, record.reason)


def _lock(cell: Cell, locks: Mapping[str, int]) -> int:
    return locks[str(cell.config["device"]["kind"])]


def _references(sweep: Sweep, board: Board, locks: Mapping[str, int]) -> dict[int, Path | None]:
    """Cell -> folder of its quality reference: a cell of the sweep, else one beside them; None: it is the reference."""
    own = {
        reference_key(cell.config): sweep.dir_of(index) for index, cell in sweep.measured() if is_reference(cell.config)
    }
    made: dict[str, Path] = {}
    found: dict[int, Path | None] = {}
    for index, cell in sweep.measured():
        key = reference_key(cell.config)
        if not needs_reference(cell.config) or own.get(key) == sweep.dir_of(index):
            found[index] = None
            continue
        if key not in own and key not in made:
            board.say("reference: fp32 at 32 euler steps, or the one kept from an earlier run")
            beside = sweep.folder / ("reference" if not made else f"reference-{len(made) + 1}")
            made[key] = provide_reference(cell.config, beside, make_launcher(_lock(cell, locks), None, sweep.command))
        found[index] = own.get(key) or made[key]
    folders = [*own.values(), *made.values()]
    inside = [folder for folder in folders if folder.is_relative_to(sweep.folder)]
    sweep.ledger.set_reference(inside[0].relative_to(sweep.folder).as_posix() if inside else None)
    return found


def oracle_of(cells: Sequence[Cell], cell: Cell) -> Cell | None:
    """The float32 cell on the same grid, None for itself or where there is none."""
    wanted = {**{key: cell.config[key] for key in ORACLE_KEYS}, "engine": reference_config(cell.config)["engine"]}
    if cell.config["engine"] == wanted["engine"]:
        return None
    return next((other for other in cells if all(other.config[key] == wanted[key] for key in wanted)), None)


def _score_all(sweep: Sweep, references: Mapping[int, Path | None]) -> int:
    """Score every measured cell, as many at a time as there are cores. The number that failed."""
    todo = list(sweep.measured())
    folders = {cell.label: sweep.dir_of(index) for index, cell in todo}
    num_failed = 0
    running: list[tuple[Path, subprocess.Popen[str]]] = []
    for index, cell in todo:
        oracle = oracle_of([other for _, other in todo], cell)
        if len(running) >= usable_cores():
            num_failed += not finish_scoring(*running.pop(0))
        process = start_scoring(sweep.dir_of(index), references[index], folders[oracle.label] if oracle else None)
        running.append((sweep.dir_of(index), process))
    return num_failed + sum(not finish_scoring(folder, process) for folder, process in running)


def _publish(sweep: Sweep) -> int:
    """The report with its table on stdout, then MLflow, whose failure costs one line."""
    command = [sys.executable, "-m", "reports", str(sweep.folder), "--print"]
    sys.stdout.flush()
    done = subprocess.run(command, env=module_environment(), check=False)
    if done.returncode != 0:
        complain(f"the report failed; everything measured is in {sweep.folder}; `python -m reports {sweep.folder}`")
    sync_tracking(sweep.cells[0].config, sweep.folder)
    print(f"records  {sweep.folder / 'cells'}", flush=True)
    return EXIT_OK if done.returncode == 0 else EXIT_UNEXPECTED


def _show_cells(overrides: Sequence[str]) -> int:
    """--cfg job: the composed configuration of every cell."""
    for cell in compose_cells(overrides):
        config: dict[str, Any] = dict(cell.config)
        print(f"--- # {cell.label}\n{OmegaConf.to_yaml(config)}", end="")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_verb(main))
