"""Is the machine in the state it was in? Asked of its calibrations before anything is asked of the engine.

A machine that is throttled, or shared with another program that fills its caches and memory, runs the very same
calibration more slowly. Dividing by it takes most of that away, not all, so beyond a point there is nothing to judge.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import scipy

from baselines.class_history import machine_fault
from baselines.refused import MachineRefused
from baselines.stored.latency import SESSIONS_TO_ESTIMATE, GatedClock, Known, gated_clocks, work_for
from baselines.stored.sessions import common_sentences, read_session
from baselines.stored.verdict import Finding, Limits
from metrics.record import RunRecord

THREE_SIGMA = 0.99865  # the probability below three standard deviations
# What decides how fast a board is and is not its name: where it cannot be read, two runs may be of two speeds
SPEED_OF_A_BOARD = {"mode": "the power mode of this board", "clocks": "whether this board's clocks are locked"}
LEAST_SPREAD = 0.02  # of the log of a calibration, from session to session


def machine_findings(baselines: Sequence[RunRecord], new: RunRecord, limits: Limits, known: Known) -> list[Finding]:
    """INVALID_ENV for a machine that was busy with other things, or runs the calibration at another speed."""
    fine = next(clock for clock in gated_clocks(str(new.environment.get("device")), limits) if clock.is_fine)
    moved = _calibration_finding(baselines, new, fine, limits, known)
    return [*state_findings(new, limits), *([] if moved is None else [moved])]


def refuse_out_of_order(runs: Sequence[RunRecord], limits: Limits) -> None:
    """Before they become sessions of a baseline: a gate would refuse them. Raises MachineRefused.

    Their calibrations are not held against the sessions that are there: how far those lie apart is what a baseline of
    several sessions has to know, and leaving the far ones out would make it less than it is.
    """
    for run in runs:
        for found in state_findings(run, limits):
            raise MachineRefused(f"{run.run_id}: {found.metric}: {found.explanation}")


def busy_text(other_cpu_frac: float, limits: Limits) -> str | None:
    """What other processes use and may use; None where that is allowed."""
    if other_cpu_frac <= limits.other_cpu_frac:
        return None
    shares = f"{100 * other_cpu_frac:.0f} % of all cores", f"allowed are {100 * limits.other_cpu_frac:g} %"
    return f"{', '.join(shares)} (gate.other_cpu_frac={limits.other_cpu_frac:g})"


def state_findings(new: RunRecord, limits: Limits) -> list[Finding]:
    """INVALID_ENV for what one run says of its machine by itself."""
    findings = []
    busy = new.environment.get("other_cpu_frac")
    text = busy_text(busy, limits) if isinstance(busy, (int, float)) else None
    if text is not None:
        explanation = f"other processes used {text} when the run began; run again when they have ended"
        findings.append(
            Finding(
                metric="machine.other_cpu_frac",
                outcome="INVALID_ENV",
                explanation=explanation,
                new=busy,
                limit=limits.other_cpu_frac,
            )
        )
    fault = machine_fault(new.environment)
    if fault is not None:
        explanation = f"{fault}; run again when the machine is in order"
        findings.append(Finding(metric="machine.host_class", outcome="INVALID_ENV", explanation=explanation))
    return [*findings, *_board_findings(new)]


def _board_findings(new: RunRecord) -> list[Finding]:
    """Of a Jetson; nothing elsewhere."""
    board = new.environment.get("jetson")
    unknown = board.get("unknown") if isinstance(board, Mapping) else None
    if not isinstance(unknown, Mapping):
        return []
    return [
        Finding(
            metric=f"machine.{key}",
            outcome="INVALID_ENV",
            explanation=f"{said} is not known: {unknown[key]}; f5bench doctor says what to do",
        )
        for key, said in SPEED_OF_A_BOARD.items()
        if key in unknown
    ]


def _calibration_finding(
    baselines: Sequence[RunRecord], new: RunRecord, gated: GatedClock, limits: Limits, known: Known
) -> Finding | None:
    runs = [*baselines, new]
    work = work_for(runs, gated.clock, known)
    common = common_sentences(runs)
    sessions = [read_session(run, gated.clock, common, work) for run in runs]
    logs = [math.log(s.calibration_s) for s in sessions if s is not None and s.calibration_s is not None]
    if len(logs) < len(runs):
        return None
    then, now = logs[:-1], logs[-1]
    allowed = _allowed(then, limits)
    change = now - statistics.fmean(then)
    if abs(change) <= allowed:
        return None
    return Finding(
        metric="machine.calibration",
        outcome="INVALID_ENV",
        explanation=(
            f"the {work} calibration took x{math.exp(change):.2f} of its time in the baseline, beyond "
            f"x{math.exp(-allowed):.2f} to x{math.exp(allowed):.2f} of its own history ({len(then)} session(s)): the "
            "machine is not in the state it was in (heat, clocks, neighbours); run again, or record the baseline again"
        ),
        baseline=math.exp(statistics.fmean(then)),
        new=math.exp(now),
        effect=math.exp(change),
        effect_kind="ratio",
        limit=math.exp(allowed),
    )


def _allowed(then: Sequence[float], limits: Limits) -> float:
    """Three standard deviations of the history by their Student quantile, at most machine_ratio, alone under three."""
    most = math.log(limits.machine_ratio)
    if len(then) < SESSIONS_TO_ESTIMATE:
        return most
    spread = max(statistics.stdev(then), LEAST_SPREAD)
    return min(most, float(scipy.special.stdtrit(len(then) - 1, THREE_SIGMA)) * spread * math.sqrt(1 + 1 / len(then)))
