"""Other kernels, same meaning: attention by products, weights in oneDNN's layout."""

import pytest
import torch

from engine.attention import flash, small_gemm
from engine.packed import can_pack, pack
from engine.step import Arch, DiTStep, padding_masks, rope_table


@pytest.mark.parametrize("frames", [1, 37, 200])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_by_products_equals_the_fused_kernel(frames: int, masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 4, frames, 64, generator=generator) for _ in range(3))
    mask = padding_masks((frames, frames // 2 + 1), 2, frames, torch.float32)[1] if masked else None
    assert torch.allclose(small_gemm(q, k, v, mask), flash(q, k, v, mask), atol=2e-6)


def test_attention_too_large_for_the_cache_goes_to_the_fused_kernel_bit_for_bit() -> None:
    q = torch.randn(2, 4, 800, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(small_gemm(q, q, q, None), flash(q, q, q, None))


@pytest.mark.skipif(not can_pack(torch.float32), reason="this build of torch has no oneDNN")
@pytest.mark.parametrize("frames", [31, 200])
@pytest.mark.parametrize("dim", [256, 512])
def test_packed_weights_give_the_same_step(frames: int, dim: int) -> None:
    arch = Arch(dim=dim, depth=2, heads=4, ff_mult=2)
    torch.manual_seed(0)
    step = DiTStep(arch, 100).eval()
    inputs = (
        torch.randn(1, frames, 100), torch.randn(2, frames, dim), torch.randn(2, dim, frames),
        *rope_table(frames, arch),
        torch.randn(2, 6, dim), torch.randn(2, dim),
    )  # fmt: skip
    with torch.inference_mode():
        plain = step(*inputs)
        packed = pack(step)(*inputs)
    assert ((packed - plain).norm() / plain.norm()).item() < 1e-5
    assert sum(p.numel() for p in step.blocks.parameters()) < 3 * 4 * 6 * dim, "no second copy of the weights is kept"
