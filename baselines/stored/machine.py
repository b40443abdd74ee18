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
    findings = []
    busy = new.environment.get("other_cpu_frac")
    if isinstance(busy, (int, float)) and busy > limits.other_cpu_frac:
        explanation = (
            f"other processes used {100 * busy:.0f} % of all cores when the run began, allowed are "
            f"{100 * limits.other_cpu_frac:g} %; run again when they have ended"
        )
        findings.append(
            Finding(
                metric="machine.other_cpu_frac",
                outcome="INVALID_ENV",
                explanation=explanation,
                new=float(busy),
                limit=limits.other_cpu_frac,
            )
        )
    fault = machine_fault(new.environment)
    if fault is not None:
        explanation = f"{fault}; run again when the machine is in order"
        findings.append(Finding(metric="machine.host_class", outcome="INVALID_ENV", explanation=explanation))
    findings += _board_findings(new)
    fine = next(clock for clock in gated_clocks(str(new.environment.get("device")), limits) if clock.is_fine)
    moved = _calibration_finding(baselines, new, fine, limits, known)
    return findings if moved is None else [*findings, moved]


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
