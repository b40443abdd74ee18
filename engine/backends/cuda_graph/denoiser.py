"""The whole solve captured as one CUDA graph per (rows, frames, padded, grid) and replayed: no launches from Python.

A graph reads and writes fixed addresses, so a request's constants and noise are copied into the buffers that the graph
was captured with, and the mel is copied out. What the graph runs is the same loop, the same denoiser and the same
kernels as `StepSampler`'s, so its answer is bit-equal to theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from engine.contract import STEADY, Proof, UnsupportedEngine, counts_in
from engine.runtimes.cuda_graphs import CudaRecorder as CudaRecorder
from engine.runtimes.cuda_graphs import KeptGraphs, Recorder
from engine.runtimes.cuda_graphs import check_max_graphs as check_max_graphs
from engine.solver.guidance import Rows
from engine.solver.methods import SolverSpec
from engine.solver.sampler import planned_velocity
from engine.step.conditioner import Conditioning
from engine.step.placed import Placed

Key = tuple[int, int, bool, int]


class PlacingDenoiser(Protocol):
    """A denoiser whose constants can be placed first and used at the same addresses again."""

    @property
    def num_evals(self) -> int: ...

    def place(self, conditioning: Conditioning) -> Placed: ...

    def rows(self, placed: Placed) -> Rows: ...

    def proof(self) -> Proof: ...


@dataclass(frozen=True, eq=False, slots=True)
class Captured:
    """One recorded solve: the buffers it reads, the one it writes, how to run it, and what one run evaluates."""

    placed: Placed
    x0: torch.Tensor
    mel: torch.Tensor
    replay: Callable[[], None]
    counts: Mapping[str, int]


def check_capturable(solver: SolverSpec, device: str, max_batch: int) -> None:
    """Raises UnsupportedEngine for what no graph can hold, or where there is no CUDA."""
    if device == "cpu":
        raise UnsupportedEngine(
            "a CUDA graph needs a CUDA device and device.kind is cpu", "use device=cuda, or engine=compiled_bf16 here"
        )
    if not solver.is_static:
        raise UnsupportedEngine(
            f"solver={solver.name} decides from the data which steps to reuse, and a graph is fixed",
            "use solver.reuse=null or a schedule, or engine=compiled_bf16",
        )
    if solver.guidance.kind == "cfg_zero_star" and max_batch > 1:
        raise UnsupportedEngine(
            "CFG-Zero* reads the utterances' lengths, which a graph shared by batches would fix",
            "use engine.max_batch=1 with it",
        )


class GraphSampler:
    """Implements engine.solver.sampler.Sampler. Keeps the `max_graphs` graphs used last."""

    def __init__(self, denoiser: PlacingDenoiser, solver: SolverSpec, recorder: Recorder, max_graphs: int):
        self._denoiser, self._solver, self._recorder = denoiser, solver, recorder
        self._graphs: KeptGraphs[Key, Captured] = KeptGraphs(max_graphs)
        self._counts: Counter[str] = Counter()
        self._replays = 0
        self.num_evals = 0

    def sample(self, conditioning: Conditioning, x0: torch.Tensor, which: int = 0) -> torch.Tensor:
        """The mel is a copy: the graph's own buffer belongs to its next replay."""
        placed = self._denoiser.place(conditioning)
        key = (len(placed.projected), x0.shape[1], placed.padded, which)
        graph = self._graphs.of(key, lambda: self._capture(placed, conditioning, x0, which))
        copy_into(graph.placed, placed)
        graph.x0.copy_(x0)
        graph.replay()
        self._replays += 1
        self._counts.update(graph.counts)
        self.num_evals += graph.counts["evals"]
        return graph.mel.clone()

    def _capture(self, placed: Placed, conditioning: Conditioning, x0: torch.Tensor, which: int) -> Captured:
        static, static_x0 = copied(placed), x0.clone()
        rows, lengths = self._denoiser.rows(static), conditioning.lengths
        counts: Counter[str] = Counter()

        def run() -> torch.Tensor:
            counts.clear()
            before = self._denoiser.num_evals
            velocity = planned_velocity(rows, self._solver, which, lengths, counts)
            mel = self._solver.solve(velocity, static_x0, which)
            counts["evals"] = self._denoiser.num_evals - before
            return mel

        replay, mel = self._recorder.record(run)
        return Captured(static, static_x0, mel, replay, dict(counts))

    def proof(self) -> Proof:
        inner = self._denoiser.proof()
        steady = {**counts_in(inner, STEADY), **self._graphs.steady_counters()}
        own = {f"{kind}_evals": self._counts[kind] for kind in ("guided", "unguided", "reused", "zeroed")}
        return {
            **inner, **own, "num_evals": self.num_evals, "graph_replays": self._replays,
            "graphs_kept": len(self._graphs), "captures_failed": self._graphs.failed, STEADY: steady,
        }  # fmt: skip


def copied(placed: Placed) -> Placed:
    """The same constants in memory of their own; the tables of the length are shared, nobody writes them."""
    return replace(placed, **{name: tensor.clone() for name, tensor in placed.own().items()})


def copy_into(target: Placed, source: Placed) -> None:
    theirs = source.own()
    for name, mine in target.own().items():
        mine.copy_(theirs[name])
