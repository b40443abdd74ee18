"""The step run eagerly by PyTorch."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch

from engine.contract import Proof
from engine.solver.guidance import Rows
from engine.step.conditioner import Conditioning
from engine.step.dit import Arch, rope_table
from engine.step.kept import KeptTables
from engine.step.placed import Placed
from engine.step.precision import PreparedStep, count_packed, count_quantized, weight_histogram
from engine.step.tables import Tables


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
        return Placed.of(conditioning, self._rope.of(conditioning.num_frames), self._dtype, masked)

    def rope(self, num_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin of a length, on the device in the step's dtype."""
        return self._rope.of(num_frames)

    def rows(self, placed: Placed) -> Rows:
        device_type = torch.device(self._device).type

        def rows(x: torch.Tensor, index: int, guided: bool) -> torch.Tensor:
            self.num_evals += 1
            inputs = placed.at(x.to(self._dtype), self._modulation[index], self._final[index], guided)
            context: Any = torch.autocast(device_type, self._autocast) if self._autocast else nullcontext()
            with context:
                velocity = self._step(inputs)
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
