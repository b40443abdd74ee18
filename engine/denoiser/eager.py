"""The step run eagerly by PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from engine.precision import PreparedStep, count_quantized, weight_histogram
from engine.step import Arch, rope_table


@dataclass(frozen=True, eq=False, slots=True)
class Tables:
    """Everything that depends on t only: modulation (E, L, 6, C) and final (E, 2, C), float32."""

    modulation: torch.Tensor
    final: torch.Tensor


class EagerDenoiser:
    """Binds an utterance's constants to a velocity function; counts its evaluations."""

    name = "eager"

    def __init__(self, prepared: PreparedStep, arch: Arch, tables: Tables, cfg_strength: float, device: str):
        self._step = prepared.module.to(device).eval()
        self._dtype, self._autocast, self._device = prepared.dtype, prepared.autocast, device
        self._arch, self._cfg_strength = arch, cfg_strength
        self._modulation = tables.modulation.to(device, self._dtype)
        self._final = tables.final.to(device, self._dtype)
        self._rope: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.num_evals = 0

    def _rope_of(self, num_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        if num_frames not in self._rope:
            cos, sin = rope_table(num_frames, self._arch)
            self._rope[num_frames] = (cos.to(self._device, self._dtype), sin.to(self._device, self._dtype))
        return self._rope[num_frames]

    def bind(self, projected: torch.Tensor, convolved: torch.Tensor) -> Callable[[torch.Tensor, int], torch.Tensor]:
        """projected (R, N, C), convolved (R, C, N) -> velocity of x (1, N, D) float32 at an evaluation index."""
        guided = projected.shape[0] == 2
        projected = projected.to(self._device, self._dtype)
        convolved = convolved.to(self._device, self._dtype)
        cos, sin = self._rope_of(projected.shape[1])
        device_type = torch.device(self._device).type

        def velocity(x: torch.Tensor, index: int) -> torch.Tensor:
            self.num_evals += 1
            context: Any = torch.autocast(device_type, self._autocast) if self._autocast else nullcontext()
            with context:
                rows = self._step(
                    x.to(self._dtype), projected, convolved, cos, sin, self._modulation[index], self._final[index]
                )
            rows = rows.float()
            if not guided:
                return rows
            conditional, unconditional = rows.chunk(2)
            return torch.lerp(unconditional, conditional, 1 + self._cfg_strength)

        return velocity

    def proof(self) -> Mapping[str, Any]:
        return {
            "num_evals": self.num_evals,
            "weight_elements_by_dtype": weight_histogram(self._step),
            "quantized_linears": count_quantized(self._step),
            "autocast": str(self._autocast).removeprefix("torch.") if self._autocast else None,
        }
