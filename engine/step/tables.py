"""What depends on the time alone, computed once for all evaluations."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False, slots=True)
class Tables:
    """Everything that depends on t only: modulation (E, L, 6, C) and final (E, 2, C), float32; for a UNetT the time's
    embedding (E, C) and nothing, (E, 0)."""

    modulation: torch.Tensor
    final: torch.Tensor
