"""Latency of a new run against a stored baseline: a prediction interval for one more session of the same code.

The new session is held against the sessions of the baseline (baselines.stored.sessions). How far two sessions of the
same code lie apart is measured from three stored sessions on. Under three it is the figure of the host class, from its
other baselines, and where there is none the stated limit: a baseline of one session knows nothing of its own noise, so
it finds only what exceeds that, and says so.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import scipy

from baselines.stored.power import Power, bounded_exp, power_words
from baselines.stored.sessions import (
    CPU,
    WALL,
    Clock,
    HostNoise,
    Session,
    best_work,
    common_sentences,
    read_session,
    works_of,
)
from baselines.stored.verdict import Finding, Limits
from metrics.record import RunRecord
from metrics.verdict import Outcome

SESSIONS_TO_ESTIMATE = 3
MAD_TO_SD = 1.4826


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What the baseline knows beside its sessions, by metric: the calibration that fits, the host class's noise."""

    works: Mapping[str, str] = field(default_factory=dict)
    noise: Mapping[str, HostNoise] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class GatedClock:
    """A clock with its two lines, the assumed session noise and the largest share of false alarms that it may cause."""

    clock: Clock
    is_fine: bool
    ignore_ratio: float
    catch_ratio: float
    assumed_noise_frac: float
    needs_calibration: bool

    @property
    def metric(self) -> str:
        return self.clock.metric


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """ln(new / baseline) with its standard error and degrees of freedom. noise: where the error comes from.

    spread: SD of one session; the rest of the error is due to the rounds and to the number of sessions.
    """

    log_ratio: float
    se: float
    df: float
    spread: float
    noise: str

    def bound(self, probability: float) -> float:
        """The `probability` quantile of the true log ratio."""
        return self.log_ratio + float(scipy.special.stdtrit(self.df, probability)) * self.se


def gated_clocks(device: str, limits: Limits) -> list[GatedClock]:
    """CPU time finely and wall time coarsely on a CPU, which may be shared; elsewhere wall time finely."""
    on_cpu = device.startswith("cpu")
    fine = GatedClock(
        clock=CPU if on_cpu else WALL,
        is_fine=True,
        ignore_ratio=limits.ignore_ratio,
        catch_ratio=limits.catch_ratio,
        assumed_noise_frac=limits.session_noise_frac,
        needs_calibration=on_cpu,
    )
    coarse = GatedClock(
        clock=WALL,
        is_fine=False,
        ignore_ratio=limits.coarse_ignore_ratio,
        catch_ratio=limits.coarse_catch_ratio,
        assumed_noise_frac=limits.coarse_session_noise_frac,
        needs_calibration=on_cpu,
    )
    return [fine, coarse] if on_cpu else [fine]


def work_for(runs: Sequence[RunRecord], clock: Clock, known: Known) -> str | None:
    """The calibration to divide by: the recorded choice where all runs have it, else the GEMM, else any, else None."""
    works = works_of(runs)
    chosen = known.works.get(clock.metric)
    return chosen if chosen in works else best_work(works, {})


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What a clock is asked: these sessions, this run, these limits."""

    baselines: Sequence[RunRecord]
    new: RunRecord
    limits: Limits
    known: Known
    false_alarm_frac: float


def judge_clock(gated: GatedClock, question: Question) -> Finding:
    """FAIL when the lower bound is above ignore_ratio, PASS when the upper is below catch_ratio, WARN when both."""
    runs = [*question.baselines, question.new]
    work = work_for(runs, gated.clock, question.known)
    if work is None and gated.needs_calibration:
        return _cannot_tell(
            gated, "no calibration, so it follows the machine's drift; record and run with measure.calibration=all"
        )
    common = common_sentences(runs)
    sessions = [read_session(run, gated.clock, common, work) for run in runs]
    if not common or any(s is None for s in sessions):
        return _cannot_tell(gated, "no complete round of the same sentences on both sides; run it again")
    stored, fresh = [s for s in sessions[:-1] if s], sessions[-1]
    assert fresh is not None
    estimate = estimate_ratio(stored, fresh, gated, question)
    if estimate is None:
        rounds = min(s.num_rounds for s in [*stored, fresh])
        return _cannot_tell(gated, f"{rounds} round shows no spread; use measure.rounds=5 (measure.slow_rounds=5)")
    return _decide(gated, _Compared(stored, fresh, work), estimate, question)


def estimate_ratio(stored: Sequence[Session], new: Session, gated: GatedClock, question: Question) -> Estimate | None:
    """ln(new / baseline) with its error; None where no spread can be known."""
    drift = _left_by_drift(stored, new, question.limits)
    floor = question.limits.session_noise_floor_frac
    costs, count = [s.log_cost for s in stored], len(stored)
    host = question.known.noise.get(gated.metric)
    if count >= SESSIONS_TO_ESTIMATE:
        median = statistics.median(costs)
        mad = MAD_TO_SD * statistics.median(abs(c - median) for c in costs)
        spread, df = max(statistics.stdev(costs), mad, floor), count - 1
        noise = f"session noise {100 * spread:.2f} % from {count} sessions"
    elif host is not None:
        spread, df = max(host.sd_frac, floor), host.df
        noise = f"session noise {100 * spread:.2f} % of this host class, from {host.num_baselines} of its baselines"
    else:
        return _by_assumption(stored, new, gated, drift)
    if new.se is None and new.num_rounds < min(s.num_rounds for s in stored):
        return None
    newest = max(spread, new.se or 0.0, drift)
    return Estimate(
        log_ratio=new.log_cost - statistics.fmean(costs),
        se=math.hypot(spread / math.sqrt(count), newest),
        df=df,
        spread=spread,
        noise=noise,
    )


def _left_by_drift(stored: Sequence[Session], new: Session, limits: Limits) -> float:
    """Dividing by the calibration takes most of the machine's drift between then and now away, not all."""
    then = [math.log(s.calibration_s) for s in stored if s.calibration_s is not None]
    if new.calibration_s is None or not then:
        return 0.0
    return limits.drift_residual_frac * abs(math.log(new.calibration_s) - statistics.fmean(then))


def _by_assumption(stored: Sequence[Session], new: Session, gated: GatedClock, drift: float) -> Estimate | None:
    """The stated session noise (known) and the rounds' spread in quadrature; degrees of freedom Welch-Satterthwaite."""
    count = len(stored)
    within = [(s.se / count, s.num_rounds) for s in stored if s.se is not None]
    if len(within) < count or new.se is None:
        return None
    within.append((new.se, new.num_rounds))
    costs = [s.log_cost for s in stored]
    session = max(math.hypot(gated.assumed_noise_frac, drift), statistics.stdev(costs) if count > 1 else 0.0)
    rounds = math.fsum(se**2 for se, _ in within)
    variance = session**2 * (1 + 1 / count) + rounds
    df_part = math.fsum(se**4 / (num_rounds - 1) for se, num_rounds in within)
    return Estimate(
        log_ratio=new.log_cost - statistics.fmean(costs),
        se=math.sqrt(variance),
        df=variance**2 / df_part if df_part > 0 else math.inf,
        spread=session,
        noise=(
            f"session noise {100 * session:.1f} % assumed (sessions in the baseline: {count}, from "
            f"{SESSIONS_TO_ESTIMATE} on it is measured) beside {100 * math.sqrt(rounds):.1f} % from the rounds"
        ),
    )


@dataclass(frozen=True, slots=True)
class _Compared:
    stored: Sequence[Session]
    new: Session
    work: str | None


def _decide(gated: GatedClock, compared: _Compared, estimate: Estimate, question: Question) -> Finding:
    alarm = question.false_alarm_frac
    low, high = bounded_exp(estimate.bound(alarm)), bounded_exp(estimate.bound(question.limits.pass_confidence))
    slower, small = low > gated.ignore_ratio, high < gated.catch_ratio
    outcome: Outcome = "WARN" if slower and small else "FAIL" if slower else "PASS" if small else "INCONCLUSIVE"
    power = Power(ignore_ratio=gated.ignore_ratio, catch_ratio=gated.catch_ratio, false_alarm_frac=alarm)
    detectable = power.detectable_ratio(estimate.se, estimate.df)
    said = {
        "PASS": f"not slower by x{gated.catch_ratio:g} or more",
        "WARN": f"slower, but by less than x{gated.catch_ratio:g}: real but small",
        "FAIL": f"slower: x{bounded_exp(estimate.log_ratio):.3f}, at least x{low:.3f}",
        "INCONCLUSIVE": f"too noisy for x{gated.catch_ratio:g}",
    }
    can_find = power_words(power, detectable, estimate.spread, len(compared.stored))
    explanation = (
        f"{gated.clock.title} {said[outcome]}; {can_find}; "
        f"{_sentences(compared)}; {_machine(compared)}; {estimate.noise}; "
        f"false alarm rate at most {100 * alarm:.2g} %"
    )
    return Finding(
        metric=gated.metric,
        outcome=outcome,
        explanation=explanation,
        baseline=math.exp(statistics.fmean(s.log_cost for s in compared.stored)),
        new=math.exp(compared.new.log_cost),
        effect=bounded_exp(estimate.log_ratio),
        effect_kind="ratio",
        interval=(low, high),
        limit=gated.catch_ratio,
        detectable=detectable,
    )


def _sentences(compared: _Compared) -> str:
    """The same sentence on both sides, medians over the rounds: tells one slow case from a slow machine."""
    ratios = {
        name: cost / statistics.fmean(s.cost_by_utterance[name] for s in compared.stored)
        for name, cost in compared.new.cost_by_utterance.items()
    }
    peak = max(ratios, key=lambda name: ratios[name])
    slower = sum(ratio > 1 for ratio in ratios.values())
    return f"slower in {slower} of {len(ratios)} sentences, at most x{ratios[peak]:.3f} in {peak}"


def _machine(compared: _Compared) -> str:
    then = [s.calibration_s for s in compared.stored if s.calibration_s is not None]
    if compared.new.calibration_s is None or not then:
        return "not calibrated"
    return f"the {compared.work} calibration itself took x{compared.new.calibration_s / statistics.fmean(then):.2f}"


def _cannot_tell(gated: GatedClock, reason: str) -> Finding:
    return Finding(
        metric=gated.metric,
        outcome="INCONCLUSIVE",
        explanation=f"{gated.clock.title}: {reason}",
        limit=gated.catch_ratio,
    )
