"""Latency of a new run against a stored baseline: costs in calibrations, a round is one observation.

A round's cost is ln(sum of its calls / that round's calibration); a session's is the mean over its rounds. Noise has
two parts: the spread of rounds inside a session, which is seen, and the drift from session to session, assumed for a
baseline of one or two sessions and estimated from three on (prediction interval). Dividing by a calibration of the same
kind of work removes the machine's own drift: 30 % between windows of the same code became 2 to 5 % for wall time and
0.7 % for CPU time on a loaded two-core machine.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from baselines.verdict import Finding, Limits, Outcome
from metrics.record import RunRecord, Trial

SESSIONS_TO_ESTIMATE = 3
ROUNDS_FOR_SPREAD = 2
MAD_TO_SD = 1.4826
MAX_LOG_RATIO = 700.0
HOPELESS_RATIO = 3.0  # beyond it, how blind a gate is need not be said to three digits


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """One of a trial's two clocks, with its calibration and its two lines."""

    metric: str
    title: str
    seconds: Callable[[Trial], float]
    calibration: Callable[[Trial], float | None]
    session_noise_frac: float
    ignore_ratio: float
    catch_ratio: float
    needs_calibration: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """ln cost of one run. se: of the mean over rounds, None where fewer than two rounds are complete."""

    log_cost: float
    se: float | None
    num_rounds: int
    calibration_s: float | None
    cost_by_utterance: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """ln(new / baseline) with its standard error and degrees of freedom. noise: where the error comes from."""

    log_ratio: float
    se: float
    df: float
    noise: str

    def bound(self, probability: float) -> float:
        """The `probability` quantile of the true log ratio."""
        return self.log_ratio + float(stdtrit(self.df, probability)) * self.se


def gated_clocks(device: str, limits: Limits) -> list[Clock]:
    """CPU time finely and wall time coarsely on a CPU, which may be shared; elsewhere wall time finely."""
    on_cpu = device.startswith("cpu")
    wall = Clock(
        metric="wall_time",
        title="wall time",
        seconds=lambda t: t.wall_s,
        calibration=lambda t: t.calibration_s,
        session_noise_frac=limits.wall_session_noise_frac,
        ignore_ratio=limits.coarse_ignore_ratio if on_cpu else limits.ignore_ratio,
        catch_ratio=limits.coarse_catch_ratio if on_cpu else limits.catch_ratio,
        needs_calibration=on_cpu,
    )
    if not on_cpu:
        return [wall]
    cpu = Clock(
        metric="cpu_time",
        title="CPU time",
        seconds=lambda t: t.cpu_s,
        calibration=lambda t: t.calibration_cpu_s,
        session_noise_frac=limits.cpu_session_noise_frac,
        ignore_ratio=limits.ignore_ratio,
        catch_ratio=limits.catch_ratio,
        needs_calibration=True,
    )
    return [cpu, wall]


def judge_clock(
    baselines: Sequence[RunRecord], new: RunRecord, clock: Clock, limits: Limits, false_alarm_frac: float
) -> Finding:
    """FAIL when the lower bound is above ignore_ratio, PASS when the upper is below catch_ratio, WARN when both."""
    runs = [*baselines, new]
    calibrated = all(clock.calibration(t) is not None for run in runs for t in run.steady_trials)
    if not calibrated and clock.needs_calibration:
        return _cannot_tell(
            clock, "no calibration, so it follows the machine's drift; record and run with measure.calibration=gemm"
        )
    common = set.intersection(*({t.utterance_id for t in run.steady_trials} for run in runs))
    sessions = [read_session(run, clock, common, calibrated) for run in runs]
    if not common or any(s is None for s in sessions):
        return _cannot_tell(clock, "no complete round of the same sentences on both sides; run it again")
    stored, fresh = [s for s in sessions[:-1] if s], sessions[-1]
    assert fresh is not None
    estimate = estimate_ratio(stored, fresh, SessionNoise(clock.session_noise_frac, limits))
    if estimate is None:
        rounds = min(s.num_rounds for s in [*stored, fresh])
        return _cannot_tell(clock, f"{rounds} round shows no spread; use measure.rounds=5 (measure.slow_rounds=5)")
    return _decide(clock, stored, fresh, estimate, _Levels(false_alarm_frac, limits.pass_confidence))


def read_session(run: RunRecord, clock: Clock, common: set[str], calibrated: bool) -> Session | None:
    """Cost of one run over the `common` utterances; None without a complete round."""
    rounds: dict[int, list[Trial]] = {}
    for trial in run.steady_trials:
        if trial.utterance_id in common:
            rounds.setdefault(trial.repeat, []).append(trial)
    complete = [r for r in rounds.values() if sorted(t.utterance_id for t in r) == sorted(common)]
    if not complete or not common:
        return None
    calibrations = [_calibration(r, clock) if calibrated else 1.0 for r in complete]
    costs: list[float] = []
    by_utterance: dict[str, list[float]] = {name: [] for name in common}
    for trials, calibration in zip(complete, calibrations, strict=True):
        costs.append(math.log(math.fsum(map(clock.seconds, trials)) / calibration))
        for trial in trials:
            by_utterance[trial.utterance_id].append(clock.seconds(trial) / calibration)
    return Session(
        log_cost=statistics.fmean(costs),
        se=statistics.stdev(costs) / math.sqrt(len(costs)) if len(costs) >= ROUNDS_FOR_SPREAD else None,
        num_rounds=len(costs),
        calibration_s=statistics.fmean(calibrations) if calibrated else None,
        cost_by_utterance={name: statistics.median(values) for name, values in sorted(by_utterance.items())},
    )


def _calibration(trials: Sequence[Trial], clock: Clock) -> float:
    return statistics.fmean(c for c in map(clock.calibration, trials) if c is not None)


class SessionNoise:
    """What is assumed of sessions where too few were recorded to know it. Relative SDs of one session."""

    def __init__(self, assumed_frac: float, limits: Limits):
        self.assumed_frac = assumed_frac
        self.floor_frac = limits.session_noise_floor_frac
        self.residual_frac = limits.drift_residual_frac

    def left_by_drift(self, stored: Sequence[Session], new: Session) -> float:
        """Dividing by the calibration takes most of the machine's drift between then and now away, not all."""
        then = [math.log(s.calibration_s) for s in stored if s.calibration_s is not None]
        if new.calibration_s is None or not then:
            return 0.0
        return self.residual_frac * abs(math.log(new.calibration_s) - statistics.fmean(then))


def estimate_ratio(stored: Sequence[Session], new: Session, noise: SessionNoise) -> Estimate | None:
    """ln(new / baseline) with its error; None where no spread can be known."""
    if len(stored) >= SESSIONS_TO_ESTIMATE:
        return _from_sessions(stored, new, noise)
    return _from_rounds(stored, new, noise)


def _from_sessions(stored: Sequence[Session], new: Session, noise: SessionNoise) -> Estimate | None:
    """Prediction interval t(K-1) with s = max(SD, 1.48 MAD, floor); a new session worse than that enters as it is."""
    if new.se is None and new.num_rounds < min(s.num_rounds for s in stored):
        return None
    costs = [s.log_cost for s in stored]
    median = statistics.median(costs)
    mad = MAD_TO_SD * statistics.median(abs(c - median) for c in costs)
    spread = max(statistics.stdev(costs), mad, noise.floor_frac)
    newest = max(spread, new.se or 0.0, noise.left_by_drift(stored, new))
    return Estimate(
        log_ratio=new.log_cost - statistics.fmean(costs),
        se=math.hypot(spread / math.sqrt(len(costs)), newest),
        df=len(costs) - 1,
        noise=f"session noise {100 * spread:.2f} % from {len(costs)} sessions",
    )


def _from_rounds(stored: Sequence[Session], new: Session, noise: SessionNoise) -> Estimate | None:
    """Assumed session noise (known) and the rounds' spread in quadrature; degrees of freedom Welch-Satterthwaite."""
    count = len(stored)
    within = [(s.se / count, s.num_rounds) for s in stored if s.se is not None]
    if len(within) < count or new.se is None:
        return None
    within.append((new.se, new.num_rounds))
    costs = [s.log_cost for s in stored]
    assumed = math.hypot(noise.assumed_frac, noise.left_by_drift(stored, new))
    session = max(assumed, statistics.stdev(costs) if count > 1 else 0.0)
    rounds = math.fsum(se**2 for se, _ in within)
    variance = session**2 * (1 + 1 / count) + rounds
    df_part = math.fsum(se**4 / (num_rounds - 1) for se, num_rounds in within)
    return Estimate(
        log_ratio=new.log_cost - statistics.fmean(costs),
        se=math.sqrt(variance),
        df=variance**2 / df_part if df_part > 0 else math.inf,
        noise=(
            f"session noise {100 * session:.1f} % assumed (sessions in the baseline: {count}, from "
            f"{SESSIONS_TO_ESTIMATE} on it is measured) beside {100 * math.sqrt(rounds):.1f} % from the rounds"
        ),
    )


@dataclass(frozen=True, slots=True)
class _Levels:
    false_alarm_frac: float
    pass_confidence: float


def _decide(clock: Clock, stored: Sequence[Session], new: Session, estimate: Estimate, levels: _Levels) -> Finding:
    low = _ratio(estimate.bound(levels.false_alarm_frac))
    high = _ratio(estimate.bound(levels.pass_confidence))
    slower, small = low > clock.ignore_ratio, high < clock.catch_ratio
    outcome: Outcome = "WARN" if slower and small else "FAIL" if slower else "PASS" if small else "CANNOT_TELL"
    explanation = (
        f"{clock.title} {_words(outcome, clock, estimate, levels)}; {_sentences(stored, new)}; "
        f"{_machine(stored, new)}; {estimate.noise}; false alarm rate at most {100 * levels.false_alarm_frac:.2g} %"
    )
    return Finding(
        metric=clock.metric,
        outcome=outcome,
        explanation=explanation,
        baseline=math.exp(statistics.fmean(s.log_cost for s in stored)),
        new=math.exp(new.log_cost),
        effect=_ratio(estimate.log_ratio),
        effect_kind="ratio",
        interval=(low, high),
        limit=clock.catch_ratio,
    )


def _ratio(log_ratio: float) -> float:
    """exp, bounded: with two wild rounds an upper bound can lie beyond what a float holds."""
    return math.exp(min(log_ratio, MAX_LOG_RATIO))


def _words(outcome: Outcome, clock: Clock, estimate: Estimate, levels: _Levels) -> str:
    if outcome == "PASS":
        return f"not slower by x{clock.catch_ratio:g} or more"
    if outcome == "WARN":
        return f"slower, but by less than x{clock.catch_ratio:g}: real but small"
    if outcome == "FAIL":
        at_least = _ratio(estimate.bound(levels.false_alarm_frac))
        return f"slower: x{_ratio(estimate.log_ratio):.3f}, at least x{at_least:.3f}"
    reach = float(stdtrit(estimate.df, 1 - levels.false_alarm_frac)) + float(stdtrit(estimate.df, 0.95))
    detectable = clock.ignore_ratio * _ratio(reach * estimate.se)
    found = f"from x{detectable:.3f} on" if detectable < HOPELESS_RATIO else f"beyond x{HOPELESS_RATIO:g}"
    return (
        f"too noisy for x{clock.catch_ratio:g}: a slowdown is found 95 % surely only {found} "
        "(quieter machine, more measure.rounds or more sessions in the baseline)"
    )


def _sentences(stored: Sequence[Session], new: Session) -> str:
    """The same sentence on both sides, medians over the rounds: tells one slow case from a slow machine."""
    ratios = {
        name: cost / statistics.fmean(s.cost_by_utterance[name] for s in stored)
        for name, cost in new.cost_by_utterance.items()
    }
    peak = max(ratios, key=lambda name: ratios[name])
    slower = sum(ratio > 1 for ratio in ratios.values())
    return f"slower in {slower} of {len(ratios)} sentences, at most x{ratios[peak]:.3f} in {peak}"


def _machine(stored: Sequence[Session], new: Session) -> str:
    then = [s.calibration_s for s in stored if s.calibration_s is not None]
    if new.calibration_s is None or not then:
        return "not calibrated"
    return f"the calibration itself took x{new.calibration_s / statistics.fmean(then):.2f}"


def _cannot_tell(clock: Clock, reason: str) -> Finding:
    return Finding(
        metric=clock.metric, outcome="CANNOT_TELL", explanation=f"{clock.title}: {reason}", limit=clock.catch_ratio
    )
