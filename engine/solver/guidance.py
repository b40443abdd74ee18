"""Classifier-free guidance: the rows of one evaluation -> the velocity.

cfg: upstream's pred + (pred - null) * strength. cfg_zero_star: CFG-Zero* (arXiv 2503.18886), where the unconditional
branch is first scaled by its projection on the conditional one, s = <pred, null> / <null, null>, per utterance over all
of its own frames and bins (reference frames included, padding not); pred + (pred - s null) * strength. The other half
of the paper, zero velocity in the first steps, is in the solver's plan. Where the strength is 0 the unconditional rows
are not evaluated at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from engine.solver.plan import UNGUIDED_BELOW as UNGUIDED_BELOW
from engine.solver.plan import Evaluation

Rows = Callable[[torch.Tensor, int, bool], torch.Tensor]
"""(x (B, N, D) float32, evaluation index, guided) -> (B, N, D), or (2B, N, D) with the unconditional rows last."""


def evaluate(rows: Rows, kind: str, lengths: Sequence[int], x: torch.Tensor, point: Evaluation) -> torch.Tensor:
    """One real evaluation: (B, N, D). lengths: frames of each utterance, the rest is padding."""
    if not point.guided:
        return rows(x, point.index, False)
    conditional, unconditional = rows(x, point.index, True).chunk(2)
    if kind == "cfg_zero_star":
        unconditional = projection(conditional, unconditional, lengths) * unconditional
    return torch.lerp(unconditional, conditional, 1 + point.strength)


def projection(conditional: torch.Tensor, unconditional: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """<c, u> / <u, u> per utterance over its own frames: (B, 1, 1)."""
    inner, norm = conditional * unconditional, unconditional.square()
    if min(lengths) < conditional.shape[1]:
        own = own_frames(lengths, conditional)
        inner, norm = inner * own, norm * own
    return inner.sum((1, 2), keepdim=True) / (norm.sum((1, 2), keepdim=True) + 1e-8)


def own_frames(lengths: Sequence[int], like_BND: torch.Tensor) -> torch.Tensor:
    """(B, N, 1): 1 where a frame belongs to the utterance, 0 in the padding."""
    positions = torch.arange(like_BND.shape[1], device=like_BND.device)
    ends = torch.tensor(list(lengths), device=like_BND.device)
    return (positions[None] < ends[:, None])[..., None].to(like_BND.dtype)
