"""A whole call as operations on device tensors alone: text and reference in, mel and sound out, nothing asked of the
host in between. What a graph of the call holds.

Shape letters: B rows, N frames (a class of lengths), V frames that are vocoded, D mel bins, S samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from engine.contract import Proof
from engine.solver.guidance import Rows
from engine.solver.methods import SolverSpec
from engine.solver.sampler import planned_velocity
from engine.step.masked import MaskedConditioner, MaskedInputs
from engine.step.placed import Placed
from engine.vocoders.real import own_frames

FRAMES, REF_ROWS, REF_FRAMES = range(3)  # columns of `sizes`


class MaskedDenoiser(Protocol):
    """A denoiser whose rows run on constants that were placed with masks, on the device."""

    @property
    def num_evals(self) -> int: ...

    def rope(self, num_frames: int) -> tuple[torch.Tensor, torch.Tensor]: ...

    def rows(self, placed: Placed) -> Rows: ...

    def proof(self) -> Proof: ...


Form = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""The vocoder: mel (B, D, V), own (B, V) -> audio (B, (V - 1) * hop)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Of one graph. vocoded: V, the frames that are left where the shortest reference of a class is cut off."""

    rows: int
    frames: int
    vocoded: int
    grid: int


@dataclass(frozen=True, eq=False, slots=True)
class Buffers:
    """What a call reads, on the host or on the device: tokens and source (B, N) int64; sizes (B, 3) int64, frames of
    the row, rows of its reference's mel, frames that are cut off; mel and x0 (B, N, D), gain (B, 1) float32."""

    tokens: torch.Tensor
    source: torch.Tensor
    sizes: torch.Tensor
    mel: torch.Tensor
    x0: torch.Tensor
    gain: torch.Tensor

    @staticmethod
    def of(shape: Shape, mel_bins: int, make: Callable[[tuple[int, ...], torch.dtype], torch.Tensor]) -> Buffers:
        """make: a tensor of a shape and dtype, zeros."""
        rows, frames = shape.rows, shape.frames
        return Buffers(
            tokens=make((rows, frames), torch.int64), source=make((rows, frames), torch.int64),
            sizes=make((rows, 3), torch.int64), mel=make((rows, frames, mel_bins), torch.float32),
            x0=make((rows, frames, mel_bins), torch.float32), gain=make((rows, 1), torch.float32),
        )  # fmt: skip

    def all(self) -> tuple[torch.Tensor, ...]:
        return self.tokens, self.source, self.sizes, self.mel, self.x0, self.gain

    def arrays(self) -> dict[str, np.ndarray]:
        """Of buffers on the host: the same memory."""
        names = ("tokens", "source", "sizes", "mel", "x0", "gain")
        return {name: tensor.numpy() for name, tensor in zip(names, self.all(), strict=True)}


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Call:
    """What every call of an engine is made of."""

    conditioner: MaskedConditioner
    denoiser: MaskedDenoiser
    solver: SolverSpec
    form: Form

    def run(
        self, of: Buffers, shape: Shape, tables: tuple[torch.Tensor, ...], counts: Counter[str]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """mel (B, V, D) and audio (B, (V - 1) * hop) at the voice's loudness; a row's own frames and samples come
        first. tables: of `tables_of`; counts: gains the evaluations by kind, and `evals`, all of them."""
        positions, *rope = tables
        before = self.denoiser.num_evals
        own = own_frames(of.sizes[:, FRAMES], shape.frames)
        source = of.source if self.conditioner.spreads else None
        inputs = MaskedInputs(of.tokens, source, of.mel, own)
        projected, convolved = self.conditioner.constants(inputs, positions, self.solver.guided)
        placed = Placed.masked(projected, convolved, own, (rope[0], rope[1]))
        velocity = planned_velocity(self.denoiser.rows(placed), self.solver, shape.grid, (), counts)
        x = self.solver.solve(velocity, of.x0, shape.grid)
        # Upstream writes the reference back over its own frames, with a centred mel one more than it cuts off
        is_reference = own_frames(of.sizes[:, REF_ROWS], shape.frames)[..., None] > 0
        mel = generated(torch.where(is_reference, of.mel, x), of.sizes[:, REF_FRAMES], shape.vocoded)
        made = own_frames(of.sizes[:, FRAMES] - of.sizes[:, REF_FRAMES], shape.vocoded)
        audio = self.form(mel.transpose(1, 2), made) * of.gain
        counts["evals"] = self.denoiser.num_evals - before
        return mel, audio

    def tables_of(self, shape: Shape) -> tuple[torch.Tensor, ...]:
        """What depends on the length alone. Whoever holds a graph holds these too: it reads them where they lie."""
        return (self.conditioner.positions(shape.frames), *self.denoiser.rope(shape.frames))


def generated(x_BND: torch.Tensor, cut_B: torch.Tensor, num_frames: int) -> torch.Tensor:
    """(B, V, D): each row from its cut on; beyond its end the last frame again."""
    places = torch.arange(num_frames, device=x_BND.device) + cut_B[:, None]
    places = places.clamp(max=x_BND.shape[1] - 1)
    return x_BND.gather(1, places[..., None].expand(-1, -1, x_BND.shape[2]))
