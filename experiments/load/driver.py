"""The load driver: clients that ask, a line they wait in, a world that serves. Event-driven, on any clock.

The same loop runs a real engine and, in tests, a world whose time moves only from event to event.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from experiments.serve.line import BatchQueue
from metrics.speed.load import Served, ServedStatus

RETRY_S = 0.1  # a refused user of a closed loop does not hammer at the door


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A sentence that can be asked for."""

    utterance_id: str
    num_chars: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """One request of a client. item: which sentence."""

    number: int
    item: int
    user: int
    intended_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What became of one order. payload: what was heard, for whoever checks it; None without audio."""

    status: ServedStatus
    started_s: float | None
    audio_s: float = 0.0
    batch_size: int = 0
    reason: str | None = None
    payload: Any = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """One call came back."""

    orders: tuple[Order, ...]
    replies: tuple[Reply, ...]
    ended_s: float


class World(Protocol):
    """Who serves. num_slots: calls that may be on their way at once."""

    @property
    def num_slots(self) -> int: ...

    def now_s(self) -> float: ...

    def start(self, orders: Sequence[Order]) -> None:
        """Begin to serve one batch; returns at once."""
        ...

    def wait(self, until_s: float | None) -> Done | None:
        """The next call that comes back, None where `until_s` comes first."""
        ...


class Clients(Protocol):
    """Who asks. due_s: when the next order is to be sent, None while nobody has one."""

    def due_s(self) -> float | None: ...

    def take(self) -> Order: ...

    def answered(self, order: Order, status: ServedStatus, ended_s: float) -> None: ...


def sentence_order(num_items: int, seed: int) -> Iterator[int]:
    """All sentences once in random order, again and again: every level hears the same mix."""
    chance = random.Random(seed)
    while True:
        yield from chance.sample(range(num_items), num_items)


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """How much is asked: num_requests, or all that is asked within duration_s; whichever ends first."""

    num_requests: int | None
    duration_s: float | None = None


class ClosedClients:
    """Users who ask again think_s after their answer: as many requests are on their way as there are users."""

    def __init__(self, num_users: int, extent: Extent, items: Iterator[int], begin_s: float, think_s: float = 0.0):
        self._due = [(begin_s, user) for user in range(num_users)]
        self._end_s = None if extent.duration_s is None else begin_s + extent.duration_s
        self._num, self._items, self._think_s = extent.num_requests, items, think_s
        self._numbers = itertools.count()
        self._asked = 0

    def due_s(self) -> float | None:
        if not self._due or (self._num is not None and self._asked >= self._num):
            return None
        at_s = self._due[0][0]
        return None if self._end_s is not None and at_s >= self._end_s else at_s

    def take(self) -> Order:
        intended_s, user = heapq.heappop(self._due)
        self._asked += 1
        return Order(number=next(self._numbers), item=next(self._items), user=user, intended_s=intended_s)

    def answered(self, order: Order, status: ServedStatus, ended_s: float) -> None:
        pause_s = self._think_s if status == "ok" else max(self._think_s, RETRY_S)
        heapq.heappush(self._due, (ended_s + pause_s, order.user))


class PlannedClients:
    """Orders at times that are fixed beforehand, whatever the service does."""

    def __init__(self, times_s: Sequence[float], items: Iterator[int]):
        self._orders = [
            Order(number=number, item=item, user=number, intended_s=at_s)
            for number, (at_s, item) in enumerate(zip(times_s, items, strict=False))
        ]
        self._next = 0

    def due_s(self) -> float | None:
        return self._orders[self._next].intended_s if self._next < len(self._orders) else None

    def take(self) -> Order:
        self._next += 1
        return self._orders[self._next - 1]

    def answered(self, order: Order, status: ServedStatus, ended_s: float) -> None:
        return None


def poisson_times(rate_per_s: float, extent: Extent, begin_s: float, seed: int) -> list[float]:
    """Arrival times of a Poisson process, the first one a gap after begin_s. One of the two extents must be given."""
    if extent.num_requests is None and extent.duration_s is None:
        raise ValueError("a Poisson process needs a number of requests or a duration")
    chance, at_s = random.Random(f"arrivals/{seed}"), begin_s
    times_s: list[float] = []
    while extent.num_requests is None or len(times_s) < extent.num_requests:
        at_s += chance.expovariate(rate_per_s)
        if extent.duration_s is not None and at_s >= begin_s + extent.duration_s:
            break
        times_s.append(at_s)
    return times_s


@dataclass(slots=True)
class Watch:
    """Something to read now and then while the load runs (memory)."""

    every_s: float
    read: Callable[[float], None]
    due_s: float = float("-inf")

    def look(self, now_s: float) -> None:
        if now_s >= self.due_s:
            self.read(now_s)
            self.due_s = now_s + self.every_s


Record = Callable[[Order, Served, Any], None]


@dataclass(slots=True)
class _Flow:
    """The state of one drive."""

    items: Sequence[Item]
    clients: Clients
    queue: BatchQueue[Order]
    world: World
    sent_s: dict[int, float]
    news: list[tuple[Order, Served, Any]]
    num_running: int = 0

    def admit(self) -> None:
        """Everybody who is due joins the line, or is turned away by a full one."""
        while (due_s := self.clients.due_s()) is not None and due_s <= (now_s := self.world.now_s()):
            order = self.clients.take()
            self.sent_s[order.number] = now_s
            if not self.queue.add(order, self.items[order.item].num_chars, now_s):
                self.close(order, Reply(status="rejected", started_s=None, reason="the queue is full"), now_s)

    def dispatch(self) -> None:
        while self.num_running < self.world.num_slots and (batch := self.queue.take(self.world.now_s())):
            self.num_running += 1
            self.world.start(batch)

    def close(self, order: Order, reply: Reply, ended_s: float) -> None:
        served = Served(
            utterance_id=self.items[order.item].utterance_id,
            status=reply.status,
            intended_s=order.intended_s,
            sent_s=self.sent_s.pop(order.number),
            started_s=reply.started_s,
            ended_s=ended_s,
            audio_s=reply.audio_s,
            batch_size=reply.batch_size,
            reason=reply.reason,
        )
        self.clients.answered(order, reply.status, ended_s)
        self.news.append((order, served, reply.payload))

    def next_event_s(self) -> float | None:
        """When something is to be done that no finished call announces."""
        ready_s = self.queue.ready_s() if self.num_running < self.world.num_slots else None
        return min((at_s for at_s in (self.clients.due_s(), ready_s) if at_s is not None), default=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Drive:
    """Who asks for what, where they wait, who serves."""

    items: Sequence[Item]
    clients: Clients
    queue: BatchQueue[Order]
    world: World


def drive(plan: Drive, record: Record, watch: Watch | None = None) -> list[Served]:
    """Until everybody has been answered. `record` gets every request as soon as the next batch is on its way."""
    flow = _Flow(plan.items, plan.clients, plan.queue, plan.world, {}, [])
    served: list[Served] = []
    while True:
        flow.admit()
        flow.dispatch()
        # What costs time comes after the engine has its next work
        for order, one, payload in flow.news:
            served.append(one)
            record(order, one, payload)
        flow.news.clear()
        if watch is not None:
            watch.look(plan.world.now_s())
        event_s = flow.next_event_s()
        if event_s is None and not flow.num_running:
            return served
        look_s = None if watch is None else watch.due_s
        done = plan.world.wait(min((at_s for at_s in (event_s, look_s) if at_s is not None), default=None))
        if done is not None:
            flow.num_running -= 1
            for order, reply in zip(done.orders, done.replies, strict=True):
                flow.close(order, reply, done.ended_s)
