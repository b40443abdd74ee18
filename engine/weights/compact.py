"""Weights in a byte each: a tensor as int8, beside it NAME.scale, float16, one number a row of its first axis.

value = int8 * scale; the largest of a row is 127. For matrices and tables; vectors stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SCALE = ".scale"
LARGEST = 127


def compact(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """float32 by name -> what a file holds."""
    found: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if value.dim() < 2 or value.shape[0] == 1:
            found[name] = value.half()
            continue
        scale = (value.abs().flatten(1).amax(dim=1) / LARGEST).clamp(min=1e-7).half()
        found[name] = (value / _rows(scale, value.dim())).round().clamp(-LARGEST, LARGEST).char()
        found[name + SCALE] = scale
    return found


def scales_of(names: Iterable[str]) -> set[str]:
    """The names that are another's scale."""
    known = set(names)
    return {name for name in known if name.endswith(SCALE) and name.removesuffix(SCALE) in known}


def expanded(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a file holds -> float32 where it is compact, the rest as it is."""
    compacted = {name for name, value in state.items() if _is_compact(value, state.get(name + SCALE))}
    scales = {name + SCALE for name in compacted}
    return {
        name: value.float() * _rows(state[name + SCALE], value.dim()) if name in compacted else value
        for name, value in state.items()
        if name not in scales
    }


def _is_compact(value: torch.Tensor, scale: torch.Tensor | None) -> bool:
    import torch

    return scale is not None and value.dtype == torch.int8 and scale.shape == value.shape[:1]


def _rows(scale: torch.Tensor, dim: int) -> torch.Tensor:
    return scale.float().view(-1, *[1] * (dim - 1))
