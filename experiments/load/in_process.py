"""The real engine as a world of the load driver: built and called on a thread of its own, timed around the call."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from engine.clock import Clock
from engine.contract import Engine, EngineFacts, Synthesis, SynthesisRequest
from experiments.common.cli import one_line
from experiments.load.audio import Heard
from experiments.load.driver import Done, Order, Reply


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """A call that ended well."""

    started_s: float
    ended_s: float
    results: list[Synthesis]


class EngineWorld:
    """A context manager; leaving it closes the engine. Raises what `build` raises."""

    num_slots = 1

    def __init__(self, build: Callable[[], Engine], requests: Sequence[SynthesisRequest], clock: Clock):
        self._requests, self._clock = requests, clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._back: queue.SimpleQueue[tuple[tuple[Order, ...], float, Future[_Call]]] = queue.SimpleQueue()
        built = self._thread.submit(build)
        if built.exception() is not None:
            self._thread.shutdown()
        self._engine = built.result()

    @property
    def facts(self) -> EngineFacts:
        return self._engine.facts

    def now_s(self) -> float:
        return self._clock.now_s()

    def start(self, orders: Sequence[Order]) -> None:
        kept, begun_s = tuple(orders), self._clock.now_s()
        call = self._thread.submit(self._call, [self._requests[order.item] for order in kept])
        call.add_done_callback(partial(self._come_back, kept, begun_s))

    def _call(self, requests: list[SynthesisRequest]) -> _Call:
        started_s = self._clock.now_s()
        results = self._engine.synthesize(requests)
        self._clock.sync()
        asked, got = [one.utterance_id for one in requests], [one.utterance_id for one in results]
        if asked != got:
            raise ValueError(f"asked for {asked}, the engine returned {got}")
        return _Call(started_s, self._clock.now_s(), results)

    def _come_back(self, orders: tuple[Order, ...], begun_s: float, call: Future[_Call]) -> None:
        self._back.put((orders, begun_s, call))

    def wait(self, until_s: float | None) -> Done | None:
        try:
            timeout_s = None if until_s is None else max(0.0, until_s - self._clock.now_s())
            orders, begun_s, call = self._back.get(timeout=timeout_s)
        except queue.Empty:
            return None
        error = call.exception()
        if error is None:
            done = call.result()
            return Done(orders=orders, replies=_replies(orders, done), ended_s=done.ended_s)
        if not isinstance(error, Exception):
            raise error
        reason = one_line(f"{type(error).__name__}: {error}")
        failed = Reply(status="failed", started_s=begun_s, batch_size=len(orders), reason=reason)
        return Done(orders=orders, replies=(failed,) * len(orders), ended_s=self._clock.now_s())

    def __enter__(self) -> EngineWorld:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.submit(self._engine.close).result()
        self._thread.shutdown()


def _replies(orders: Sequence[Order], call: _Call) -> tuple[Reply, ...]:
    return tuple(
        Reply(
            status="ok",
            started_s=call.started_s,
            audio_s=len(one.audio_S) / one.sample_rate_hz,
            batch_size=len(orders),
            payload=heard_of(one),
        )
        for _, one in zip(orders, call.results, strict=True)
    )


def heard_of(synthesis: Synthesis) -> Heard:
    return Heard(
        audio_S=synthesis.audio_S,
        sample_rate_hz=synthesis.sample_rate_hz,
        num_frames=len(synthesis.mel_ND),
        num_chunks=synthesis.num_chunks,
        num_evals=synthesis.num_evals,
    )
