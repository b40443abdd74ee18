"""One graph a call: the host fills pinned buffers, launches one captured graph, waits once and reads the answer.

Lengths share a graph by classes (engine.step.batching.length_class), their padding masked; numbers of rows share it by
powers of two, the rows that nobody asked for one frame long. In the graph: the copy in, text embedding, conditioning,
the solve, the vocoder, loudness, the copy out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from engine.backends.cuda_graph.call import FRAMES, REF_FRAMES, REF_ROWS, Buffers, Call, Shape
from engine.clock import Clock
from engine.contract import STEADY, Proof, counts_in
from engine.runtimes.cuda_graphs import KeptGraphs, Recorder
from engine.speaking import Job, Said, Spoken
from engine.step.batching import length_class
from engine.step.masked import source_row, token_row
from engine.vocoders.vocos import Vocoder, with_vocoder

REF_GRAIN = 128  # references of lengths that share it are cut off before the vocoder, up to their common multiple


class Machine(Recorder, Protocol):
    """A recorder with what stands around a replay: `host(shape, dtype)` gives zeros that the device can copy from and
    to by itself, `wait()` returns when all that was launched is done."""

    def host(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor: ...

    def wait(self) -> None: ...


@dataclass(frozen=True, eq=False, slots=True)
class _Captured:
    """A recorded call; `kept` are the tensors that it reads where they lie."""

    buffers: Mapping[str, np.ndarray]
    mel_BVD: torch.Tensor
    audio_BS: torch.Tensor
    replay: Callable[[], None]
    counts: Mapping[str, int]
    kept: Sequence[object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """max_batch: rows of one call at most; max_graphs: kept at most; mel_bins: D; hop: samples a frame."""

    max_batch: int
    max_graphs: int
    mel_bins: int
    hop: int


class GraphSpeaker:
    """Implements engine.speaking.Speaker. vocoder: the one whose form `call` holds."""

    def __init__(self, call: Call, machine: Machine, limits: Limits, device: str, clock: Clock, vocoder: Vocoder):
        self._call, self._machine, self._limits, self._clock = call, machine, limits, clock
        self._device, self._vocoder = torch.device(device), vocoder
        self._graphs: KeptGraphs[Shape, _Captured] = KeptGraphs(limits.max_graphs)
        self._counts: Counter[str] = Counter()
        self._replays = self._rows = self._own_rows = 0

    def speak(self, jobs: Sequence[Job]) -> Said:
        started_s = self._clock.now_s()
        spoken: dict[int, Spoken] = {}
        for shape, places in self._batches(jobs):
            own = [jobs[i] for i in places]
            spoken.update(zip(places, self._speak_batch(shape, own), strict=True))
        return Said([spoken[i] for i in range(len(jobs))], self._clock.now_s() - started_s, 0.0)

    def _batches(self, jobs: Sequence[Job]) -> list[tuple[Shape, list[int]]]:
        """Jobs of one grid, class of lengths and class of references share a graph."""
        groups: dict[tuple[int, int, int], list[int]] = {}
        for i, job in enumerate(jobs):
            frames = length_class(job.chunk.num_frames)
            key = (job.grid, frames, job.chunk.ref_frames // REF_GRAIN * REF_GRAIN)
            groups.setdefault(key, []).append(i)
        found = []
        for (grid, frames, cut), places in sorted(groups.items()):
            for first in range(0, len(places), self._limits.max_batch):
                batch = places[first : first + self._limits.max_batch]
                rows = min(1 << (len(batch) - 1).bit_length(), self._limits.max_batch)
                found.append((Shape(rows, frames, frames - cut, grid), batch))
        return found

    def _speak_batch(self, shape: Shape, jobs: Sequence[Job]) -> list[Spoken]:
        graph = self._graphs.of(shape, lambda: self._capture(shape))
        for row in range(shape.rows):
            if row < len(jobs):
                self._fill(graph.buffers, row, jobs[row])
            else:
                graph.buffers["sizes"][row] = (1, 0, 0)
        graph.replay()
        self._machine.wait()
        self._replays += 1
        self._rows, self._own_rows = self._rows + shape.rows, self._own_rows + len(jobs)
        self._counts.update(graph.counts)
        return [self._read(graph, row, job) for row, job in enumerate(jobs)]

    def _fill(self, into: Mapping[str, np.ndarray], row: int, job: Job) -> None:
        chunk, mel_ND = job.chunk, job.prepared.reference.mel_ND.numpy()
        token_row(chunk.token_ids, chunk.num_frames, into["tokens"][row])
        if self._call.conditioner.spreads:
            source_row(min(len(chunk.token_ids), chunk.num_frames), chunk.num_frames, into["source"][row])
        into["mel"][row, : len(mel_ND)] = mel_ND
        into["mel"][row, len(mel_ND) :] = 0.0
        into["x0"][row, : chunk.num_frames] = job.noise_ND.numpy()
        into["x0"][row, chunk.num_frames :] = 0.0
        into["gain"][row] = job.prepared.gain
        sizes = into["sizes"][row]
        sizes[FRAMES], sizes[REF_ROWS], sizes[REF_FRAMES] = chunk.num_frames, len(mel_ND), chunk.ref_frames

    def _read(self, graph: _Captured, row: int, job: Job) -> Spoken:
        """Copies: the buffers belong to the next call."""
        frames = job.chunk.num_frames - job.chunk.ref_frames
        wave_S = graph.audio_BS[row, : (frames - 1) * self._limits.hop].numpy().copy()
        return Spoken(graph.mel_BVD[row, :frames].clone(), wave_S, graph.counts["evals"])

    def _capture(self, shape: Shape) -> _Captured:
        call, machine, bins = self._call, self._machine, self._limits.mel_bins
        host = Buffers.of(shape, bins, machine.host)
        host.sizes[:, FRAMES] = 1
        device = Buffers.of(shape, bins, lambda size, dtype: torch.zeros(size, dtype=dtype, device=self._device))
        tables = call.tables_of(shape)
        mel_BVD = machine.host((shape.rows, shape.vocoded, bins), torch.float32)
        audio_BS = machine.host((shape.rows, (shape.vocoded - 1) * self._limits.hop), torch.float32)
        counts: Counter[str] = Counter()

        def run() -> tuple[torch.Tensor, torch.Tensor]:
            counts.clear()
            for mine, theirs in zip(device.all(), host.all(), strict=True):
                mine.copy_(theirs, non_blocking=True)
            mel, audio = call.run(device, shape, tables, counts)
            return mel_BVD.copy_(mel, non_blocking=True), audio_BS.copy_(audio, non_blocking=True)

        replay, _ = machine.record(run)
        return _Captured(host.arrays(), mel_BVD, audio_BS, replay, dict(counts), (host, device, tables))

    def proof(self) -> Proof:
        """rows_asked of rows_run: what the powers of two cost."""
        inner = self._call.denoiser.proof()
        steady = {**counts_in(inner, STEADY), **self._graphs.steady_counters()}
        own = {f"{kind}_evals": self._counts[kind] for kind in ("guided", "unguided", "reused", "zeroed")}
        counted = {
            **inner, **own, "num_evals": self._counts["evals"], "graph_replays": self._replays,
            "graphs_kept": len(self._graphs), "captures_failed": self._graphs.failed, "rows_run": self._rows,
            "rows_asked": self._own_rows, "steady_counters": steady,
        }  # fmt: skip
        return with_vocoder(counted, self._vocoder)
