"""Figures of a load: independent requests, limits, leaks, against answers that are known."""

from __future__ import annotations

import numpy as np
import pytest

from metrics.speed.leak import HOUR_S, judge_leak
from metrics.speed.load import Served, independent_count, judge_limit, percentile, queue_depth, summarise

MIB = float(1 << 20)
LIMIT = 32 * MIB  # bytes an hour


def request(at_s: float, latency_s: float = 0.1, wait_s: float = 0.0, status: str = "ok") -> Served:
    return Served(
        utterance_id="a", status=status, intended_s=at_s, sent_s=at_s, ended_s=at_s + latency_s,  # type: ignore[arg-type]
        started_s=at_s + wait_s if status == "ok" else None, audio_s=2.0 if status == "ok" else 0.0,
        batch_size=1 if status == "ok" else 0,
    )  # fmt: skip


def test_a_summary_counts_what_was_answered_and_what_was_not() -> None:
    served = [request(i * 1.0) for i in range(8)] + [
        request(8.0, 0.0, status="rejected"),
        request(9.0, status="failed"),
    ]
    summary = summarise(served)
    assert (summary.num_ok, summary.num_rejected, summary.num_failed) == (8, 1, 1)
    assert summary.duration_s == pytest.approx(9.1)
    assert summary.requests_per_s == pytest.approx(8 / 9.1)
    assert summary.generated_s_per_s == pytest.approx(16 / 9.1)
    assert summary.error_frac == pytest.approx(0.2)
    assert summary.error_interval_frac == pytest.approx((0.0252, 0.5561), abs=1e-4)  # Clopper-Pearson, 2 of 10
    assert summary.latency_p95.value_s is None
    assert summary.latency_p95.reason == "too few: p95 takes 59 independent requests, these 8 are worth 8"


@pytest.mark.parametrize(("num", "has_p95", "has_p99"), [(58, False, False), (59, True, False), (299, True, True)])
def test_tails_are_given_from_59_and_299_requests(num: int, has_p95: bool, has_p99: bool) -> None:
    # A spread without any pattern in time
    latencies_s = [0.1 + ((i * 7919) % 1009) / 1e4 for i in range(num)]
    assert independent_count(latencies_s) == num
    assert (percentile(latencies_s, 0.95).value_s is not None) == has_p95
    assert (percentile(latencies_s, 0.99).value_s is not None) == has_p99


def test_nothing_answered_has_no_percentile() -> None:
    summary = summarise([request(0.0, status="failed")])
    assert summary.latency_p50.value_s is None
    assert summary.latency_p50.reason == "no request was answered"
    assert summary.requests_per_s == 0
    with pytest.raises(ValueError, match="no request"):
        summarise([])


def test_the_depth_of_a_queue_is_the_area_under_it() -> None:
    served = [request(0.0, 2.0, 0.0), request(0.0, 3.0, 2.0), request(1.0, 3.0, 2.0)]
    depth = queue_depth(served)
    assert depth.series == ((0.0, 1), (1.0, 2), (2.0, 1), (3.0, 0))
    assert depth.mean == pytest.approx((1 + 2 + 1) / 4)
    assert depth.most == 2


def queue_latencies(num: int, load_frac: float, seed: int) -> list[float]:
    """M/D/1, service of one second."""
    gaps_s = np.random.default_rng(seed).exponential(1 / load_frac, num)
    wait_s, out = 0.0, []
    for gap_s in gaps_s:
        wait_s = max(0.0, wait_s + 1 - gap_s)
        out.append(wait_s + 1)
    return out


def test_intervals_of_a_queue_cover_where_those_of_independent_requests_would_not() -> None:
    truth_s = float(np.quantile(queue_latencies(400_000, 0.7, 0), 0.95))
    covered, naive, given = 0, 0, 0
    for seed in range(1, 61):
        latencies_s = queue_latencies(3000, 0.7, seed)
        found = percentile(latencies_s, 0.95).interval_s
        if seed <= 15:
            shuffled = np.random.default_rng(seed).permutation(latencies_s).tolist()
            fake = percentile(shuffled, 0.95).interval_s
            assert fake is not None
            naive += fake[0] <= truth_s <= fake[1]
        if found is not None:
            given += 1
            covered += found[0] <= truth_s <= found[1]
    assert given >= 40  # the others say "too few"
    assert naive <= 11
    assert covered / given > 0.85


def served_with(latencies_s: list[float]) -> list[Served]:
    return [request(float(i), one) for i, one in enumerate(latencies_s)]


def test_a_limit_holds_from_59_requests_under_it_and_not_before() -> None:
    assert judge_limit(served_with([0.1] * 58), 1.0, 0.95).outcome == "cannot tell"
    assert judge_limit(served_with([0.1] * 59), 1.0, 0.95).outcome == "holds"
    assert judge_limit(served_with([2.0] * 10), 1.0, 0.95).outcome == "fails"


def test_what_was_not_answered_is_over_the_limit() -> None:
    served = [request(float(i), 0.0, status="rejected" if i % 2 else "ok") for i in range(100)]
    verdict = judge_limit(served, 1.0, 0.95)
    assert (verdict.outcome, verdict.over_frac) == ("fails", 0.5)


def test_a_wrong_word_about_a_limit_is_rare() -> None:
    """At a true p95 of exactly the limit, either certain word is wrong."""
    chance = np.random.default_rng(3)
    words = [judge_limit(served_with((chance.random(200) * 100).tolist()), 95.0, 0.95).outcome for _ in range(300)]
    assert words.count("holds") <= 22  # 5 % of 300, and three standard deviations
    assert words.count("fails") <= 22


def soak(seed: int, noise_mib: float, wander_mib: float, slope_mib_per_h: float, num: int = 240) -> tuple:
    """Ten minutes of readings: noise about a line, and steps that add up."""
    chance = np.random.default_rng(seed)
    times_s = np.linspace(0, 600, num)
    mib = 500 + chance.normal(0, noise_mib, num) + np.cumsum(chance.normal(0, wander_mib, num))
    return times_s.tolist(), ((mib + slope_mib_per_h * times_s / HOUR_S) * MIB).round().astype(int).tolist()


def test_a_leak_is_found_and_its_slope_lies_in_the_interval() -> None:
    found = [judge_leak(*soak(seed, 1.0, 0.0, 200), LIMIT) for seed in range(60)]
    assert {one.outcome for one in found} == {"leak"}
    inside = [one.interval_bytes_per_h[0] <= 200 * MIB <= one.interval_bytes_per_h[1] for one in found]  # type: ignore[index]
    assert sum(inside) >= 57


def test_constant_memory_is_no_leak() -> None:
    times_s = [float(i) for i in range(100)]
    verdict = judge_leak(times_s, [5 << 20] * 100, LIMIT)
    assert (verdict.outcome, verdict.slope_bytes_per_h) == ("no leak", 0.0)
    assert {judge_leak(*soak(seed, 0.5, 0.0, 0), LIMIT).outcome for seed in range(60)} == {"no leak"}


@pytest.mark.parametrize(("noise_mib", "wander_mib"), [(3.0, 0.0), (0.1, 0.2), (1.0, 1.0)])
def test_at_the_limit_itself_neither_word_is_said_often(noise_mib: float, wander_mib: float) -> None:
    found = [judge_leak(*soak(seed, noise_mib, wander_mib, 32), LIMIT).outcome for seed in range(300)]
    assert found.count("leak") <= 18
    assert found.count("no leak") <= 18


def test_a_cache_that_fills_and_one_single_step_are_no_leak() -> None:
    times_s, flat = soak(1, 0.2, 0.0, 0)
    filling = [value + int(200 * MIB * min(1.0, at_s / 120)) for at_s, value in zip(times_s, flat, strict=True)]
    assert judge_leak(times_s, filling, LIMIT).outcome == "no leak"
    step = [value + int(20 * MIB * (at_s > 400)) for at_s, value in zip(times_s, flat, strict=True)]
    assert judge_leak(times_s, step, LIMIT).outcome == "cannot tell"


def test_a_short_soak_says_so() -> None:
    verdict = judge_leak([0.0, 1.0], [1, 2], LIMIT)
    assert (verdict.outcome, verdict.slope_bytes_per_h) == ("cannot tell", None)
    assert verdict.reason.startswith("too few")
    assert judge_leak([], [], LIMIT).outcome == "cannot tell"
