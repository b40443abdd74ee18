"""The fused step behind the eager denoiser: constants placed as its kernels read them, shapes measured before."""

from __future__ import annotations

from dataclasses import replace

import torch

from engine.backends.eager.denoiser import EagerDenoiser
from engine.backends.fused.choose import Choices
from engine.backends.fused.eight_bits import QuantisedLinear
from engine.backends.fused.step import FusedStep, channels_last
from engine.contract import Proof
from engine.solver.guidance import Rows
from engine.step.conditioner import Conditioning
from engine.step.placed import Placed


class FusedDenoiser:
    """Implements engine.solver.sampler.Denoiser, in the two halves that a captured solve needs."""

    def __init__(self, inner: EagerDenoiser, step: FusedStep, choices: Choices):
        """inner: around `step`, whose plans the choices are."""
        self._inner, self._step, self._choices = inner, step, choices

    @property
    def num_evals(self) -> int:
        return self._inner.num_evals

    def bind(self, conditioning: Conditioning) -> Rows:
        return self.rows(self.place(conditioning))

    def place(self, conditioning: Conditioning) -> Placed:
        """Measures a shape that is new, which no capture could hold."""
        placed = self._inner.place(conditioning)
        rows, num_frames, _ = placed.projected.shape
        for used in {placed.batch, rows}:  # a guided pair, and what an unguided evaluation takes of it
            self._choices.prepare(used, num_frames, placed.padded)
        return replace(placed, convolved=with_channels_innermost(placed.convolved))

    def rows(self, placed: Placed) -> Rows:
        return self._inner.rows(placed)

    def proof(self) -> Proof:
        return {
            **self._inner.proof(),
            "quantized_linears": sum(isinstance(child, QuantisedLinear) for child in self._step.modules()),
            "kernel_launches": dict(self._step.kernels.launched),
            "counters": [
                {"rows": rows, "masked": masked, **counted}
                for (rows, masked, _), counted in self._step.counters.items()
            ],
            "chosen_kernels": self._choices.proof(),
            "steady_counters": {"shapes_measured": self._choices.num_measured},
        }


def with_channels_innermost(convolved: torch.Tensor) -> torch.Tensor:
    """(R, C, N), the same values."""
    return channels_last(convolved).transpose(1, 2)
