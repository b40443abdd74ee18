"""A loaded engine behind a bounded line: requests in, futures out, batches by the rule of experiments.serve.line."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType

from engine.clock import Clock
from engine.contract import AudioBlock, Engine, EngineFacts, Synthesis, SynthesisRequest
from experiments.serve.line import BatchQueue, BatchRule

READY = "serving on "  # begins the line that says so


class QueueFull(Exception):
    """The line holds as many as it may; try again later."""


class Closed(Exception):
    """The service is being shut down."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Spoken:
    """One answer. queue_s: seconds in the line, service_s: of the call that `batch_size` requests shared."""

    synthesis: Synthesis
    queue_s: float
    service_s: float
    batch_size: int

    @property
    def audio_s(self) -> float:
        return len(self.synthesis.audio_S) / self.synthesis.sample_rate_hz


@dataclass(frozen=True, kw_only=True, slots=True)
class Streamed:
    """A stream that ended. audio_s: of the blocks that were made; is_whole False: who listened went away, and no more
    was spoken."""

    queue_s: float
    service_s: float
    audio_s: float
    is_whole: bool


# Takes one block of a stream on the engine's thread; False: nobody listens any longer
Listener = Callable[[AudioBlock], bool]
# Told of the requests of one call and of their answers, in the same order
Watch = Callable[[Sequence[SynthesisRequest], Sequence[Spoken | Streamed]], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """For a call that may be shared, or, with a listener, for a stream of its own."""

    request: SynthesisRequest
    arrived_s: float
    answer: Future[Spoken] = field(default_factory=Future)
    listener: Listener | None = None
    streamed: Future[Streamed] = field(default_factory=Future)

    @property
    def future(self) -> Future[Spoken] | Future[Streamed]:
        return self.answer if self.listener is None else self.streamed


@dataclass(slots=True)
class Counts:
    """Since the start; `waiting` now."""

    waiting: int = 0
    served: int = 0
    failed: int = 0
    rejected: int = 0


class Service:
    """A context manager. The engine is built and called on one thread; `build` may raise, and then so does this.

    watch: told of every call that succeeded, after its answers were given and before the next call.
    """

    def __init__(self, build: Callable[[], Engine], rule: Callable[[int], BatchRule], clock: Clock):
        self._clock, self._counts = clock, Counts()
        self.watch: Watch | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        built = self._thread.submit(build)
        if built.exception() is not None:
            self._thread.shutdown()
        self._engine = built.result()
        self.rule = rule(self._engine.facts.max_batch)
        self._line: BatchQueue[_Waiting] = BatchQueue(self.rule)
        self._changed = threading.Condition()
        self._is_open = True
        self._feeder = threading.Thread(target=self._feed, name="feeder", daemon=True)
        self._feeder.start()

    @property
    def facts(self) -> EngineFacts:
        return self._engine.facts

    def warm_up(self, requests: Sequence[SynthesisRequest]) -> list[float]:
        """Seconds of each request, alone, before anybody is served; in no count. Raises what the engine raises."""
        found = []
        for request in requests:
            before_s = self._clock.now_s()
            self._thread.submit(self._call, [request]).result()
            found.append(self._clock.now_s() - before_s)
        return found

    def counts(self) -> Counts:
        with self._changed:
            counts = self._counts
            return Counts(waiting=len(self._line), served=counts.served, failed=counts.failed, rejected=counts.rejected)

    def submit(self, request: SynthesisRequest) -> Future[Spoken]:
        """Raises QueueFull, or Closed while shutting down. The future raises what the engine raised."""
        waiting = _Waiting(request, self._clock.now_s())
        self._wait(waiting)
        return waiting.answer

    def submit_stream(self, request: SynthesisRequest, listener: Listener) -> Future[Streamed]:
        """As submit, in the same line; each block goes to the listener as soon as it is final."""
        waiting = _Waiting(request, self._clock.now_s(), listener=listener)
        self._wait(waiting)
        return waiting.streamed

    def _wait(self, waiting: _Waiting) -> None:
        with self._changed:
            if not self._is_open:
                raise Closed
            if not self._line.add(waiting, len(waiting.request.text), waiting.arrived_s):
                self._counts.rejected += 1
                raise QueueFull
            self._changed.notify()

    def _feed(self) -> None:
        while batch := self._next():
            if together := [one for one in batch if one.listener is None]:
                self._answer(together)
            for one in batch:
                if one.listener is not None:
                    self._answer_stream(one, one.listener)

    def _answer(self, batch: list[_Waiting]) -> None:
        started_s = self._clock.now_s()
        call = self._thread.submit(self._call, [one.request for one in batch])
        error = call.exception()
        service_s = self._clock.now_s() - started_s
        self._count(len(batch), error)
        if error is not None:
            for one in batch:
                one.answer.set_exception(error)
            return
        spoken = [
            Spoken(synthesis=made, queue_s=started_s - one.arrived_s, service_s=service_s, batch_size=len(batch))
            for one, made in zip(batch, call.result(), strict=True)
        ]
        for one, answer in zip(batch, spoken, strict=True):
            one.answer.set_result(answer)
        if self.watch is not None:
            self.watch([one.request for one in batch], spoken)

    def _answer_stream(self, one: _Waiting, listener: Listener) -> None:
        started_s = self._clock.now_s()
        call = self._thread.submit(self._stream, one.request, listener)
        error = call.exception()
        self._count(1, error)
        if error is not None:
            one.streamed.set_exception(error)
            return
        audio_s, is_whole = call.result()
        service_s = self._clock.now_s() - started_s
        streamed = Streamed(queue_s=started_s - one.arrived_s, service_s=service_s, audio_s=audio_s, is_whole=is_whole)
        one.streamed.set_result(streamed)
        if self.watch is not None:
            self.watch([one.request], [streamed])

    def _count(self, num: int, error: BaseException | None) -> None:
        with self._changed:
            if error is None:
                self._counts.served += num
            else:
                self._counts.failed += num

    def _stream(self, request: SynthesisRequest, listener: Listener) -> tuple[float, bool]:
        """Seconds handed on, and whether that was all of it."""
        audio_s = 0.0
        for block in self._engine.stream(request):
            audio_s += len(block.audio_S) / block.sample_rate_hz
            if not listener(block):
                return audio_s, False
        return audio_s, True

    def _call(self, requests: list[SynthesisRequest]) -> list[Synthesis]:
        results = self._engine.synthesize(requests)
        self._clock.sync()
        return results

    def _next(self) -> list[_Waiting]:
        """The next batch, empty when the service is closed. Who has gone away in the meantime is left out."""
        with self._changed:
            while self._is_open:
                batch = self._line.take(self._clock.now_s())
                wanted = [one for one in batch if one.future.set_running_or_notify_cancel()]
                if wanted:
                    return wanted
                if batch:
                    continue
                ready_s = self._line.ready_s()
                self._changed.wait(None if ready_s is None else max(0.0, ready_s - self._clock.now_s()))
            return []

    def close(self) -> None:
        """Who still waits gets Closed; the call that is running is finished."""
        with self._changed:
            self._is_open = False
            for one in self._line.drain():
                if one.future.set_running_or_notify_cancel():
                    one.future.set_exception(Closed())
            self._changed.notify()
        self._feeder.join()
        self._thread.submit(self._engine.close).result()
        self._thread.shutdown()

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
