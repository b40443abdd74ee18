"""Classifier-free guidance: the rows of one evaluation -> the velocity."""

from __future__ import annotations

from collections.abc import Callable

import torch

from engine.solver import Velocity

UNGUIDED_BELOW = 1e-5  # upstream's bound

Rows = Callable[[torch.Tensor, int, bool], torch.Tensor]
"""(x (B, N, D) float32, evaluation index, guided) -> (B, N, D), or (2B, N, D) with the unconditional rows last."""


def guided_velocity(rows: Rows, strength: float) -> Velocity:
    """Upstream's pred + (pred - null) * strength, as one interpolation."""
    if strength < UNGUIDED_BELOW:
        return lambda x, index: rows(x, index, False)

    def velocity(x: torch.Tensor, index: int) -> torch.Tensor:
        conditional, unconditional = rows(x, index, True).chunk(2)
        return torch.lerp(unconditional, conditional, 1 + strength)

    return velocity
