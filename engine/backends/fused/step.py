"""The DiT's step as kernels of our own: what `DiTStep.forward` computes, in at most eight launches a block.

Shape letters as in engine.step.dit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from engine.backends.fused.eight_bits import GROUP, Form, Linear, QuantisedLinear
from engine.backends.fused.launch import DIM_HEAD, Kernels, Rope, Tile, by_taps, pairs_beside
from engine.backends.fused.watch import PyTorchsWork
from engine.contract import UnsupportedEngine
from engine.step.dit import Arch, Block, DiTStep
from engine.step.inputs import StepInputs

INSTEAD = "use engine=cuda_graph or cuda_graph_compiled"
WIDTH_STEP, HIDDEN_STEP = 256, 64  # sixteen channels a group of the convolutions; the depth of a tile


@dataclass(frozen=True, slots=True)
class Plan:
    """Who does what for one shape: tiles of our own products, None where cuBLASLt does it; attention by name."""

    qkv: Tile | None
    out: Tile
    ff_in: Tile | None
    ff_out: Tile
    attention: str


Plans = Callable[[int, int, bool], Plan]
"""(rows, frames, masked) -> the plan."""


def refuse_arch(arch: Arch, eight_bits: bool = False) -> None:
    """Raises UnsupportedEngine for a DiT that the kernels are not laid out for."""
    if arch.depth < 1:
        raise UnsupportedEngine(f"model.arch.depth={arch.depth} leaves nothing to evaluate", "use a positive depth")
    if arch.dim_head != DIM_HEAD:
        raise UnsupportedEngine(f"the kernels are laid out for model.arch.dim_head=64, not {arch.dim_head}", INSTEAD)
    for name, value, step in (
        ("dim", arch.dim, WIDTH_STEP),
        ("dim x ff_mult", int(arch.dim * arch.ff_mult), GROUP if eight_bits else HIDDEN_STEP),
        ("heads x dim_head", arch.heads * DIM_HEAD, GROUP if eight_bits else DIM_HEAD),
    ):
        if value % step:
            raise UnsupportedEngine(f"the kernels need model.arch.{name} in multiples of {step}, not {value}", INSTEAD)


def parameter(values: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().contiguous(), requires_grad=False)


class FusedBlock(nn.Module):
    """One DiT block; weights are those of `block`, q and k reordered: cast to dtype, or in eight bits where there is a
    form of them, made of the weights as they come."""

    def __init__(self, block: Block, dtype: torch.dtype, form: Form | None):
        super().__init__()
        self.heads, self._form = block.heads, form
        qkv = nn.Linear(block.qkv.in_features, block.qkv.out_features, device="meta")
        qkv.weight = parameter(pairs_beside(block.qkv.weight, block.heads))
        qkv.bias = parameter(pairs_beside(block.qkv.bias, block.heads))
        self.qkv, self.out, self.ff_in, self.ff_out = (
            made_of(linear, dtype, form) for linear in (qkv, block.out, block.ff_in, block.ff_out)
        )

    def forward(
        self, x: torch.Tensor, modulation: torch.Tensor, rope: Rope, key_mask: torch.Tensor | None,
        by: tuple[Kernels, Plan],
    ) -> torch.Tensor:  # fmt: skip
        kernels, plan = by
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = modulation.unbind(0)
        normed = kernels.norm_modulate(x, scale_a, shift_a, self._form)
        qkv = kernels.rope_product(normed, self.qkv, rope, plan.qkv)
        mixed = kernels.attention(qkv, self.heads, key_mask, plan.attention)
        x = kernels.gated_product(mixed, self.out, gate_a, x, plan.out)
        normed = kernels.norm_modulate(x, scale_f, shift_f, self._form)
        hidden = kernels.gelu_product(normed, self.ff_in, plan.ff_in)
        return kernels.gated_product(hidden, self.ff_out, gate_f, x, plan.ff_out)


def made_of(linear: nn.Linear, dtype: torch.dtype, form: Form | None) -> Linear:
    if form is None:
        return linear.to(dtype)
    return QuantisedLinear(linear.weight, linear.bias.to(dtype), form)


class FusedStep(nn.Module):
    """One evaluation for all rows, with the weights of `step`, which is used up. dtype: of everything but products of
    eight bits. `counters` has one entry for every kind of evaluation, of the first one of its kind."""

    def __init__(self, step: DiTStep, plans: Plans, dtype: torch.dtype, form: Form | None = None):
        super().__init__()
        refuse_arch(step.arch, form is not None)
        self.kernels, self._plans, self._heads = Kernels(), plans, step.arch.heads
        self.counters: dict[tuple[int, bool, Plan], dict[str, object]] = {}
        self.x_proj, self.proj_out = step.x_proj.to(dtype), step.proj_out.to(dtype)
        self.conv1, self.conv2 = (parameter(by_taps(conv.weight.to(dtype))) for conv in (step.conv1, step.conv2))
        self.conv2_bias = parameter(step.conv2.bias.to(dtype))
        self.blocks = nn.ModuleList([FusedBlock(block, dtype, form) for block in step.blocks])

    def forward(self, inputs: StepInputs) -> torch.Tensor:
        """As `DiTStep.forward`, with the channels of `convolved` innermost in memory -> velocity per row (R, N, D)."""
        rows, num_frames, _ = inputs.projected.shape
        masked = inputs.keys is not None
        plan = self._plans(rows, num_frames, masked)
        kind = rows, masked, plan
        if kind in self.counters:
            return self._evaluate(inputs, plan)
        launched, moved_bytes = Counter(self.kernels.launched), self.kernels.moved_bytes
        with PyTorchsWork() as work:
            velocity = self._evaluate(inputs, plan)
        self.counters[kind] = {
            "num_frames": num_frames, "launched": dict(self.kernels.launched - launched),
            "moved_bytes": self.kernels.moved_bytes - moved_bytes, "eager": dict(work.elementwise),
            "eager_bytes": work.moved_bytes,
        }  # fmt: skip
        return velocity

    def _evaluate(self, inputs: StepInputs, plan: Plan) -> torch.Tensor:
        h = self._embed(inputs)
        rope = Rope(inputs.cos, inputs.sin, self._heads)
        for block, row in zip(self.blocks, inputs.modulation.unbind(0), strict=True):
            h = block(h, row, rope, inputs.keys, (self.kernels, plan))
        normed = self.kernels.norm_modulate(h, inputs.final[1], inputs.final[0])
        return self.kernels.library_product(normed, self.proj_out)

    def _embed(self, inputs: StepInputs) -> torch.Tensor:
        """`embed_input`: (R, N, C). The noise's share is computed once for both rows."""
        h = self.kernels.library_product(inputs.x, self.x_proj)
        c = self.kernels.first_convolution(h, self.conv1, channels_last(inputs.convolved), inputs.frames)
        return self.kernels.second_convolution(c, (self.conv2, self.conv2_bias), h, inputs.projected, inputs.frames)


def channels_last(convolved: torch.Tensor) -> torch.Tensor:
    """(R, C, N) -> (R, N, C), a view where channels are innermost in memory already."""
    return convolved.transpose(1, 2).contiguous()
