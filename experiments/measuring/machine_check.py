"""A finished run's calibrations against what this machine, and machines of its class, took before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from baselines.class_history import (
    MACHINE,
    SHIPPED,
    MachineState,
    judge_machine,
    load_history,
    save_history,
    with_run,
)
from engine.cache import cache_root
from experiments.common.plain import as_config
from metrics.record import RecordError, RunRecord

DEFAULT_RATIO = 2.0  # of jobs that were written before there was the setting


def history_folder() -> Path:
    """Beside everything else that is kept for this machine."""
    return cache_root() / "machines"


def checked(record: RunRecord, folder: Path, fault: str | None = None) -> RunRecord:
    """The record with the machine's state in its environment; a run that the machine does not void joins the history.

    A voided one does not: what is kept is how fast the machine is when it is in order. fault: what was seen of the
    machine while it measured that voids the run, whatever its calibrations say.
    """
    host_class = str(record.environment["host_class"])
    limit = as_config(record.config)["measure"].get("machine_ratio", DEFAULT_RATIO)
    if fault is not None:
        return _with(record, MachineState(
            valid=False, ratio=None, limit_ratio=limit, num_runs=0, num_shipped=0, reason=fault
        ))  # fmt: skip
    try:
        kept = load_history(folder, host_class)
    except RecordError as error:
        return _with(record, MachineState(
            valid=None, ratio=None, limit_ratio=limit, num_runs=0, num_shipped=0, reason=str(error)
        ))  # fmt: skip
    state = judge_machine(record, limit, kept, load_history(SHIPPED, host_class))
    if state.valid is not False:
        try:
            save_history(folder, host_class, with_run(kept, record))
        except OSError:
            pass  # a cache that cannot be written leaves the shipped figures, and the next run says how many it knew
    return _with(record, state)


def _with(record: RunRecord, state: MachineState) -> RunRecord:
    return replace(record, environment={**record.environment, MACHINE: state.content()})
