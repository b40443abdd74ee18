"""Scaled dot-product attention as two kernels with one meaning: softmax(q k' / sqrt(d) + mask) v.

Shape letters: R rows, H heads, N frames, d dim_head.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
"""q, k, v (R, H, N, d), key_mask (R, 1, 1, N) or None -> (R, H, N, d)."""

SCORES_MAX_BYTES = 16 * 2**20


def flash(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, key_mask: torch.Tensor | None) -> torch.Tensor:
    """PyTorch's fused kernel: scores never reach memory."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=key_mask)


def small_gemm(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, key_mask: torch.Tensor | None) -> torch.Tensor:
    """Two batched matrix products while the scores stay in cache, `flash` beyond that.

    On CPUs with bfloat16 instructions but without tiles PyTorch's fused kernel runs at float32's speed; oneDNN's
    products run at twice that. With tiles the fused kernel is the faster one while this takes the products (1.3 to 1.9
    times up to 330 frames, 4 times with 16 heads and 512), see `bfloat16_on_cpu`.
    """
    rows, heads, frames, dim = q.shape
    if rows * heads * frames * frames * q.element_size() > SCORES_MAX_BYTES:
        return flash(q, k, v, key_mask)
    scores = torch.bmm((q * dim**-0.5).reshape(-1, frames, dim), k.transpose(2, 3).reshape(-1, dim, frames))
    scores = scores.view(rows, heads, frames, frames)
    if key_mask is not None:
        scores = scores + key_mask
    weights = torch.softmax(scores, dim=-1)
    return torch.bmm(weights.view(-1, frames, frames), v.reshape(-1, frames, dim)).view(rows, heads, frames, dim)


def has_tiles() -> bool:
    """Whether this CPU multiplies bfloat16 in tiles (AMX) and this torch knows."""
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return supported is not None and bool(supported())


def bfloat16_on_cpu() -> Attend:
    """The faster of the two in bfloat16 on this CPU."""
    return flash if has_tiles() else small_gemm
