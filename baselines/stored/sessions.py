"""Sessions as numbers: what one run cost by a clock, in units of a calibration that was made in the same rounds.

A round's cost is ln(sum of its calls / mean of that round's calibrations); a session's is the mean over its rounds.
Dividing by a calibration of the same kind of work removes the machine's own drift: 30 % between windows of the same
code became 2 to 5 % for wall time and 0.7 % for CPU time on a loaded two-core machine. Which kind of work fits an
engine is found when its baseline is recorded: the one that leaves the smallest spread.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from metrics.record import CalibrationReading, RunRecord, Trial

DEFAULT_WORK = "gemm"
ROUNDS_FOR_SPREAD = 2
SESSIONS_TO_CHOOSE = 3
CLEARLY = 0.5
LEAST_DF = 4  # fewer degrees of freedom than this say nothing about a host class


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """One of a trial's two clocks, and where the same clock stands in a calibration."""

    metric: str
    title: str
    seconds: Callable[[Trial], float]
    calibration_s: Callable[[CalibrationReading], float]


CPU = Clock(metric="cpu_time", title="CPU time", seconds=lambda t: t.cpu_s, calibration_s=lambda c: c.cpu_s)
WALL = Clock(metric="wall_time", title="wall time", seconds=lambda t: t.wall_s, calibration_s=lambda c: c.wall_s)
CLOCKS = (CPU, WALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """ln cost of one run. se: of the mean over rounds, None where fewer than two rounds are complete."""

    log_cost: float
    se: float | None
    round_costs: tuple[float, ...]
    calibration_s: float | None
    cost_by_utterance: Mapping[str, float]

    @property
    def num_rounds(self) -> int:
        return len(self.round_costs)


@dataclass(frozen=True, kw_only=True, slots=True)
class HostNoise:
    """SD between sessions of the same code, relative, from `num_baselines` baselines of one host class."""

    sd_frac: float
    df: int
    num_baselines: int


def common_sentences(runs: Sequence[RunRecord]) -> set[str]:
    """Utterances that every run has timed."""
    return set.intersection(*({t.utterance_id for t in run.steady_trials} for run in runs))


def works_of(runs: Sequence[RunRecord]) -> list[str]:
    """The calibrations that every run made in its steady rounds, by name of their work."""
    made = [{reading.work for reading in run.calibrations if not reading.is_warmup} for run in runs]
    return sorted(set.intersection(*made)) if made else []


def read_session(run: RunRecord, clock: Clock, common: set[str], work: str | None) -> Session | None:
    """Cost of one run over the `common` utterances in calibrations of that work (None: in seconds).

    A round is complete when it spoke them all and was calibrated; None without one.
    """
    rounds: dict[int, list[Trial]] = {}
    for trial in run.steady_trials:
        if trial.utterance_id in common:
            rounds.setdefault(trial.repeat, []).append(trial)
    made = _calibrations(run, clock, work)
    complete = {
        number: trials
        for number, trials in rounds.items()
        if sorted(t.utterance_id for t in trials) == sorted(common) and (work is None or number in made)
    }
    if not complete or not common:
        return None
    costs: list[float] = []
    by_utterance: dict[str, list[float]] = {name: [] for name in common}
    for number, trials in complete.items():
        unit_s = made[number] if work is not None else 1.0
        costs.append(math.log(math.fsum(map(clock.seconds, trials)) / unit_s))
        for trial in trials:
            by_utterance[trial.utterance_id].append(clock.seconds(trial) / unit_s)
    return Session(
        log_cost=statistics.fmean(costs),
        se=statistics.stdev(costs) / math.sqrt(len(costs)) if len(costs) >= ROUNDS_FOR_SPREAD else None,
        round_costs=tuple(costs),
        calibration_s=statistics.fmean(made[number] for number in complete) if work is not None else None,
        cost_by_utterance={name: statistics.median(values) for name, values in sorted(by_utterance.items())},
    )


def _calibrations(run: RunRecord, clock: Clock, work: str | None) -> dict[int, float]:
    """Round -> mean seconds of its calibrations of that work."""
    rounds: dict[int, list[float]] = {}
    for reading in run.calibrations:
        if reading.work == work and not reading.is_warmup:
            rounds.setdefault(reading.repeat, []).append(clock.calibration_s(reading))
    return {number: statistics.fmean(seconds) for number, seconds in rounds.items()}


def residual_spreads(runs: Sequence[RunRecord], clock: Clock) -> dict[str, float]:
    """Work -> relative SD of the sessions' costs after division by it; empty under three sessions.

    The spread inside one session says nothing: a calibration of the wrong kind may follow the engine from round to
    round and leave it from day to day. Chosen by that, simulated unchanged code failed in 8 % of gates.
    """
    if len(runs) < SESSIONS_TO_CHOOSE:
        return {}
    common = common_sentences(runs)
    spreads = {}
    for work in works_of(runs):
        costs = [s.log_cost for run in runs if (s := read_session(run, clock, common, work)) is not None]
        if len(costs) >= SESSIONS_TO_CHOOSE:
            spreads[work] = statistics.stdev(costs)
    return spreads


def best_work(works: Sequence[str], spreads: Mapping[str, float]) -> str | None:
    """The GEMM, unless another calibration leaves clearly less spread; None where nothing was calibrated.

    Clearly: the smallest of three spreads of few sessions is small by luck, too, and no baseline may be built on that.
    """
    default = DEFAULT_WORK if DEFAULT_WORK in works else next(iter(works), None)
    if default is None or default not in spreads:
        return default
    best = min(spreads, key=lambda work: spreads[work])
    return best if spreads[best] < CLEARLY * spreads[default] else default


def host_noise(groups: Sequence[tuple[Sequence[RunRecord], str | None]], clock: Clock) -> HostNoise | None:
    """Pooled over baselines of one host class, each as (sessions, work of its calibration); None where too few."""
    squares, df, used = 0.0, 0, 0
    for runs, work in groups:
        common = common_sentences(runs)
        costs = [s.log_cost for run in runs if (s := read_session(run, clock, common, work)) is not None]
        if len(costs) > 1:
            squares += (len(costs) - 1) * statistics.variance(costs)
            df, used = df + len(costs) - 1, used + 1
    return HostNoise(sd_frac=math.sqrt(squares / df), df=df, num_baselines=used) if df >= LEAST_DF else None
