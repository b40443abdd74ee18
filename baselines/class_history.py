"""Is this machine in the state that machines of its host class are in? Asked of a run's own calibrations.

A run's matrix products (every reading of its steady rounds) are one number, their median. It is held against the
median of those of earlier runs: what this machine keeps in its cache folder, and what is shipped for the host classes
of published reports. Slower by more than `limit_ratio` voids the run. Faster is no fault of this run.

How often that is wrong at a limit of 2: of 102 published rows of three host classes none took twice as long as its
class's median (one 1.86 times; at most 2.9 % of rows, exact one-sided 95 % bound). Where sessions drift by 1.3 times
(one standard deviation of the log), simulated, 1.0 % of clean runs are voided against a history of five, the fewest
that is judged by, and 0.5 % against one of twenty.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from metrics.parts.environment import MachineEntry
from metrics.record import RecordError, RunRecord, to_json, write_atomically
from metrics.speed.roofline import TYPICAL_ARCH
from metrics.typed import part_of

SHIPPED = Path(__file__).resolve().parent / "class_history"
SCHEMA_VERSION = 1
WORK = "gemm"
FEWEST_READINGS = 3  # one alone is too noisy
FEWEST_RUNS = 5
MOST_KEPT = 200  # the oldest go
MACHINE: Final = "machine"  # the key in RunRecord.environment

History = Mapping[str, Sequence[float]]  # what was calibrated -> seconds, one a run


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineState:
    """What is written into a run's environment. valid: None where nothing was to be held against, for the reason.

    ratio: this run's calibration in units of the history's median. num_runs: in that history, num_shipped of them
    published ones.
    """

    valid: bool | None
    ratio: float | None
    limit_ratio: float | None
    num_runs: int
    num_shipped: int
    reason: str | None

    def content(self) -> MachineEntry:
        return {
            "valid": self.valid, "ratio": self.ratio, "limit_ratio": self.limit_ratio, "num_runs": self.num_runs,
            "num_shipped": self.num_shipped, "reason": self.reason,
        }  # fmt: skip


def calibration_key(record: RunRecord) -> str:
    """What must be equal before two calibrations may be compared, beside the host class."""
    model, env = part_of(record.config, "model"), record.environment
    arch = part_of(model, "arch") if "arch" in model else TYPICAL_ARCH
    device = str(env.get("device")).partition(":")[0]
    power = f", {env['power_mode']}" if env.get("power_mode") else ""
    return f"{WORK} {arch['dim']}x{arch['ff_mult']}, {env.get('threads')} threads, {device}{power}"


def calibration_s(record: RunRecord) -> float | None:
    """The run's median, None where it made too few."""
    times_s = [one.wall_s for one in record.calibrations if one.work == WORK and not one.is_warmup]
    return statistics.median(times_s) if len(times_s) >= FEWEST_READINGS else None


def judge_machine(record: RunRecord, limit_ratio: float | None, kept: History, shipped: History) -> MachineState:
    """limit_ratio: None asks nothing."""
    key, now_s = calibration_key(record), calibration_s(record)
    known_s = [*kept.get(key, ()), *shipped.get(key, ())]
    unknown = MachineState(
        valid=None, ratio=None, limit_ratio=limit_ratio, num_runs=len(known_s), num_shipped=len(shipped.get(key, ())),
        reason=None,
    )  # fmt: skip
    if limit_ratio is None:
        return _because(unknown, "measure.machine_ratio=null: nothing was asked of the machine")
    if now_s is None:
        return _because(unknown, f"fewer than {FEWEST_READINGS} calibrations were made")
    if len(known_s) < FEWEST_RUNS:
        num = len(known_s) or "no"
        return _because(
            unknown, f"{num} earlier runs of this host class, model size and thread count are known, it takes "
            f"{FEWEST_RUNS}; this one is kept as one of them",
        )  # fmt: skip
    ratio = now_s / statistics.median(known_s)
    valid = ratio <= limit_ratio
    reason = None
    if not valid:
        own = len(known_s) - unknown.num_shipped
        counts = ((own, "earlier ones of this machine"), (unknown.num_shipped, "published with f5bench"))
        whose = " and ".join(f"{num} {which}" for num, which in counts if num)
        reason = (
            f"its calibrations took {ratio:.1f} times as long as in {len(known_s)} runs of its host class ({whose}), "
            f"more than measure.machine_ratio={limit_ratio:g}: another program, heat or a throttled machine is in "
            "every time; where this machine is that slow by nature, measure.machine_ratio=null"
        )
    return MachineState(
        valid=valid, ratio=ratio, limit_ratio=limit_ratio, num_runs=len(known_s), num_shipped=unknown.num_shipped,
        reason=reason,
    )  # fmt: skip


def _because(state: MachineState, reason: str) -> MachineState:
    return replace(state, reason=reason)


def machine_fault(environment: Mapping[str, object]) -> str | None:
    """Why the machine voids a run, from its record; None where it does not, and in records of old."""
    state = environment.get(MACHINE)
    return str(state["reason"]) if isinstance(state, Mapping) and state.get("valid") is False else None


def load_history(folder: Path, host_class: str) -> dict[str, list[float]]:
    """Empty where there is none. Raises RecordError for a file that is no history."""
    path = path_of(folder, host_class)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        runs = content["runs"] if content["schema_version"] == SCHEMA_VERSION else {}
        found = {str(key): [float(value) for value in values] for key, values in runs.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path}: no history of calibrations ({error}); delete it, and it is begun anew") from error
    if any(not 0 < value < float("inf") for values in found.values() for value in values):
        raise RecordError(f"{path}: holds what is no time; delete it, and it is begun anew")
    return found


def with_run(kept: History, record: RunRecord) -> dict[str, list[float]]:
    """The history with one more run at its end; a run that made no calibration adds nothing."""
    found = {key: list(values) for key, values in kept.items()}
    now_s = calibration_s(record)
    if now_s is not None:
        key = calibration_key(record)
        found[key] = [*found.get(key, []), now_s][-MOST_KEPT:]
    return found


def save_history(folder: Path, host_class: str, runs: History) -> None:
    kept = {key: list(values) for key, values in runs.items()}
    content = {"schema_version": SCHEMA_VERSION, "host_class": host_class, "runs": kept}
    write_atomically(path_of(folder, host_class), to_json(content) + "\n")


def path_of(folder: Path, host_class: str) -> Path:
    return folder / f"{host_class}.json"
