"""A service with exact answers: its time moves from event to event, its calls take what a function says."""

from __future__ import annotations

import heapq
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from engine.contract import Synthesis, SynthesisRequest
from experiments.load.driver import Done, Item, Order, Reply
from tests.fakes import HOP, FakeEngine, facts, frames_of, speech

ITEMS = (
    Item(utterance_id="a", num_chars=20),
    Item(utterance_id="b", num_chars=25),
    Item(utterance_id="c", num_chars=80),
)


@dataclass
class VirtualWorld:
    """service_s(batch) seconds a call; fail(order) makes a request fail. batches: (start, numbers of the orders)."""

    service_s: Callable[[Sequence[Order]], float]
    num_slots: int = 1
    fails: Callable[[Order], bool] = lambda order: False
    t_s: float = 0.0
    batches: list[tuple[float, list[int]]] = field(default_factory=list)
    _running: list[tuple[float, int, Done]] = field(default_factory=list)

    def now_s(self) -> float:
        return self.t_s

    def start(self, orders: Sequence[Order]) -> None:
        self.batches.append((self.t_s, [order.number for order in orders]))
        ended_s = self.t_s + self.service_s(orders)
        replies = tuple(self._reply(order, len(orders)) for order in orders)
        done = Done(orders=tuple(orders), replies=replies, ended_s=ended_s)
        heapq.heappush(self._running, (ended_s, len(self.batches), done))
        assert len(self._running) <= self.num_slots

    def _reply(self, order: Order, num: int) -> Reply:
        if self.fails(order):
            return Reply(status="failed", started_s=self.t_s, reason="broken")
        return Reply(status="ok", started_s=self.t_s, audio_s=2.0, batch_size=num)

    def wait(self, until_s: float | None) -> Done | None:
        assert until_s is not None or self._running, "nothing will ever happen"
        if self._running and (until_s is None or self._running[0][0] <= until_s):
            self.t_s, _, done = heapq.heappop(self._running)
            return done
        assert until_s is not None
        assert until_s > self.t_s, "the driver is asked to wait for the past"
        self.t_s = until_s
        return None


class ToneEngine(FakeEngine):
    """Takes eight requests a call and speaks each in a pitch of its own; `breaks` names an utterance it fails on."""

    def __init__(self, breaks: str | None = None, silent: bool = False):
        super().__init__(replace(facts(), max_batch=8))
        self.batches: list[int] = []
        self.gate: threading.Event | None = None
        self.gate_s = 10.0
        self.entered = threading.Event()
        self._breaks, self._silent = breaks, silent

    def synthesize(self, requests: Sequence[SynthesisRequest]) -> list[Synthesis]:
        self.entered.set()
        if self.gate is not None:
            self.gate.wait(self.gate_s)
        self.batches.append(len(requests))
        self.facts = replace(self.facts, proof={"calls": len(self.batches)})
        if any(request.utterance_id == self._breaks for request in requests):
            raise RuntimeError("out of\ntune")
        return [self._tone(request) for request in requests]

    def _tone(self, request: SynthesisRequest) -> Synthesis:
        num_frames = frames_of(request.text)
        pitch_hz = 100.0 + zlib.crc32(request.utterance_id.encode()) % 100
        audio_S = speech((num_frames - 1) * HOP, pitch_hz) * np.float32(not self._silent)
        return replace(self._one(request), audio_S=audio_S)
