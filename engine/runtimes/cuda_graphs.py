"""CUDA graphs as such: recorded, kept for what was used last, and a failed recording that leaves the process usable.

Nothing here imports CUDA before a capture; the `Recorder` is what a test replaces.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, Protocol, TypeVar

import torch

from engine.contract import ConfigError

WARM_UP_RUNS = 3  # kernels are chosen, compiled and given their workspaces before the capture

Key = TypeVar("Key", bound=Hashable)
Kept = TypeVar("Kept")
Recorded = TypeVar("Recorded")


class CaptureFailed(RuntimeError):
    """What was launched cannot be recorded, or there was no memory for it. The process goes on as before the try."""

    def __init__(self, error: RuntimeError):
        first = (str(error).splitlines() or [""])[0]
        full = isinstance(error, torch.OutOfMemoryError)
        remedy = "lower engine.max_graphs or engine.max_batch" if full else "use an engine that captures nothing"
        super().__init__(f"no graph was captured ({type(error).__name__}: {first}); {remedy}")


class Recorder(Protocol):
    """`record(run)` warms `run` up, records what it launches once, and returns (replay, what `run` returned: tensors
    that each replay writes)."""

    def record(self, run: Callable[[], Recorded]) -> tuple[Callable[[], None], Recorded]: ...


class CudaRecorder:
    """torch.cuda.CUDAGraph; all graphs share one memory pool and are recorded on one stream, since only one runs at a
    time.

    After a failed capture torch's allocator would still give this pool's memory to others and skip its housekeeping,
    the current stream would be the one that was captured on, and the device's generator would refuse to be seeded. So
    the pool is ended and given up, streams are put back, and while a capture lasts the generator has a state that
    nobody else holds (nothing that is captured here draws from it). using: torch, or what a test puts in its place.
    """

    def __init__(self, device: str, using: Any = torch):
        self._torch, self._device = using, torch.device(device)
        self._pool = using.cuda.graph_pool_handle()
        self._stream: Any = None

    def record(self, run: Callable[[], Recorded]) -> tuple[Callable[[], None], Recorded]:
        """Raises CaptureFailed; what else `run` raises passes through, the process is put in order all the same."""
        cuda = self._torch.cuda
        with cuda.device(self._device), self._generator_aside():
            if self._stream is None:
                self._stream = cuda.Stream()
            side = self._stream
            side.wait_stream(cuda.current_stream())
            try:
                with cuda.stream(side):
                    for _ in range(WARM_UP_RUNS):
                        run()
                cuda.current_stream().wait_stream(side)
                cuda.synchronize()
                cuda.empty_cache()
                graph = cuda.CUDAGraph()
                with cuda.stream(side):
                    made = self._captured(graph, run)
            except RuntimeError as error:  # torch's own kinds are all of it
                raise CaptureFailed(error) from error
        return graph.replay, made

    def host(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Zeros in pinned memory, which the device copies from and to by itself."""
        zeros: torch.Tensor = self._torch.zeros(shape, dtype=dtype, pin_memory=True)
        return zeros

    def wait(self) -> None:
        """Until all that was launched on the current stream is done."""
        self._torch.cuda.current_stream(self._device).synchronize()

    def _captured(self, graph: Any, run: Callable[[], Recorded]) -> Recorded:
        graph.capture_begin(pool=self._pool)
        finished = False
        try:
            made = run()
            finished = True
        finally:
            if not finished:
                with suppress(RuntimeError):  # the first error is the one to tell
                    self._end(graph)
        self._end(graph)
        return made

    def _end(self, graph: Any) -> None:
        """Raises RuntimeError where the capture was broken by what was launched in it."""
        ended = False
        try:
            graph.capture_end()
            ended = True
        finally:
            if not ended:
                self._give_up_pool()

    def _give_up_pool(self) -> None:
        """What `capture_end` does once a capture is whole. Graphs recorded before keep the old pool alive."""
        raw, index = self._torch._C, self._index()
        with suppress(RuntimeError):  # "not currently recording": the call came as far as this by itself
            raw._cuda_endAllocateToPool(index, self._pool)
        raw._cuda_releasePool(index, self._pool)
        self._pool, self._stream = self._torch.cuda.graph_pool_handle(), None

    @contextmanager
    def _generator_aside(self) -> Iterator[None]:
        generator = self._torch.cuda.default_generators[self._index()]
        kept = generator.graphsafe_get_state()
        generator.graphsafe_set_state(generator.clone_state())
        try:
            yield
        finally:
            generator.graphsafe_set_state(kept)

    def _index(self) -> int:
        return int(self._torch.cuda.current_device()) if self._device.index is None else self._device.index


class KeptGraphs(Generic[Key, Kept]):
    """The graphs used last, at most `max_graphs` of them; what is captured, dropped and lost is counted."""

    def __init__(self, max_graphs: int):
        self._max_graphs = max_graphs
        self._graphs: OrderedDict[Key, Kept] = OrderedDict()
        self.captures = self.evicted = self.failed = 0

    def __len__(self) -> int:
        return len(self._graphs)

    def of(self, key: Key, capture: Callable[[], Kept]) -> Kept:
        """The graph of `key`, captured where none is kept. A capture that fails leaves the others as they are."""
        if key not in self._graphs:
            try:
                made = capture()
            except CaptureFailed:
                self.failed += 1
                raise
            self._graphs[key] = made
            self.captures += 1
            if len(self._graphs) > self._max_graphs:
                self._graphs.popitem(last=False)
                self.evicted += 1
        self._graphs.move_to_end(key)
        return self._graphs[key]

    def steady_counters(self) -> dict[str, int]:
        """What may not move once the engine is warm."""
        return {"graph_captures": self.captures, "graphs_evicted": self.evicted}


def check_max_graphs(max_graphs: object, group: str = "engine") -> int:
    """Raises ConfigError where not one graph may be kept."""
    if not isinstance(max_graphs, int) or isinstance(max_graphs, bool) or max_graphs < 1:
        raise ConfigError(
            f"{group}.max_graphs", max_graphs, "must be a whole number from 1: so many graphs are kept", "use 16"
        )
    return max_graphs
