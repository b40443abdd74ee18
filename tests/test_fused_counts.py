"""What one evaluation of the full size launches and moves, counted without running it: the fused step's kernels are
recorded in place of launched, PyTorch runs on a device without memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.engines import config

triton = pytest.importorskip("triton")

from engine.backends.fused import launch  # noqa: E402
from engine.backends.fused.eight_bits import PRECISIONS  # noqa: E402
from engine.backends.fused.step import FusedStep, Plan  # noqa: E402
from engine.backends.fused.watch import PyTorchsWork  # noqa: E402
from engine.step.dit import Arch, DiTStep  # noqa: E402
from engine.step.inputs import StepInputs  # noqa: E402
from tests.fused_compiled import Recorder  # noqa: E402

FRAMES = 1406  # 5 s of reference, 10 s generated
BEFORE_AND_BEHIND = 5  # two products and two convolutions, a norm


def full_size() -> Arch:
    return Arch.of(config("model=f5tts_v1_base_random")["model"]["arch"])


def step_and_inputs(arch: Arch, dtype: torch.dtype) -> tuple[DiTStep, StepInputs]:
    """Guided, one utterance."""
    with torch.device("meta"):
        step = DiTStep(arch, 100).requires_grad_(False)
        table, rows = torch.empty(FRAMES, 1, 64, dtype=dtype), torch.empty(2, FRAMES, arch.dim, dtype=dtype)
        modulation, final = torch.empty(arch.depth, 6, arch.dim, dtype=dtype), torch.empty(2, arch.dim, dtype=dtype)
        x = torch.empty(1, FRAMES, 100, dtype=dtype)
    return step, StepInputs(x, rows, torch.empty_like(rows).transpose(1, 2), table, table, modulation, final)


def eager_bytes(arch: Arch, dtype: torch.dtype) -> int:
    """Of everything but products, convolutions and attention, for which something of its shape and layout stands."""
    step, inputs = step_and_inputs(arch, dtype)
    for block in step.blocks:
        block.attend = lambda q, k, v, mask: v
    with PyTorchsWork() as work:
        step.to(dtype)(inputs)
    return work.moved_bytes


def fused_counts(arch: Arch, precision: str, library: bool, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    for name in ("norm_modulate", "rope", "product", "first_convolution", "second_convolution"):
        kernel = getattr(launch.kernels, f"{name}_kernel")
        monkeypatch.setattr(launch.kernels, f"{name}_kernel", Recorder(kernel, []))
    monkeypatch.setattr(
        launch.F, "scaled_dot_product_attention", lambda q, k, v, attn_mask: torch.empty_like(v)
    )  # which one attends on a device is measured there
    dtype, form = PRECISIONS[precision]
    tile = (launch.TILES_8_BITS if form else launch.TILES)[0]
    plan = Plan(qkv=None if library else tile, out=tile, ff_in=tile, ff_out=tile, attention="torch")
    step, inputs = step_and_inputs(arch, dtype)
    fused = FusedStep(step, lambda rows, frames, masked: plan, dtype, form)
    fused(inputs)
    (counted,) = fused.counters.values()
    return counted


@pytest.mark.parametrize(
    ("precision", "library"),
    [("bf16", False), ("bf16", True), ("int8_fp16", False), ("fp8_bf16", False), ("fp8_bf16", True)],
)
def test_an_evaluation_of_the_full_size_launches_at_most_eight_kernels_a_block_and_moves_a_third(
    precision: str, library: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = full_size()
    counted = fused_counts(arch, precision, library, monkeypatch)
    assert sum(counted["launched"].values()) == (8 if library else 7) * arch.depth + BEFORE_AND_BEHIND
    assert counted["eager"] == {}, "PyTorch runs nothing but products and attention"
    eager = eager_bytes(arch, torch.bfloat16)
    assert 0 < counted["moved_bytes"] <= eager / 3
