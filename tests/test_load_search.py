"""The search for the highest rate: brackets that hold the truth, and "cannot tell" where nothing was shown."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from experiments.load.driver import Drive, Extent, Order, PlannedClients, drive, poisson_times, sentence_order
from experiments.load.search import Probe, Search, search_rate
from experiments.serve.line import BatchQueue, BatchRule
from metrics.speed.load import LimitOutcome, LimitVerdict, judge_limit
from tests.load_fakes import ITEMS, VirtualWorld

PLAN = Search(highest=12.0, lowest=0.5, ratio=1.1, num_requests=100, num_requests_most=400, time_limit_s=1000)


def verdict(outcome: LimitOutcome) -> LimitVerdict:
    return LimitVerdict(outcome=outcome, over_frac=0.0, interval_frac=(0, 1), num_requests=100, num_independent=100)


def edge(holds_to: float, fails_from: float, asked: list[float] | None = None) -> Probe:
    def probe(rate: float, num_requests: int, number: int) -> LimitVerdict:
        if asked is not None:
            asked.append(rate)
        return verdict("holds" if rate <= holds_to else "fails" if rate >= fails_from else "cannot tell")

    return probe


@pytest.mark.parametrize("truth", [0.6, 2.0, 7.3, 11.9])
def test_the_bracket_holds_the_truth_and_is_as_narrow_as_asked(truth: float) -> None:
    asked: list[float] = []
    found = search_rate(PLAN, edge(truth, truth, asked), lambda: 0.0)
    assert found.outcome == "found"
    assert found.holds_per_s is not None
    assert found.fails_per_s is not None
    assert found.holds_per_s <= truth <= found.fails_per_s <= 1.1 * found.holds_per_s
    assert len(asked) <= 9  # five halves from 12 to 0.5, then halves of a factor of two
    assert min(asked) >= min(truth / 2, 0.5), "a rate far below the answer takes long and says nothing"


def test_a_grey_zone_widens_the_bracket_and_is_named() -> None:
    found = search_rate(PLAN, edge(3.0, 5.0), lambda: 0.0)
    assert found.outcome == "cannot tell"
    assert found.holds_per_s is not None
    assert 3.0 / 1.1 <= found.holds_per_s <= 3.0
    assert found.fails_per_s is not None
    assert found.fails_per_s >= 5.0
    assert "too few samples" in found.reason


def test_what_decides_nothing_is_asked_again_with_more_requests() -> None:
    sizes: list[int] = []

    def probe(rate: float, num_requests: int, number: int) -> LimitVerdict:
        assert number == len(sizes)
        sizes.append(num_requests)
        return verdict("cannot tell")

    found = search_rate(PLAN, probe, lambda: 0.0)
    assert sizes == [100, 200, 400] * 6  # at 12, 6, 3, 1.5, 0.75 and 0.5
    assert (found.outcome, found.holds_per_s, found.fails_per_s) == ("cannot tell", None, None)


def test_no_more_requests_than_the_time_left_holds() -> None:
    sizes: list[int] = []

    def probe(rate: float, num_requests: int, number: int) -> LimitVerdict:
        sizes.append(num_requests)
        return verdict("cannot tell")

    search_rate(replace(PLAN, lowest=12.0, time_limit_s=20), probe, lambda: 0.0)
    assert sizes == [100, 200], "400 requests at 12 a second take 33 s"


def test_both_ends_have_words_of_their_own() -> None:
    assert search_rate(PLAN, edge(100, 200), lambda: 0.0).outcome == "holds everywhere"
    assert search_rate(PLAN, edge(0.1, 0.2), lambda: 0.0).outcome == "fails everywhere"


def test_time_ends_the_search_with_what_is_known() -> None:
    asked: list[float] = []
    found = search_rate(PLAN, edge(3.0, 3.0, asked), lambda: 0.0 if len(asked) < 3 else 2000.0)
    assert found.outcome == "cannot tell"
    assert (found.holds_per_s, found.fails_per_s) == (3.0, 6.0)
    assert "time limit" in found.reason


def share_over_three_services(load_frac: float) -> float:
    """M/D/1, Erlang: P(wait > 3 services) = 1 - (1 - rho) sum_j (rho (j - 3))^j / j! exp(-rho (j - 3))."""
    terms = [(load_frac * (j - 3)) ** j / math.factorial(j) * math.exp(-load_frac * (j - 3)) for j in range(4)]
    return 1 - (1 - load_frac) * sum(terms)


def test_the_rate_of_a_known_queue_is_found() -> None:
    """Service 0.1 s, limit 0.4 s: the rate at which one request in twenty waits for more than three services."""
    truth = next(rate / 1000 for rate in range(1, 10_000) if share_over_three_services(rate / 1e4) > 0.05)

    def probe(rate: float, num_requests: int, number: int) -> LimitVerdict:
        world = VirtualWorld(lambda batch: 0.1)
        times_s = poisson_times(rate, Extent(num_requests=num_requests), 0.0, number)
        line: BatchQueue[Order] = BatchQueue(BatchRule(capacity=10**6))
        plan = Drive(items=ITEMS, clients=PlannedClients(times_s, sentence_order(3, 0)), queue=line, world=world)
        return judge_limit(drive(plan, lambda *news: None), 0.4, 0.95)

    plan = Search(highest=12, lowest=0.5, ratio=1.2, num_requests=2000, num_requests_most=8000, time_limit_s=1e9)
    found = search_rate(plan, probe, lambda: 0.0)
    assert truth == pytest.approx(6.17, abs=0.02)
    assert found.holds_per_s is not None
    assert found.fails_per_s is not None
    assert found.holds_per_s <= 1.03 * truth
    assert found.fails_per_s >= 0.97 * truth
    assert found.fails_per_s / found.holds_per_s < 4
