"""What engine.runtimes.cuda_graphs uses of torch, as a machine with a card keeps it: the current stream, the state of
the generator, the pools of the allocator. Rules as in ATen's CUDAGraph.cpp and the caching allocator: a capture that
ends with an error puts none of them back by itself."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class FakeStream:
    def wait_stream(self, other: FakeStream) -> None:
        assert isinstance(other, FakeStream)


class FakeState:
    """A generator's state; one that is held by a capture cannot be seeded."""

    def __init__(self, seed: int = 0):
        self.seed, self.capturing = seed, False


class FakeGenerator:
    def __init__(self, state: FakeState | None = None):
        self.state = state or FakeState()

    def graphsafe_get_state(self) -> FakeGenerator:
        return FakeGenerator(self.state)

    def graphsafe_set_state(self, other: FakeGenerator) -> None:
        self.state = other.state

    def clone_state(self) -> FakeGenerator:
        return FakeGenerator(FakeState(self.state.seed))

    def manual_seed(self, seed: int) -> None:
        if self.state.capturing:
            raise RuntimeError("Cannot call CUDAGeneratorImpl::set_current_seed during CUDA graph capture")
        self.state.seed = seed


class FakeGraph:
    def __init__(self, cuda: FakeCuda):
        self._cuda, self.replays, self.ended = cuda, 0, False

    def capture_begin(self, pool: int) -> None:
        cuda = self._cuda
        assert cuda.stream_now is not cuda.default_stream, "graphs must be captured on a non-default stream"
        assert not cuda.recording, "captures are underway"
        cuda.recording.append(pool)
        cuda.uses[pool] += 1
        self._pool, cuda.broken = pool, False
        self._state = cuda.default_generators[0].state
        self._state.capturing = True

    def capture_end(self) -> None:
        cuda = self._cuda
        if cuda.broken:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        cuda.recording.remove(self._pool)
        self._state.capturing = False
        self.ended = True

    def replay(self) -> None:
        assert self.ended
        self.replays += 1


class FakeCuda:
    """torch.cuda and torch._C at once. break_capture: what an operation that may not be captured does."""

    def __init__(self) -> None:
        self.cuda = self._C = self
        self.default_stream = self.stream_now = FakeStream()
        self.default_generators = [FakeGenerator()]
        self.recording: list[int] = []
        self.uses: Counter[int] = Counter()
        self.broken, self._handles = False, itertools.count(1)
        self.Stream = FakeStream

    def CUDAGraph(self) -> FakeGraph:
        return FakeGraph(self)

    def graph_pool_handle(self) -> int:
        return next(self._handles)

    def break_capture(self) -> None:
        """Before a capture a plain operation that waits; in one, its end."""
        if self.recording:
            self.broken = True
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    @contextmanager
    def device(self, device: object) -> Iterator[None]:
        yield

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        before, self.stream_now = self.stream_now, stream
        try:
            yield
        finally:
            self.stream_now = before

    def current_stream(self) -> FakeStream:
        return self.stream_now

    def current_device(self) -> int:
        return 0

    def synchronize(self) -> None:
        assert not self.recording, "operation not permitted when stream is capturing"

    def empty_cache(self) -> None:
        assert not self.recording, "captures are underway"

    def _cuda_endAllocateToPool(self, device: int, pool: int) -> None:
        if pool not in self.recording:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.recording.remove(pool)

    def _cuda_releasePool(self, device: int, pool: int) -> None:
        self.uses[pool] -= 1
        assert self.uses[pool] >= 0
