"""A sweep from its cells to its report: validated, measured, scored, published, gone on with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from engine.contract import ConfigError
from experiments.common.cli import (
    EXIT_INTERRUPTED,
    EXIT_JOB_FAILED,
    EXIT_OK,
    EXIT_UNEXPECTED,
    EXIT_USAGE,
    complain,
    disk_full,
    meanwhile,
    note,
    report_command,
    report_place,
    resume_command,
)
from experiments.common.device_lock import device_lock, device_name, folder_lock
from experiments.common.processes import module_environment
from experiments.common.progress import Board, expected_text
from experiments.measuring.job import LOG, new_job, write_job
from experiments.measuring.running import (
    default_out,
    finish_scoring,
    planned,
    scorers_at_once,
    start_scoring,
    sync_tracking,
    takes,
)
from experiments.measuring.validate import validate_cells, validate_out
from experiments.scoring.ingredients import is_scored
from experiments.scoring.reference import provide_reference
from experiments.scoring.sides import oracle_of
from experiments.settings.compose import DEFAULT_PRESET, Cell, compose_cells
from experiments.settings.keys import resumed_folder
from experiments.settings.reference import is_reference, needs_reference, reference_key
from experiments.settings.suited import suited
from experiments.sweep.cells import Sweep, Told, Watch, measure_cells, read_cells, review
from experiments.sweep.ledger import load_ledger, new_ledger
from experiments.workload.requests import load_workload
from metrics.record import RecordError
from reports.data.table import load_table
from reports.render.terminal import print_report, row_line, stdout_console

RESUME_KEYS = ("resume", "sweep.resume")
RESUME = tuple(f"{key}=" for key in RESUME_KEYS)


Scoring = tuple[Path, Path | None, Path | None]  # the folders of a run, its reference, its oracle


def run_cells(argv: Sequence[str], preset: str | None = DEFAULT_PRESET) -> int:
    """A new sweep of what the overrides name. preset: what is swept where they sweep nothing."""
    with meanwhile("composing the variants and checking them"):
        cells, left_out = suited(compose_cells(argv, preset))
        made = new_sweep(cells)
    for line in left_out:
        note(line)
    return run_sweep(made)


def resume_folder(argv: Sequence[str]) -> Path | None:
    """DIR of resume=DIR. Raises ConfigError."""
    return resumed_folder(argv, "experiments.sweep", RESUME_KEYS)


def new_sweep(cells: Sequence[Cell], folder: Path | None = None) -> Sweep:
    """Validate all cells, make the folder, write every job and sweep.json. folder: of a table that others measure."""
    validate_cells(cells, elsewhere=folder is not None)
    for key in ("out", "sweep", "tracking"):
        if any(cell.config[key] != cells[0].config[key] for cell in cells):
            raise ConfigError(key, "(several values)", "is one for the whole sweep", "give one value")
    folder = sweep_folder(cells[0]) if folder is None else folder
    validate_out(folder, len(cells) + 1, max(len(load_workload(cell.config).lines) for cell in cells))
    ledger = new_ledger(folder, [cell.label for cell in cells], [cell.overrides for cell in cells])
    sweep = Sweep(folder=folder, cells=list(cells), ledger=ledger)
    for index, cell in enumerate(cells):
        write_job(new_job(sweep.dir_of(index), cell.label, "measure", cell.config))
    ledger.save()
    return sweep


def sweep_folder(cell: Cell) -> Path:
    """Where a new sweep goes, from its first cell."""
    head = cell.overrides[:1]
    name = head[0].partition("=")[2] if head and head[0].startswith("experiment=") else "sweep"
    return Path(cell.config["out"] or default_out(name))


def resumed_sweep(folder: Path, *, elsewhere: bool = False) -> Sweep:
    """The sweep of a folder, with the configurations that it was started with. Raises RecordError for what is none.

    elsewhere: other machines measure it.
    """
    ledger = load_ledger(folder)
    cells = read_cells(ledger)
    validate_cells(cells, elsewhere=elsewhere)
    return Sweep(folder=folder, cells=cells, ledger=ledger)


def run_sweep(sweep: Sweep) -> int:
    """Measure what is not settled, score, report, log. Ctrl-C leaves a readable sweep and the command that goes on."""
    with folder_lock(sweep.folder):
        return _run_locked(sweep)


def _run_locked(sweep: Sweep) -> int:
    go_on = resume_command("sweep", sweep.folder)
    try:
        sweep.ledger.start()
        with ExitStack() as stack:
            unscored = _measure_and_score(sweep, stack)
    except KeyboardInterrupt:
        sweep.ledger.end("interrupted")
        show_finished(sweep)
        complain(f"interrupted; go on with: {go_on}")
        return EXIT_INTERRUPTED
    except OSError as error:
        return disk_full(error, sweep.folder, go_on)
    stopped = sweep.ledger.count("pending") > 0
    sweep.ledger.end("interrupted" if stopped else "done")
    code = publish(sweep)
    if stopped or sweep.ledger.count("failed"):
        print(f"go on    {go_on}", flush=True)
    if sweep.ledger.count("failed") or unscored:
        all_misconfigured = len(sweep.config_errors) == len(sweep.cells)
        return EXIT_USAGE if all_misconfigured else EXIT_JOB_FAILED
    return code if sweep.ledger.count("ok") else EXIT_JOB_FAILED


def show_finished(sweep: Sweep) -> None:
    """The table of what an interrupted sweep has measured and scored; everything else of it is made by the command."""
    if not sweep.ledger.count("ok"):
        return
    try:
        print_report(load_table(sweep.folder), stdout_console())
    except RecordError as error:
        complain(error)
    print(f"report   {report_command(sweep.folder)}", flush=True)


def _measure_and_score(sweep: Sweep, stack: ExitStack) -> int:
    """Number of scorings that failed. Each cell is scored before the next is timed, and never beside it; the devices
    stay locked to the end, as scoring would disturb another sweep."""
    said = review(sweep)
    cells = [sweep.cells[index] for index in sweep.todo()]
    plans = [planned(cell) for cell in cells]
    board = stack.enter_context(Board(plans))
    for line in said:
        board.say(line)
    if plans:
        board.say(f"{expected_text(plans)}; records in {sweep.folder}, each variant's {LOG} in its folder there")
    watch = Watch(board, lock_devices(sweep.cells, board, stack, takes(plans)))
    sweep.held = tuple(watch.locks.values())
    scores = Scores(sweep, watch)
    scores.catch_up()
    measure_cells(sweep, watch, scores.catch_up)
    scores.catch_up(is_last=True)
    return scores.num_failed


def lock_devices(cells: Sequence[Cell], board: Told, stack: ExitStack, long: str = "") -> dict[str, int]:
    """Device, by each of its names -> descriptor of its lock, held until the stack is closed. long: how long that is,
    as the next one in line is told."""
    mode = cells[0].config["sweep"]["lock"]
    kinds = sorted({str(cell.config["device"]["kind"]) for cell in cells})
    locks = {
        device: stack.enter_context(device_lock(device, mode, board.say, long))
        for device in sorted({*map(device_name, kinds)})
    }
    return {kind: locks[device_name(kind)] for kind in kinds}


def references_of(sweep: Sweep, watch: Watch, indexes: Collection[int]) -> dict[int, Path | None]:
    """Cell -> folder of its quality reference: a cell of the sweep, else one beside them; None: it is the reference."""
    own = {
        reference_key(cell.config): sweep.dir_of(index) for index, cell in sweep.measured() if is_reference(cell.config)
    }
    found: dict[int, Path | None] = {}
    for index in indexes:
        cell, key = sweep.cells[index], reference_key(sweep.cells[index].config)
        if not needs_reference(cell.config) or own.get(key) == sweep.dir_of(index):
            found[index] = None
            continue
        if key not in own and key not in sweep.references:
            number = len(sweep.references) + 1
            beside = sweep.folder / ("reference" if number == 1 else f"reference-{number}")
            launcher = watch.launcher(cell.config, None, sweep.command)
            sweep.references[key] = provide_reference(cell.config, beside, launcher, watch.board.say)
        found[index] = own.get(key) or sweep.references[key]
    folders = [*own.values(), *sweep.references.values()]
    inside = [folder for folder in folders if folder.is_relative_to(sweep.folder)]
    reference = inside[0].relative_to(sweep.folder).as_posix() if inside else None
    if reference != sweep.ledger.reference:
        sweep.ledger.set_reference(reference)
    return found


@dataclass(slots=True, eq=False)
class Scores:
    """Scores the cells of a sweep as they are measured. against: per cell what it was last scored, or found, with."""

    sweep: Sweep
    watch: Watch
    num_failed: int = 0
    against: dict[int, Scoring] = field(default_factory=dict)

    def catch_up(self, is_last: bool = False) -> None:
        """Score the measured cells whose scores are missing, or were made of something else than what is there now.

        One whose reference is a cell that is still to be measured waits for it, unless nothing more comes.
        """
        sweep, is_first = self.sweep, not self.against
        waiting = set() if is_last else self._to_come()
        ready = [index for index, cell in sweep.measured() if reference_key(cell.config) not in waiting]
        if not ready:
            return
        references = references_of(sweep, self.watch, ready)
        new = {index: self._scoring(index, references[index]) for index in ready}
        new = {index: scoring for index, scoring in new.items() if self.against.get(index) != scoring}
        self.against.update(new)
        todo = [scoring for scoring in new.values() if not is_scored(*scoring)]
        if todo or is_first:
            kept = f", {len(new) - len(todo)} are scored already" if len(todo) < len(new) else ""
            one = todo[0][0].name if len(todo) == 1 else f"{len(todo)} variants"
            self.watch.board.say(f"scoring {one}{kept}")
        self.num_failed += _score_all(todo, sweep.held)
        for folder, _, _ in todo:
            self._show(folder)

    def _show(self, cell: Path) -> None:
        """What was just scored: no figure is shown before its audio is known to be valid."""
        for row in load_table(cell).rows:
            self.watch.board.say(row_line(row))

    def _to_come(self) -> set[str]:
        cells = [self.sweep.cells[i] for i, one in enumerate(self.sweep.ledger.entries) if one.state == "pending"]
        return {reference_key(cell.config) for cell in cells if is_reference(cell.config)}

    def _scoring(self, index: int, reference: Path | None) -> Scoring:
        sweep, measured = self.sweep, list(self.sweep.measured())
        oracle = oracle_of([cell for _, cell in measured], sweep.cells[index])
        folders = {cell.label: sweep.dir_of(number) for number, cell in measured}
        return sweep.dir_of(index), reference, folders[oracle.label] if oracle else None


def _score_all(todo: Sequence[Scoring], held: Sequence[int]) -> int:
    """As many at a time as the cores can take. The number that failed."""
    num_failed = 0
    running: list[tuple[Path, subprocess.Popen[str]]] = []
    for folder, reference, oracle in todo:
        if len(running) >= scorers_at_once():
            num_failed += not finish_scoring(*running.pop(0))
        running.append((folder, start_scoring(folder, reference, oracle, held)))
    return num_failed + sum(not finish_scoring(folder, process) for folder, process in running)


def publish(sweep: Sweep) -> int:
    """The report with its table on stdout, then MLflow, whose failure costs one line."""
    command = [sys.executable, "-m", "reports", str(sweep.folder), "--print"]
    sys.stdout.flush()
    done = subprocess.run(command, env=module_environment(), check=False)
    if done.returncode != 0:
        complain(f"the report failed; everything measured is in {sweep.folder}; `{report_command(sweep.folder)}`")
    tracked = sync_tracking(sweep.cells[0].config, sweep.folder)
    print(f"{tracked}records  {sweep.folder / 'cells'}\nreport   {report_place(sweep.folder)}", flush=True)
    return EXIT_OK if done.returncode == 0 else EXIT_UNEXPECTED
