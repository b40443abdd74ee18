"""Products in eight bits: what is stored, with which scales, and the same in PyTorch's terms.

Symmetric throughout, no zero points. A weight has one scale per output channel, made once from the weights as they
come. An activation has one scale per row where a kernel sees the whole row (behind a norm), and one per row and GROUP
columns where it sees a tile of it (behind GELU, behind attention): such a group is the depth of one tile of the next
product, whose exact sum is scaled as it is added.

Shape letters as in engine.backends.fused.launch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import nn

from engine.backends.fused.kernels import SMALLEST

GROUP = 128


@dataclass(frozen=True, slots=True)
class Form:
    """largest: the value that a scale brings the largest magnitude to; rounding_frac: half of the widest step between
    two values, over it."""

    name: str
    dtype: torch.dtype
    largest: float
    rounding_frac: float


INT8 = Form("int8", torch.int8, 127.0, 0.5 / 127)
FP8 = Form("fp8", torch.float8_e4m3fn, 448.0, 16.0 / 448)  # e4m3 without infinities: steps of 32 from 256 on
# precision -> (the type of everything that is no product of eight bits, what the blocks' linear layers multiply)
PRECISIONS: Mapping[str, tuple[torch.dtype, Form | None]] = {
    "bf16": (torch.bfloat16, None), "fp16": (torch.float16, None),
    "int8_bf16": (torch.bfloat16, INT8), "int8_fp16": (torch.float16, INT8),
    "fp8_bf16": (torch.bfloat16, FP8), "fp8_fp16": (torch.float16, FP8),
}  # fmt: skip


class Quantised(NamedTuple):
    """values (R, N, K) in a Form's dtype; scales float32, (R, N, 1) or (R, N, K / GROUP)."""

    values: torch.Tensor
    scales: torch.Tensor

    def plain(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """The numbers that are meant."""
        parts = self.values.to(dtype).unflatten(-1, (self.scales.shape[-1], -1))
        return (parts * self.scales.to(dtype)[..., None]).flatten(-2)


def quantised(values: torch.Tensor, form: Form, group: int | None = None) -> Quantised:
    """What the kernels make of (..., K), a scale for each `group` of columns or for the whole row; ties go to even."""
    parts = values.unflatten(-1, (-1, group or values.shape[-1]))
    scales = parts.abs().amax(-1).clamp(min=SMALLEST) / form.largest
    steps = parts / scales[..., None]
    if form.dtype == torch.int8:
        steps = steps.round()
    return Quantised(steps.clamp(-form.largest, form.largest).flatten(-2).to(form.dtype), scales)


class QuantisedLinear(nn.Module):
    """weight (O, K) in `form`, scales (O,) float32, bias (O,) of the type that it answers in."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, form: Form):
        super().__init__()
        self.form, (self.out_features, self.in_features) = form, weight.shape
        made = quantised(weight.detach().float(), form)
        self.weight = nn.Parameter(made.values.contiguous(), requires_grad=False)
        self.scales = nn.Parameter(made.scales[..., 0].contiguous(), requires_grad=False)
        self.bias = nn.Parameter(bias.detach(), requires_grad=False)

    def plain(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return Quantised(self.weight, self.scales[:, None]).plain(dtype)


Linear: TypeAlias = nn.Linear | QuantisedLinear
Operand: TypeAlias = torch.Tensor | Quantised


def plain_weight(linear: Linear, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(O, K), the numbers that are meant."""
    return linear.plain(dtype) if isinstance(linear, QuantisedLinear) else linear.weight.to(dtype)


def plain_operand(a: Operand, linear: Linear, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """What `linear` multiplies where it is given a: a half type before eight bits is quantised by groups on its way."""
    if isinstance(a, Quantised):
        return a.plain(dtype)
    if isinstance(linear, QuantisedLinear):
        return quantised(a.float(), linear.form, GROUP).plain(dtype)
    return a.to(dtype)
