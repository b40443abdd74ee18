"""Many variants, each in its own process: `python -m experiments.sweep engine=fp32,bf16 solver=euler_6,euler_7`.

Everything is validated before the first worker starts. A variant that fails is a row, not the end. Nothing is scored
while anything is timed. sweep.json says at every moment what is done, so an interrupted sweep goes on with resume=DIR.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from engine.contract import ConfigError
from engine.paths import with_home
from experiments.cells import Sweep, Watch, folder_lock, measure_cells, read_cells, review
from experiments.cli import (
    EXIT_INTERRUPTED,
    EXIT_JOB_FAILED,
    EXIT_OK,
    EXIT_UNEXPECTED,
    EXIT_USAGE,
    complain,
    run_verb,
)
from experiments.compose import DEFAULT_PRESET, Cell, compose_cells
from experiments.device_lock import device_lock, device_name
from experiments.environment import usable_cores
from experiments.front import MULTIRUN, answered, is_config, is_help, without_multirun
from experiments.job import module_environment, new_job, write_job
from experiments.ledger import load_ledger, new_ledger
from experiments.presets import with_presets
from experiments.progress import Board
from experiments.reference import is_reference, needs_reference, provide_reference, reference_config, reference_key
from experiments.run import default_out, finish_scoring, make_launcher, planned, start_scoring, sync_tracking
from experiments.scored import is_scored
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
ORACLE_KEYS = ("model", "solver", "vocoder", "reference", "workload", "seed", "text")

Scoring = tuple[Path, Path | None, Path | None]  # the folders of a run, its reference, its oracle


@with_presets
def main(argv: Sequence[str]) -> int:
    if is_config(argv) and not is_help(argv):
        return _show_cells([arg for arg in argv if "=" in arg and not arg.startswith("-")])
    if answered(argv, HELP, taken=MULTIRUN):
        return EXIT_OK
    argv = without_multirun(argv)
    folder = resume_folder(argv)
    return run_cells(argv) if folder is None else run_sweep(resumed_sweep(folder))


def run_cells(argv: Sequence[str], preset: str | None = DEFAULT_PRESET) -> int:
    """A new sweep of what the overrides name. preset: what is swept where they sweep nothing."""
    return run_sweep(new_sweep(compose_cells(argv, preset)))


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
    return with_home(given[-1].partition("=")[2])


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
    sweep = Sweep(folder=folder, cells=list(cells), ledger=ledger)
    for index, cell in enumerate(cells):
        write_job(new_job(sweep.dir_of(index), cell.label, "measure", cell.config))
    ledger.save()
    return sweep


def resumed_sweep(folder: Path) -> Sweep:
    """The sweep of a folder, with the configurations that it was started with."""
    ledger = load_ledger(folder)
    cells = read_cells(ledger)
    validate_cells(cells)
    return Sweep(folder=folder, cells=cells, ledger=ledger)


def run_sweep(sweep: Sweep) -> int:
    """Measure what is not settled, score, report, log. Ctrl-C leaves a readable sweep and the command that goes on."""
    with folder_lock(sweep.folder):
        return _run_locked(sweep)


def _run_locked(sweep: Sweep) -> int:
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
    code = publish(sweep)
    if sweep.ledger.count("failed") or unscored:
        all_misconfigured = len(sweep.config_errors) == len(sweep.cells)
        return EXIT_USAGE if all_misconfigured else EXIT_JOB_FAILED
    return code if sweep.ledger.count("ok") else EXIT_JOB_FAILED


def _measure_and_score(sweep: Sweep, stack: ExitStack) -> int:
    """Number of cells whose scoring failed. The devices stay locked to the end: scoring would disturb another sweep."""
    said = review(sweep)
    cells = [sweep.cells[index] for index in sweep.todo()]
    plans = [planned(cell, len(load_workload(cell.config).lines)) for cell in cells]
    board = stack.enter_context(Board(plans))
    for line in said:
        board.say(line)
    watch = Watch(board, lock_devices(sweep.cells, board, stack))
    sweep.held = tuple(watch.locks.values())
    measure_cells(sweep, watch)
    references = references_of(sweep, watch)
    return _score_all(unscored(sweep, references, board), sweep.held)


def lock_devices(cells: Sequence[Cell], board: Board, stack: ExitStack) -> dict[str, int]:
    """Device, by each of its names -> descriptor of its lock, held until the stack is closed."""
    mode = cells[0].config["sweep"]["lock"]
    kinds = sorted({str(cell.config["device"]["kind"]) for cell in cells})
    locks = {
        device: stack.enter_context(device_lock(device, mode, board.say))
        for device in sorted({*map(device_name, kinds)})
    }
    return {kind: locks[device_name(kind)] for kind in kinds}


def references_of(sweep: Sweep, watch: Watch) -> dict[int, Path | None]:
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
            watch.board.say("reference: fp32 at 32 euler steps, or the one kept from an earlier run")
            beside = sweep.folder / ("reference" if not made else f"reference-{len(made) + 1}")
            lock = watch.locks[str(cell.config["device"]["kind"])]
            made[key] = provide_reference(cell.config, beside, make_launcher(lock, None, sweep.command))
        found[index] = own.get(key) or made[key]
    folders = [*own.values(), *made.values()]
    inside = [folder for folder in folders if folder.is_relative_to(sweep.folder)]
    sweep.ledger.set_reference(inside[0].relative_to(sweep.folder).as_posix() if inside else None)
    return found


def oracle_of(cells: Sequence[Cell], cell: Cell) -> Cell | None:
    """The float32 cell on the same grid, None for itself or where there is none."""
    wanted = {**{key: cell.config.get(key) for key in ORACLE_KEYS}, "engine": reference_config(cell.config)["engine"]}
    if cell.config["engine"] == wanted["engine"]:
        return None
    return next((other for other in cells if all(other.config.get(key) == wanted[key] for key in wanted)), None)


def unscored(sweep: Sweep, references: Mapping[int, Path | None], board: Board) -> list[Scoring]:
    """The measured cells whose scores are missing, or were made of something else than what is there now."""
    measured = list(sweep.measured())
    folders = {cell.label: sweep.dir_of(index) for index, cell in measured}
    wanted: list[Scoring] = []
    for index, cell in measured:
        oracle = oracle_of([other for _, other in measured], cell)
        wanted.append((folders[cell.label], references[index], folders[oracle.label] if oracle else None))
    todo = [scoring for scoring in wanted if not is_scored(*scoring)]
    kept = f", {len(wanted) - len(todo)} are scored already" if len(todo) < len(wanted) else ""
    board.say(f"scoring {len(todo)} variants{kept}")
    return todo


def _score_all(todo: Sequence[Scoring], held: Sequence[int]) -> int:
    """As many at a time as there are cores. The number that failed."""
    num_failed = 0
    running: list[tuple[Path, subprocess.Popen[str]]] = []
    for folder, reference, oracle in todo:
        if len(running) >= usable_cores():
            num_failed += not finish_scoring(*running.pop(0))
        running.append((folder, start_scoring(folder, reference, oracle, held)))
    return num_failed + sum(not finish_scoring(folder, process) for folder, process in running)


def publish(sweep: Sweep) -> int:
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
