"""The step run eagerly by PyTorch."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from engine.conditioner import Conditioning
from engine.settings import Proof
from engine.solver.guidance import Rows
from engine.step.dit import Arch, Masks, padding_masks, rope_table
from engine.step.kept import KeptTables
from engine.step.precision import PreparedStep, count_packed, count_quantized, weight_histogram
from engine.step.tables import Tables


@dataclass(frozen=True, eq=False, slots=True)
class Placed:
    """A batch's constants on the device in the step's dtype: all that an evaluation reads beside x and the tables.
    projected (R, N, C), convolved (R, C, N), cos and sin (N, 1 or H, dim_head); masks where utterances are padded."""

    batch: int
    projected: torch.Tensor
    convolved: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor
    masks: Masks | None


class EagerDenoiser:
    """Implements engine.solver.sampler.Denoiser. `place` and `rows` are the two halves of `bind`, for backends that
    keep the constants at fixed addresses."""

    def __init__(self, prepared: PreparedStep, arch: Arch, tables: Tables, device: str):
        self._step = prepared.module.to(device).eval()
        self._dtype, self._autocast, self._device = prepared.dtype, prepared.autocast, device
        self._arch = arch
        self._modulation = tables.modulation.to(device, self._dtype)
        self._final = tables.final.to(device, self._dtype)
        self._rope = KeptTables(self._rope_table)
        self.num_evals = 0

    def _rope_table(self, num_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        cos, sin = rope_table(num_frames, self._arch)
        return cos.to(self._device, self._dtype), sin.to(self._device, self._dtype)

    def bind(self, conditioning: Conditioning) -> Rows:
        return self.rows(self.place(conditioning))

    def place(self, conditioning: Conditioning, masked: bool = False) -> Placed:
        """masked: with masks also where nothing is padded."""
        cos, sin = self._rope.of(conditioning.num_frames)
        masks = None
        if masked or conditioning.padded:
            rows, num_frames = len(conditioning.projected), conditioning.num_frames
            frames, keys = padding_masks(conditioning.lengths, rows, num_frames, self._dtype)
            masks = frames.to(self._device), keys.to(self._device)
        return Placed(
            len(conditioning.lengths), conditioning.projected.to(self._device, self._dtype),
            conditioning.convolved.to(self._device, self._dtype), cos, sin, masks,
        )  # fmt: skip

    def rows(self, placed: Placed) -> Rows:
        device_type = torch.device(self._device).type

        def rows(x: torch.Tensor, index: int, guided: bool) -> torch.Tensor:
            self.num_evals += 1
            used = slice(None) if guided else slice(placed.batch)
            masks = None if placed.masks is None else (placed.masks[0][used], placed.masks[1][used])
            context: Any = torch.autocast(device_type, self._autocast) if self._autocast else nullcontext()
            with context:
                velocity = self._step(
                    x.to(self._dtype), placed.projected[used], placed.convolved[used], placed.cos, placed.sin,
                    self._modulation[index], self._final[index], masks,
                )  # fmt: skip
            return velocity.float()

        return rows

    def proof(self) -> Proof:
        return {
            "num_evals": self.num_evals,
            "weight_elements_by_dtype": weight_histogram(self._step),
            "quantized_linears": count_quantized(self._step),
            "packed_linears": count_packed(self._step),
            "autocast": str(self._autocast).removeprefix("torch.") if self._autocast else None,
        }
