"""What a service did under load, from its requests alone: throughput, percentiles, queue depth, errors, leak, limits.

Neighbouring requests wait in the same queue, so their latencies are alike; intervals are made as for the number of
independent requests that the sample is worth (batch means: Law and Kelton, Simulation Modeling and Analysis, 9.5.3).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import scipy

from metrics.speed.trials import INTERVAL_CONFIDENCE, tail_of
from metrics.stats import clopper_pearson, min_trials, quantile, quantile_interval

ServedStatus = Literal["ok", "rejected", "failed"]
LimitOutcome = Literal["holds", "fails", "cannot tell"]
NUM_BATCHES = 10
FEWEST_FOR_BATCHES = 40
RESOLUTION_DIGITS = 6  # microseconds
MOST_REASONS = 5
TOO_MANY_ERRORS = "too many errors"


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """One request as its client saw it; all times in seconds on one clock.

    intended_s: when it should have been sent. sent_s: when it was; what lies between is the lag of the harness.
    started_s: when its batch began, None where it never did. audio_s: generated seconds. A rejected request met a full
    queue; a failed one has its reason.
    """

    utterance_id: str
    status: ServedStatus
    intended_s: float
    sent_s: float
    started_s: float | None
    ended_s: float
    audio_s: float = 0.0
    batch_size: int = 0
    reason: str | None = None

    @property
    def latency_s(self) -> float:
        """From the intended time: a late sender does not shorten it (no coordinated omission)."""
        return self.ended_s - self.intended_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Percentile:
    """Value and 95 % interval in seconds; None with a reason where the requests are too few."""

    value_s: float | None
    interval_s: tuple[float, float] | None
    reason: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueDepth:
    """Requests that wait. mean: over time. series: (seconds since the first request, depth) at every change."""

    mean: float
    most: int
    series: tuple[tuple[float, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadSummary:
    """One level of load. error_frac: rejected and failed, with its exact 95 % interval; error_reasons: how often each.

    refusal: why no figure of time is given (`without_figures_of_few`). num_independent: what the latencies are worth
    in independent ones. lag_most_s: the longest that the harness was behind its own plan. wait_p50_s, service_p50_s:
    median seconds in the queue and in the engine.
    """

    num_requests: int
    num_ok: int
    num_rejected: int
    num_failed: int
    duration_s: float
    requests_per_s: float | None
    generated_s_per_s: float | None
    latency_p50: Percentile
    latency_p95: Percentile
    latency_p99: Percentile
    num_independent: int
    wait_p50_s: float | None
    service_p50_s: float | None
    batch_mean: float | None
    queue: QueueDepth
    error_frac: float
    error_interval_frac: tuple[float, float]
    lag_most_s: float
    error_reasons: Mapping[str, int] = field(default_factory=dict)
    refusal: str | None = None


def summarise(served: Sequence[Served]) -> LoadSummary:
    """Raises ValueError where nothing was asked. Percentiles are of answered requests, in the order of asking."""
    if not served:
        raise ValueError("no request was made: there is nothing to summarise")
    ordered = sorted(served, key=lambda one: one.intended_s)
    answered = [one for one in ordered if one.status == "ok"]
    latencies_s = [one.latency_s for one in answered]
    duration_s = max(one.ended_s for one in ordered) - ordered[0].intended_s
    num_errors = len(ordered) - len(answered)
    begun = [(one, one.started_s) for one in answered if one.started_s is not None]
    return LoadSummary(
        num_requests=len(ordered),
        num_ok=len(answered),
        num_rejected=sum(one.status == "rejected" for one in ordered),
        num_failed=sum(one.status == "failed" for one in ordered),
        duration_s=duration_s,
        requests_per_s=_rate(len(answered), duration_s),
        generated_s_per_s=_rate(sum(one.audio_s for one in answered), duration_s),
        latency_p50=percentile(latencies_s, 0.5),
        latency_p95=percentile(latencies_s, 0.95),
        latency_p99=percentile(latencies_s, 0.99),
        num_independent=independent_count(latencies_s),
        wait_p50_s=quantile([start - one.sent_s for one, start in begun], 0.5) if begun else None,
        service_p50_s=quantile([one.ended_s - start for one, start in begun], 0.5) if begun else None,
        batch_mean=_mean_batch(answered),
        queue=queue_depth(ordered),
        error_frac=num_errors / len(ordered),
        error_interval_frac=clopper_pearson(num_errors, len(ordered), INTERVAL_CONFIDENCE),
        lag_most_s=max(one.sent_s - one.intended_s for one in ordered),
        error_reasons=dict(
            Counter(one.reason or one.status for one in ordered if one.status != "ok").most_common(MOST_REASONS)
        ),
    )


def without_figures_of_few(summary: LoadSummary, max_error_frac: float) -> LoadSummary:
    """The same with nothing but its counts, where a larger share than max_error_frac was not answered.

    What was answered is then a choice made by the fault, and its times say nothing about the service.
    """
    if summary.error_frac <= max_error_frac:
        return summary
    num = summary.num_requests - summary.num_ok
    share = f"{num} of {summary.num_requests} requests were not answered ({100 * summary.error_frac:.1f} %, "
    none = Percentile(value_s=None, interval_s=None, reason=TOO_MANY_ERRORS)
    return replace(
        summary, requests_per_s=None, generated_s_per_s=None, latency_p50=none, latency_p95=none, latency_p99=none,
        wait_p50_s=None, service_p50_s=None, batch_mean=None,
        refusal=f"{share}{summary.num_failed} failed, {summary.num_rejected} turned away), more than the "
        f"{100 * max_error_frac:g} % that max_error_frac={max_error_frac:g} allows; most often: "
        f"{next(iter(summary.error_reasons))}",
    )  # fmt: skip


def _rate(amount: float, duration_s: float) -> float:
    return amount / duration_s if duration_s > 0 else 0.0


def _mean_batch(answered: Sequence[Served]) -> float | None:
    """Requests per call of the engine; every member of a batch knows its size."""
    num_calls = sum(1 / one.batch_size for one in answered if one.batch_size)
    return sum(one.batch_size > 0 for one in answered) / num_calls if num_calls else None


def percentile(latencies_s: Sequence[float], q: float) -> Percentile:
    """The q-quantile (0.5, 0.95 or 0.99) of latencies in the order of asking, with an interval that knows how many
    independent ones they are worth; "too few" by the rule of metrics.speed."""
    if not latencies_s:
        return Percentile(value_s=None, interval_s=None, reason="no request was answered")
    num = independent_count(latencies_s)
    spread = np.quantile(np.asarray(latencies_s), (np.arange(num) + 0.5) / num).tolist()
    if num == len(latencies_s):
        spread = list(latencies_s)
    if q == 0.5:
        interval_s = quantile_interval(spread, q, INTERVAL_CONFIDENCE)
        return Percentile(value_s=quantile(latencies_s, q), interval_s=interval_s, reason=None)
    tail = tail_of(spread, q)
    if tail.reason is not None:
        reason = f"too few: p{q * 100:.0f} takes {min_trials(q)} independent requests, these {len(latencies_s)} are "
        return Percentile(value_s=None, interval_s=None, reason=f"{reason}worth {num}")
    return Percentile(value_s=quantile(latencies_s, q), interval_s=tail.interval_s, reason=None)


def independent_count(latencies_s: Sequence[float]) -> int:
    """How many independent latencies a sequence with neighbours alike is worth: by how much more the means of ten
    batches of their ranks spread than those of independent ones would.

    All of them under 40 latencies, or where the excess lies within chance (95 %); an excess beyond it is taken twice,
    because ten batches do not tell it any better.
    """
    from scipy import stats  # takes a second to import

    num = len(latencies_s)
    if num < FEWEST_FOR_BATCHES:
        return num
    size = num // NUM_BATCHES
    # Finer differences are rounding, and rounding has a pattern in time
    ranks = stats.rankdata(np.round(latencies_s, RESOLUTION_DIGITS))[: size * NUM_BATCHES]
    spread = float(ranks.var(ddof=1))
    if spread == 0:
        return num
    excess = float(ranks.reshape(NUM_BATCHES, size).mean(axis=1).var(ddof=1)) * size / spread
    by_chance = float(scipy.special.chdtri(NUM_BATCHES - 1, 0.05)) / (NUM_BATCHES - 1)
    return num if excess <= by_chance else max(1, int(num / (2 * excess)))


def queue_depth(served: Sequence[Served]) -> QueueDepth:
    """Waiting requests over time; a rejected request never waited. Raises ValueError on no request."""
    if not served:
        raise ValueError("no request was made: there is no queue")
    begin_s, end_s = min(one.intended_s for one in served), max(one.ended_s for one in served)
    steps: list[tuple[float, int]] = []
    for one in served:
        if one.status != "rejected":
            steps += [(one.sent_s, 1), (one.ended_s if one.started_s is None else one.started_s, -1)]
    series: list[tuple[float, int]] = [(0.0, 0)]
    area = 0.0
    for at_s, step in sorted(steps):
        last_s, depth = series[-1]
        since_s = at_s - begin_s
        area += depth * (since_s - last_s)
        if since_s == last_s:
            series[-1] = (since_s, depth + step)
        else:
            series.append((since_s, depth + step))
    most = max(depth for _, depth in series)
    return QueueDepth(mean=_rate(area, end_s - begin_s), most=most, series=tuple(series))


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitVerdict:
    """Does the q-quantile of latency keep under a limit? over_frac: share of requests over it, errors included.

    reason: the errors that alone kept it from holding.
    """

    outcome: LimitOutcome
    over_frac: float
    interval_frac: tuple[float, float]
    num_requests: int
    num_independent: int
    reason: str | None = None


def judge_limit(
    served: Sequence[Served], limit_s: float, q: float, *, max_error_frac: float = 1.0, confidence: float = 0.95
) -> LimitVerdict:
    """An exact binomial test of the share over the limit against 1 - q; what was not answered counts as over it.

    "holds" takes min_trials(q, confidence) independent requests at least (59 for p95), by construction. It never holds
    with a larger share of errors than max_error_frac, and fails where that share is larger beyond doubt.
    """
    ordered = sorted(served, key=lambda one: one.intended_s)
    if not ordered:
        raise ValueError("no request was made: there is nothing to judge")
    latencies_s = [one.latency_s if one.status == "ok" else math.inf for one in ordered]
    num, share = independent_count(latencies_s), sum(one > limit_s for one in latencies_s) / len(latencies_s)
    low, high = _share_bounds(share, num, confidence)
    outcome: LimitOutcome = "holds" if high < 1 - q else "fails" if low > 1 - q else "cannot tell"
    errors, reason = sum(one.status != "ok" for one in ordered) / len(ordered), None
    if outcome != "fails" and errors > max_error_frac:
        outcome = "fails" if _share_bounds(errors, num, confidence)[0] > max_error_frac else "cannot tell"
        reason = f"{100 * errors:.1f} % were not answered, more than the {100 * max_error_frac:g} % allowed"
    return LimitVerdict(
        outcome=outcome, over_frac=share, interval_frac=(low, high), num_requests=len(latencies_s), num_independent=num,
        reason=reason,
    )  # fmt: skip


def _share_bounds(share: float, num: int, confidence: float) -> tuple[float, float]:
    """Exact one-sided bounds of a share in `num` independent requests, each with that confidence."""
    two_sided = 2 * confidence - 1
    low = clopper_pearson(math.floor(share * num + 1e-9), num, two_sided)[0]
    return low, clopper_pearson(min(num, math.ceil(share * num - 1e-9)), num, two_sided)[1]
