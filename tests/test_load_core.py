"""The load driver against queueing theory, on a clock that moves from event to event."""

from __future__ import annotations

import itertools
from collections import Counter
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.load.driver import (
    RETRY_S,
    ClosedClients,
    Drive,
    Extent,
    Order,
    PlannedClients,
    Watch,
    drive,
    poisson_times,
    sentence_order,
)
from experiments.serve.line import BatchQueue, BatchRule
from metrics.speed.load import Served, queue_depth, summarise
from tests.load_fakes import ITEMS, VirtualWorld

S = 0.1  # seconds of a call


def closed(num_users: int, num: int, world: VirtualWorld, rule: BatchRule | None = None, **more: Any) -> list[Served]:
    clients = ClosedClients(num_users, Extent(num_requests=num), sentence_order(3, 0), 0.0, **more)
    return run(clients, world, rule)


def run(clients: Any, world: VirtualWorld, rule: BatchRule | None = None, **more: Any) -> list[Served]:
    plan = Drive(items=ITEMS, clients=clients, queue=BatchQueue(rule or BatchRule(capacity=10**6)), world=world)
    return drive(plan, more.pop("record", lambda *news: None), **more)


@pytest.mark.parametrize("num_users", [1, 2, 5])
def test_a_saturated_closed_loop_serves_one_call_after_the_other(num_users: int) -> None:
    summary = summarise(closed(num_users, 100, VirtualWorld(lambda batch: S)))
    assert summary.requests_per_s == pytest.approx(1 / S)
    assert summary.generated_s_per_s == pytest.approx(2 / S)
    assert summary.latency_p50.value_s == pytest.approx(num_users * S)  # Little: users = rate x latency
    assert (summary.num_ok, summary.num_rejected, summary.queue.most) == (100, 0, max(0, num_users - 1))


def test_users_who_think_leave_the_service_idle() -> None:
    served = closed(1, 10, VirtualWorld(lambda batch: S), think_s=0.4)
    assert summarise(served).duration_s == pytest.approx(10 * S + 9 * 0.4)
    assert all(one.latency_s == pytest.approx(S) for one in served)


def test_poisson_arrivals_at_one_server_wait_as_lindley_says() -> None:
    times_s = poisson_times(6.0, Extent(num_requests=20_000), 0.0, seed=1)
    served = run(PlannedClients(times_s, sentence_order(3, 0)), VirtualWorld(lambda batch: S))
    wait_s, expected_s = 0.0, [0.0]
    for before_s, after_s in itertools.pairwise(times_s):
        wait_s = max(0.0, wait_s + S - (after_s - before_s))
        expected_s.append(wait_s)
    assert [one.latency_s for one in served] == pytest.approx([wait_s + S for wait_s in expected_s])
    # Pollaczek and Khinchine for constant service: rho S / (2 (1 - rho))
    assert fmean(expected_s) == pytest.approx(0.6 * S / (2 * 0.4), rel=0.06)
    # Little for those who wait: mean depth = rate x mean wait
    depth = queue_depth(served)
    assert depth.mean == pytest.approx(fmean(expected_s) * len(served) / summarise(served).duration_s, rel=1e-6)


def test_arrivals_are_the_same_for_the_same_seed_and_come_at_the_rate() -> None:
    extent = Extent(num_requests=4000)
    times_s = poisson_times(5.0, extent, 3.0, seed=7)
    assert times_s == poisson_times(5.0, extent, 3.0, seed=7)
    assert times_s != poisson_times(5.0, extent, 3.0, seed=8)
    assert (times_s[-1] - 3.0) / 4000 == pytest.approx(0.2, rel=0.05)
    assert poisson_times(5.0, Extent(num_requests=None, duration_s=10.0), 3.0, 7)[-1] < 13.0
    with pytest.raises(ValueError, match="needs a number"):
        poisson_times(5.0, Extent(num_requests=None), 0.0, 7)


def test_a_stall_is_charged_to_everybody_who_should_have_been_served() -> None:
    """Coordinated omission: 2 s of standstill under 10 requests a second must be seen by 20 requests, not by one."""
    world = VirtualWorld(lambda batch: 2.0 if batch[0].number == 10 else 0.01)
    served = run(PlannedClients([i / 10 for i in range(100)], sentence_order(3, 0)), world)
    assert sum(one.latency_s > 0.1 for one in served) == pytest.approx(20, abs=2)


def test_an_offline_batch_fills_every_call() -> None:
    world = VirtualWorld(lambda batch: S)
    served = run(PlannedClients([0.0] * 32, sentence_order(3, 0)), world, BatchRule(max_batch=8, capacity=32))
    assert [len(numbers) for _, numbers in world.batches] == [8, 8, 8, 8]
    assert summarise(served).requests_per_s == pytest.approx(8 / S)
    assert summarise(served).batch_mean == pytest.approx(8)


def test_a_window_waits_for_company_and_no_longer() -> None:
    world = VirtualWorld(lambda batch: 0.5)
    rule = BatchRule(max_batch=4, window_s=0.05)
    run(PlannedClients([0.0, 0.03, 0.2, 0.21, 0.22, 0.23, 0.24], sentence_order(3, 0)), world, rule)
    # Two in the first window; while they are served the others gather: a full batch, then the one that is left
    assert world.batches == [(0.05, [0, 1]), (0.55, [2, 3, 4, 5]), (1.05, [6])]


def test_a_full_batch_does_not_wait_for_the_window() -> None:
    world = VirtualWorld(lambda batch: 0.5)
    run(PlannedClients([0.0, 0.01], sentence_order(3, 0)), world, BatchRule(max_batch=2, window_s=0.1))
    assert world.batches == [(0.01, [0, 1])]


def test_only_requests_of_like_length_share_a_call() -> None:
    world = VirtualWorld(lambda batch: S)
    rule = BatchRule(max_batch=8, bucket_chars=(40, 100), capacity=64)
    clients = PlannedClients([0.0] * 30, sentence_order(3, 0))
    chars = [ITEMS[order.item].num_chars for order in clients._orders]
    run(clients, world, rule)
    assert all(len({chars[number] > 40 for number in numbers}) == 1 for _, numbers in world.batches)
    assert sorted(number for _, numbers in world.batches for number in numbers) == list(range(30))


def test_a_full_line_turns_requests_away_at_once() -> None:
    served = run(PlannedClients([0.0] * 10, sentence_order(3, 0)), VirtualWorld(lambda b: S), BatchRule(capacity=4))
    summary = summarise(served)
    assert (summary.num_ok, summary.num_rejected) == (4, 6)
    assert summary.error_frac == pytest.approx(0.6)
    assert all(one.latency_s == 0 and one.reason == "the queue is full" for one in served if one.status == "rejected")


def test_a_rejected_user_waits_before_the_next_try() -> None:
    served = closed(5, 40, VirtualWorld(lambda batch: S), BatchRule(capacity=2))
    turned_away = [one.intended_s for one in served if one.status == "rejected"]
    assert turned_away
    assert len(turned_away) <= 3 * summarise(served).duration_s / RETRY_S + 3


def test_a_failing_request_fails_alone() -> None:
    world = VirtualWorld(lambda batch: S, fails=lambda order: order.number % 10 == 3)
    summary = summarise(closed(2, 50, world))
    assert (summary.num_ok, summary.num_failed) == (45, 5)


def test_every_request_is_recorded_while_the_next_one_is_served() -> None:
    world = VirtualWorld(lambda batch: S)
    seen: list[tuple[int, int]] = []

    def record(order: Order, served: Served, payload: object) -> None:
        seen.append((order.number, len(world.batches)))

    clients = ClosedClients(2, Extent(num_requests=6), sentence_order(3, 0), 0.0)
    run(clients, world, record=record)
    assert seen == [(0, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 6)]


def test_the_watch_looks_at_its_times_and_does_not_keep_the_load_alive() -> None:
    looked: list[float] = []
    clients = ClosedClients(1, Extent(num_requests=10), sentence_order(3, 0), 0.0)
    served = run(clients, VirtualWorld(lambda batch: S), watch=Watch(0.25, looked.append))
    assert looked == pytest.approx([0.0, 0.25, 0.5, 0.75])
    assert max(one.ended_s for one in served) == pytest.approx(1.0)


def test_a_duration_ends_the_asking_and_everybody_is_answered() -> None:
    clients = ClosedClients(3, Extent(num_requests=None, duration_s=1.0), sentence_order(3, 0), 0.0)
    served = run(clients, VirtualWorld(lambda batch: 0.125))
    assert all(one.intended_s < 1.0 and one.status == "ok" for one in served)
    assert len(served) == 3 + 7  # three at the start, one at each answer before the end


def test_several_slots_serve_side_by_side() -> None:
    summary = summarise(closed(4, 100, VirtualWorld(lambda batch: S, num_slots=4)))
    assert summary.requests_per_s == pytest.approx(4 / S)
    assert summary.queue.most == 0


def test_every_sentence_comes_equally_often() -> None:
    order = sentence_order(3, 5)
    assert Counter(next(order) for _ in range(30)) == {0: 10, 1: 10, 2: 10}


@given(
    arrivals=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 200)), max_size=30),
    max_batch=st.integers(1, 8),
    window_s=st.floats(0, 0.1),
    buckets=st.lists(st.integers(1, 200), max_size=3, unique=True).map(lambda edges: tuple(sorted(edges))),
)
def test_nobody_is_lost_served_twice_or_held_beyond_the_window(
    arrivals: list[tuple[float, int]], max_batch: int, window_s: float, buckets: tuple[int, ...]
) -> None:
    rule = BatchRule(max_batch=max_batch, window_s=window_s, bucket_chars=buckets, capacity=20)
    queue: BatchQueue[int] = BatchQueue(rule)
    now_s, inside, out = 0.0, [], []
    for number, (gap_s, num_chars) in enumerate(arrivals):
        now_s += gap_s
        if queue.add(number, num_chars, now_s):
            inside.append(number)
        else:
            assert len(queue) == 20
        if number % 3 == 0:
            out += queue.take(now_s)
    while (ready_s := queue.ready_s()) is not None:
        assert ready_s <= now_s + window_s
        batch = queue.take(max(now_s, ready_s))
        assert 1 <= len(batch) <= max_batch
        out += batch
    assert sorted(out) == inside
    assert queue.take(now_s + 1) == []
