"""A search instead of a grid: `python -m experiments.optimize engine=fp32,bf16 solver=euler_6,euler_7`.

Several objectives at once, quality as a condition. Optuna proposes, its study lies in OUT/optuna.db; every trial is an
ordinary cell of a sweep: own process, own journal, kept by its key. A search that was killed goes on with resume=DIR.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.contract import ConfigError
from experiments.common.cli import (
    EXIT_INTERRUPTED,
    EXIT_JOB_FAILED,
    EXIT_OK,
    complain,
    disk_full,
    resume_command,
    run_verb,
)
from experiments.common.device_lock import device_name, folder_lock
from experiments.common.plain import Config, SweepSettings
from experiments.common.presets import config_dir, own_folder, with_presets
from experiments.common.progress import Board
from experiments.measuring.job import RESULT
from experiments.measuring.running import default_out, planned, score
from experiments.measuring.validate import validate, validate_out
from experiments.optimize.space import ENERGY_OBJECTIVES, SAMPLERS, Space, directions_of, read_constraints, read_space
from experiments.optimize.study import (
    Search,
    Told,
    figures_of,
    open_study,
    proposals,
    row_of,
    save_search,
    tell,
    told_of,
)
from experiments.settings.compose import Cell, compose_cell, compose_config
from experiments.settings.front import answered
from experiments.settings.keys import key_of
from experiments.sweep.cells import Sweep, Watch, measure_cell, read_cells, review, stop_reason
from experiments.sweep.ledger import Ledger, load_ledger, new_ledger
from experiments.sweep.running import RESUME, lock_devices, publish, references_of, resume_folder, show_finished
from experiments.telemetry.backends import choose, missing_power
from experiments.workload.requests import load_workload
from metrics.record import RecordError, load_record, write_atomically
from metrics.typed import from_json, load_json

REQUEST = "request.json"
SEARCH_SWEEP = "sweep=search"
MAX_IDLE = 50  # suggestions in a row that were measured before
HELP = """Search the variants for the best trade of speed, quality and memory; print the front.

examples:
  python -m experiments.optimize                                       the default space of conf/sweep/search.yaml
  python -m experiments.optimize engine=fp32,bf16,int8 solver=euler_6,euler_7,midpoint_6 sweep.num_trials=12
  python -m experiments.optimize engine=bf16 solver=euler_7 'solver.sway=interval(-1,0.5)' workload=smoke
  python -m experiments.optimize 'sweep.constraints=["stoi_vs_reference>=0.9"]' 'sweep.objectives=[rtf,peak_bytes]'
  python -m experiments.optimize measure=energy 'sweep.objectives=[rtf,energy_j_per_audio_s]'
  python -m experiments.optimize resume=outputs/20260101-120000-search [sweep.num_trials=48]
"""


@dataclass(frozen=True, slots=True)
class _Request:
    """request.json: the command line that the search was started with, and the folder of own presets."""

    argv: tuple[str, ...]
    config_dir: str | None = None


@with_presets
def main(argv: Sequence[str]) -> int:
    if answered(argv, HELP, first=[SEARCH_SWEEP]):
        return EXIT_OK
    if not any(arg.startswith(RESUME) for arg in argv):
        return run_search(new_search(argv))
    with config_dir(_request_of(_folder_of(argv))[1]):
        return run_search(_resumed(argv))


def new_search(argv: Sequence[str]) -> Search:
    """Everything is checked, the folder is made, the request is kept, before anything is measured."""
    space, config = _asked(argv)
    validate(config)
    _refuse_without_energy(space, config)
    out = Path(config["out"] or default_out("search"))
    search = _search_of(space, config["sweep"], Sweep(folder=out, cells=[], ledger=new_ledger(out, [], [])))
    validate_out(out, int(config["sweep"]["num_trials"]) + 1, len(load_workload(config).lines))
    own = own_folder()
    write_atomically(out / REQUEST, json.dumps({"argv": list(argv), "config_dir": own and str(own)}) + "\n")
    search.sweep.ledger.save()
    return search


def _refuse_without_energy(space: Space, config: Config) -> None:
    """Every trial would be measured and have no number. Raises ConfigError."""
    settings = config["sweep"]
    asked = [*settings["objectives"], *(limit.metric for limit in read_constraints(settings["constraints"]))]
    named = [name for name in asked if name in ENERGY_OBJECTIVES]
    if not named or any(dimension.key.partition(".")[0] == "measure" for dimension in space.dimensions):
        return
    if not config["measure"].get("energy_busy_s"):
        raise ConfigError("sweep.objectives", named[0], "needs a pass of its own for energy", "add measure=energy")
    head = choose(str(config["device"]["kind"])).head()
    if not head.get("rule"):
        raise ConfigError(
            "sweep.objectives", named[0], f"has no source of power here: {missing_power(head)}",
            "f5bench telemetry watch shows what there is",
        )  # fmt: skip


def _asked(argv: Sequence[str]) -> tuple[Space, Config]:
    settings = [arg for arg in argv if key_of(arg).startswith("sweep.")]
    space = read_space(argv, compose_config([SEARCH_SWEEP, *settings])["sweep"]["space"])
    return space, compose_config([SEARCH_SWEEP, *space.fixed])


def _request_of(folder: Path) -> tuple[list[str], Path | None]:
    """(overrides, own presets or None) that a search was started with. Raises RecordError."""
    try:
        request = from_json(_Request, load_json(folder / REQUEST))
    except (OSError, ValueError) as error:
        raise RecordError(
            f"{folder / REQUEST}: no such search; give the folder that experiments.optimize left"
        ) from error
    return list(request.argv), None if request.config_dir is None else Path(request.config_dir)


def _folder_of(argv: Sequence[str]) -> Path:
    folder = resume_folder([arg for arg in argv if key_of(arg) != "sweep.num_trials"])
    assert folder is not None
    return folder


def _resumed(argv: Sequence[str]) -> Search:
    """The search of a folder; only the number of its trials may be another."""
    folder, more = _folder_of(argv), [arg for arg in argv if key_of(arg) == "sweep.num_trials"]
    asked, _ = _request_of(folder)
    argv = [*[arg for arg in asked if not more or key_of(arg) != "sweep.num_trials"], *more]
    space, config = _asked(argv)
    ledger: Ledger = load_ledger(folder)
    return _search_of(space, config["sweep"], Sweep(folder=folder, cells=read_cells(ledger), ledger=ledger))


def _search_of(space: Space, settings: SweepSettings, sweep: Sweep) -> Search:
    for key in ("num_trials", "sampler_seed"):
        if not isinstance(settings[key], int) or settings[key] < (key == "num_trials"):
            raise ConfigError(f"sweep.{key}", settings[key], "must be a whole number", f"use sweep.{key}=1")
    if settings["sampler"] not in SAMPLERS:
        raise ConfigError("sweep.sampler", settings["sampler"], f"must be one of {', '.join(SAMPLERS)}", "use tpe")
    return Search(
        sweep=sweep,
        space=space,
        settings=settings,
        objectives=tuple(settings["objectives"]),
        directions=directions_of(settings["objectives"]),
        constraints=read_constraints(settings["constraints"]),
    )


def run_search(search: Search) -> int:
    """Propose, measure, score, tell, until the trials are made; then the report. Ctrl-C leaves what goes on later."""
    folder = search.sweep.folder
    go_on = resume_command("optimize", folder)
    with folder_lock(folder):
        try:
            search.sweep.ledger.start()
            with ExitStack() as stack:
                stopped = _loop(search, stack)
        except KeyboardInterrupt:
            search.sweep.ledger.end("interrupted")
            show_finished(search.sweep)
            complain(f"interrupted; go on with: {go_on}")
            return EXIT_INTERRUPTED
        except OSError as error:
            return disk_full(error, folder, go_on)
        search.sweep.ledger.end("interrupted" if stopped else "done")
        if not search.sweep.cells:
            return EXIT_JOB_FAILED
        code = publish(search.sweep)
    for line in front_lines(search):
        print(line)
    if stopped:
        complain(f"{stopped}; go on with: {go_on}")
    return code if any(row["values"] for row in search.rows) and not stopped else EXIT_JOB_FAILED


def front_lines(search: Search) -> list[str]:
    """The cells that no other beats, a line each, however often they were suggested."""
    lines = []
    for row in search.rows:
        if row["is_on_front"] and row["values"] is not None:
            figures = zip(search.objectives, row["values"], strict=True)
            lines.append(f"front    {row['label']}: {', '.join(f'{name} {value:.4g}' for name, value in figures)}")
    return lines


def _loop(search: Search, stack: ExitStack) -> str | None:
    """Why it ended before its trials were made; None where it did not, or the sampler had no more to ask."""
    sweep, first = search.sweep, _first_cell(search)
    study = open_study(search, first)
    board = stack.enter_context(Board([], at_most=max(1, search.wanted - len(search.rows))))
    for line in review(sweep):
        board.say(line)
    watch = Watch(board, lock_devices([first], board, stack))
    told: dict[str, Told] = {row["label"]: told_of(row) for row in search.rows}
    num_idle = 0
    for trial in proposals(study, search):
        cell = _cell_of(search, trial)
        label = cell if isinstance(cell, str) else cell.label
        num_idle = num_idle + 1 if label in told else 0
        if isinstance(cell, str):
            told.setdefault(label, Told(reason=cell))
        elif label not in told:
            watch = _locked(watch, cell, stack)
            measured = _measured(search, cell, watch)
            if measured is None:  # not told to the sampler, for which it would have failed for ever
                return f"{label}: its audio could not be scored"
            told[label] = measured
        tell(study, trial, label, told[label])
        search.add(row_of(trial.number, label, trial.params, told[label]))
        save_search(search)
        stop = _stop_reason(sweep, label) if num_idle == 0 else None
        if stop:
            return stop
        if num_idle >= MAX_IDLE:
            board.say("the sampler only repeats itself: enough")
            break
    return None


def _locked(watch: Watch, cell: Cell, stack: ExitStack) -> Watch:
    """Holding the device of this cell, too: a space may name several. One device has one lock, whatever its name."""
    kind = str(cell.config["device"]["kind"])
    held = [lock for other, lock in watch.locks.items() if device_name(other) == device_name(kind)]
    locks = {kind: held[0]} if held else lock_devices([cell], watch.board, stack)
    return replace(watch, locks={**watch.locks, **locks})


def _stop_reason(sweep: Sweep, label: str) -> str | None:
    index = sweep.index_of(label)
    return None if index is None else stop_reason(sweep, index)


def _cell_of(search: Search, trial: Any) -> Cell | str:
    """The cell that a suggestion names; a reason where it is no valid configuration."""
    chosen = [f"{dimension.key}={dimension.suggest(trial)}" for dimension in search.space.dimensions]
    try:
        keys = [dimension.key for dimension in search.space.dimensions]
        cell = compose_cell((SEARCH_SWEEP, *search.space.fixed, *chosen), keys)
        validate(cell.config, check_texts=False)
    except ConfigError as error:
        return f"{' '.join(chosen)}: {error.allowed}"
    for known in search.sweep.cells:
        if known.label.casefold() == cell.label.casefold() and not set(chosen) <= set(known.overrides):
            return (
                f"{' '.join(chosen)}: has the folder of another cell, {known.label}; write one of the values otherwise"
            )
    return cell


def _first_cell(search: Search) -> Cell:
    config = compose_config([SEARCH_SWEEP, *search.space.fixed])
    return Cell(label="search", overrides=search.space.fixed, config=config)


def _measured(search: Search, cell: Cell, watch: Watch) -> Told | None:
    """None where the cell was measured and its audio could not be scored."""
    sweep = search.sweep
    index = sweep.index_of(cell.label)
    if index is None:
        index = sweep.add(cell)
    if not sweep.ledger.entries[index].is_settled:
        assert isinstance(watch.board, Board)
        position = watch.board.add(planned(cell))
        measure_cell(sweep, index, position, watch)
    folder = sweep.dir_of(index)
    if sweep.ledger.entries[index].state == "ok" and not score(
        folder, references_of(sweep, watch, [index])[index], None
    ):
        return None
    return figures_of(load_record(folder / RESULT), search)


if __name__ == "__main__":
    sys.exit(run_verb(main))
