"""A search instead of a grid: `python -m experiments.optimize engine=fp32,bf16 solver=euler_6,euler_7`.

Several objectives at once, quality as a condition. Optuna proposes, its study lies in OUT/optuna.db; every trial is an
ordinary cell of a sweep: own process, own journal, kept by its key. A search that was killed goes on with resume=DIR.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

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
from experiments.common.presets import config_dir, with_presets
from experiments.common.progress import Board
from experiments.measuring.running import planned
from experiments.optimize.asking import IDLE, asking_of, first_cell, front_lines, scored_figures
from experiments.optimize.fleet import resume_fleet_search, run_fleet_search
from experiments.optimize.request import (
    SEARCH_SWEEP,
    asked,
    folder_of,
    new_search,
    request_of,
    resumed_search,
)
from experiments.optimize.study import Search, Told
from experiments.settings.compose import Cell
from experiments.settings.front import answered
from experiments.sweep.cells import Watch, measure_cell, review, stop_reason
from experiments.sweep.hosts import is_fleet, is_fleet_folder
from experiments.sweep.running import RESUME, lock_devices, publish, show_finished

HELP = """Search the variants for the best trade of speed, quality and memory; print the front.

examples:
  python -m experiments.optimize                                       the default space of conf/sweep/search.yaml
  python -m experiments.optimize engine=fp32,bf16,int8 solver=euler_6,euler_7,midpoint_6 sweep.num_trials=12
  python -m experiments.optimize engine=bf16 solver=euler_7 'solver.sway=interval(-1,0.5)' workload=smoke
  python -m experiments.optimize 'sweep.constraints=["stoi_vs_reference>=0.9"]' 'sweep.objectives=[rtf,peak_bytes]'
  python -m experiments.optimize measure=energy 'sweep.objectives=[rtf,energy_j_per_audio_s]'
  python -m experiments.optimize resume=outputs/20260101-120000-search [sweep.num_trials=48]
  python -m experiments.optimize launcher=ray 'sweep.hosts=[jetson-*]'    one on each host class, docs/fleet.md
"""


@with_presets
def main(argv: Sequence[str]) -> int:
    if answered(argv, HELP, first=[SEARCH_SWEEP]):
        return EXIT_OK
    if not any(arg.startswith(RESUME) for arg in argv):
        if is_fleet(argv, lambda words: asked(words)[1]):
            return run_fleet_search(argv)
        return run_search(new_search(argv))
    folder = folder_of(argv)
    with config_dir(request_of(folder)[1]):
        return resume_fleet_search(argv) if is_fleet_folder(folder) else run_search(resumed_search(argv))


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


def _loop(search: Search, stack: ExitStack) -> str | None:
    """Why it ended before its trials were made; None where it did not, or the sampler had no more to ask."""
    sweep, first = search.sweep, first_cell(search)
    asking = asking_of(search)
    board = stack.enter_context(Board([], at_most=max(1, search.wanted - len(search.rows))))
    for line in review(sweep):
        board.say(line)
    watch = Watch(board, lock_devices([first], board, stack))
    while (one := asking.next()) is not None:
        watch = _locked(watch, one.cell, stack)
        measured = _measured(search, one.cell, watch)
        if measured is None:  # not told to the sampler, for which it would have failed for ever
            return f"{one.cell.label}: its audio could not be scored"
        asking.tell(one, measured)
        index = sweep.index_of(one.cell.label)
        stop = None if index is None else stop_reason(sweep, index)
        if stop:
            return stop
    if asking.is_idle:
        board.say(IDLE)
    return None


def _locked(watch: Watch, cell: Cell, stack: ExitStack) -> Watch:
    """Holding the device of this cell, too: a space may name several. One device has one lock, whatever its name."""
    kind = str(cell.config["device"]["kind"])
    held = [lock for other, lock in watch.locks.items() if device_name(other) == device_name(kind)]
    locks = {kind: held[0]} if held else lock_devices([cell], watch.board, stack)
    return replace(watch, locks={**watch.locks, **locks})


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
    return scored_figures(search, index, watch)


if __name__ == "__main__":
    sys.exit(run_verb(main))
