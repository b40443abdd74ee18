"""The DiT's step as kernels of our own: what `DiTStep.forward` computes, in at most eight launches a block.

Shape letters as in engine.step.dit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from engine.backends.fused.launch import DIM_HEAD, Kernels, Rope, Tile, by_taps, pairs_beside
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


def refuse_arch(arch: Arch) -> None:
    """Raises UnsupportedEngine for a DiT that the kernels are not laid out for."""
    if arch.depth < 1:
        raise UnsupportedEngine(f"model.arch.depth={arch.depth} leaves nothing to evaluate", "use a positive depth")
    if arch.dim_head != DIM_HEAD:
        raise UnsupportedEngine(f"the kernels are laid out for model.arch.dim_head=64, not {arch.dim_head}", INSTEAD)
    for name, value, step in (
        ("dim", arch.dim, WIDTH_STEP),
        ("dim x ff_mult", int(arch.dim * arch.ff_mult), HIDDEN_STEP),
    ):
        if value % step:
            raise UnsupportedEngine(f"the kernels need model.arch.{name} in multiples of {step}, not {value}", INSTEAD)


def parameter(values: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().contiguous(), requires_grad=False)


class FusedBlock(nn.Module):
    """One DiT block; weights are those of `block`, q and k reordered."""

    def __init__(self, block: Block):
        super().__init__()
        self.heads = block.heads
        self.qkv = nn.Linear(block.qkv.in_features, block.qkv.out_features, device="meta")
        self.qkv.weight = parameter(pairs_beside(block.qkv.weight, block.heads))
        self.qkv.bias = parameter(pairs_beside(block.qkv.bias, block.heads))
        self.out, self.ff_in, self.ff_out = block.out, block.ff_in, block.ff_out

    def forward(
        self, x: torch.Tensor, modulation: torch.Tensor, rope: Rope, key_mask: torch.Tensor | None,
        by: tuple[Kernels, Plan],
    ) -> torch.Tensor:  # fmt: skip
        kernels, plan = by
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = modulation.unbind(0)
        h = kernels.norm_modulate(x, scale_a, shift_a)
        qkv = kernels.rope_product(h, self.qkv, rope, plan.qkv)
        mixed = kernels.attention(qkv, self.heads, key_mask, plan.attention)
        x = kernels.gated_product(mixed, self.out, gate_a, x, plan.out)
        h = kernels.norm_modulate(x, scale_f, shift_f)
        h = kernels.gelu_product(h, self.ff_in, plan.ff_in)
        return kernels.gated_product(h, self.ff_out, gate_f, x, plan.ff_out)


class FusedStep(nn.Module):
    """One evaluation for all rows, with the weights of `step`, which is used up. The dtype is the step's."""

    def __init__(self, step: DiTStep, plans: Plans):
        super().__init__()
        refuse_arch(step.arch)
        self.kernels, self._plans, self._heads = Kernels(), plans, step.arch.heads
        self.x_proj, self.proj_out = step.x_proj, step.proj_out
        self.conv1, self.conv2 = (parameter(by_taps(conv.weight)) for conv in (step.conv1, step.conv2))
        self.conv2_bias = parameter(step.conv2.bias)
        self.blocks = nn.ModuleList([FusedBlock(block) for block in step.blocks])

    def forward(self, inputs: StepInputs) -> torch.Tensor:
        """As `DiTStep.forward`, with the channels of `convolved` innermost in memory -> velocity per row (R, N, D)."""
        h = self._embed(inputs)
        by = self.kernels, self._plans(h.shape[0], h.shape[1], inputs.keys is not None)
        rope = Rope(inputs.cos, inputs.sin, self._heads)
        for block, row in zip(self.blocks, inputs.modulation.unbind(0), strict=True):
            h = block(h, row, rope, inputs.keys, by)
        h = self.kernels.norm_modulate(h, inputs.final[1], inputs.final[0])
        return self.kernels.library_product(h, self.proj_out)

    def _embed(self, inputs: StepInputs) -> torch.Tensor:
        """`embed_input`: (R, N, C). The noise's share is computed once for both rows."""
        h = self.kernels.library_product(inputs.x, self.x_proj)
        c = self.kernels.first_convolution(h, self.conv1, channels_last(inputs.convolved), inputs.frames)
        return self.kernels.second_convolution(c, (self.conv2, self.conv2_bias), h, inputs.projected, inputs.frames)


def channels_last(convolved: torch.Tensor) -> torch.Tensor:
    """(R, C, N) -> (R, N, C), a view where channels are innermost in memory already."""
    return convolved.transpose(1, 2).contiguous()
