"""The step run eagerly by PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from engine.conditioner import Conditioning
from engine.guidance import Rows
from engine.precision import PreparedStep, count_packed, count_quantized, weight_histogram
from engine.step import Arch, padding_masks, rope_table


@dataclass(frozen=True, eq=False, slots=True)
class Tables:
    """Everything that depends on t only: modulation (E, L, 6, C) and final (E, 2, C), float32."""

    modulation: torch.Tensor
    final: torch.Tensor


class EagerDenoiser:
    """Implements engine.sampler.Denoiser."""

    def __init__(self, prepared: PreparedStep, arch: Arch, tables: Tables, device: str):
        self._step = prepared.module.to(device).eval()
        self._dtype, self._autocast, self._device = prepared.dtype, prepared.autocast, device
        self._arch = arch
        self._modulation = tables.modulation.to(device, self._dtype)
        self._final = tables.final.to(device, self._dtype)
        self._rope: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.num_evals = 0

    def _rope_of(self, num_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        if num_frames not in self._rope:
            cos, sin = rope_table(num_frames, self._arch)
            self._rope[num_frames] = (cos.to(self._device, self._dtype), sin.to(self._device, self._dtype))
        return self._rope[num_frames]

    def bind(self, conditioning: Conditioning) -> Rows:
        batch = len(conditioning.lengths)
        projected = conditioning.projected.to(self._device, self._dtype)
        convolved = conditioning.convolved.to(self._device, self._dtype)
        cos, sin = self._rope_of(conditioning.num_frames)
        frames = keys = None
        if conditioning.padded:
            frames, keys = padding_masks(conditioning.lengths, len(projected), conditioning.num_frames, self._dtype)
            frames, keys = frames.to(self._device), keys.to(self._device)
        device_type = torch.device(self._device).type

        def rows(x: torch.Tensor, index: int, guided: bool) -> torch.Tensor:
            self.num_evals += 1
            used = slice(None) if guided else slice(batch)
            masks = None if frames is None or keys is None else (frames[used], keys[used])
            context: Any = torch.autocast(device_type, self._autocast) if self._autocast else nullcontext()
            with context:
                velocity = self._step(
                    x.to(self._dtype), projected[used], convolved[used], cos, sin,
                    self._modulation[index], self._final[index], masks,
                )  # fmt: skip
            return velocity.float()

        return rows

    def proof(self) -> Mapping[str, Any]:
        return {
            "num_evals": self.num_evals,
            "weight_elements_by_dtype": weight_histogram(self._step),
            "quantized_linears": count_quantized(self._step),
            "packed_linears": count_packed(self._step),
            "autocast": str(self._autocast).removeprefix("torch.") if self._autocast else None,
        }
