"""Other kernels, same meaning: attention by products, weights in oneDNN's layout."""

import gc

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from engine.step import packed as packing
from engine.step.attention import bfloat16_on_cpu, flash, small_gemm
from engine.step.dit import Arch, DiTStep, mish, rope_table
from engine.step.inputs import StepInputs, padding_masks
from engine.step.packed import PackedLinear, can_pack, pack


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
    inputs = StepInputs(
        torch.randn(1, frames, 100), torch.randn(2, frames, dim), torch.randn(2, dim, frames),
        *rope_table(frames, arch),
        torch.randn(2, 6, dim), torch.randn(2, dim),
    )  # fmt: skip
    with torch.inference_mode():
        plain = step(inputs)
        packed = pack(step)(inputs)
    assert ((packed - plain).norm() / plain.norm()).item() < 1e-5
    assert sum(p.numel() for p in step.blocks.parameters()) < 3 * 4 * 6 * dim, "no second copy of the weights is kept"


@pytest.mark.parametrize(("tiles", "chosen"), [(True, flash), (False, small_gemm)])
def test_bfloat16_attention_is_the_fused_kernel_where_the_cpu_has_tiles(
    tiles: bool, chosen: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.step.attention.has_tiles", lambda: tiles)
    assert bfloat16_on_cpu() is chosen


@pytest.mark.skipif(not can_pack(torch.float32), reason="this build of torch has no oneDNN")
@pytest.mark.parametrize("gelu", [None, "tanh", "none"])
def test_a_packed_product_takes_its_activation_along(gelu: str | None) -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(48, 80), torch.randn(2, 37, 48)
    with torch.inference_mode():
        plain = linear(x) if gelu is None else F.gelu(linear(x), approximate=gelu)
        assert torch.allclose(PackedLinear(linear, gelu)(x), plain, atol=2e-6)


@pytest.mark.skipif(not can_pack(torch.float32), reason="this build of torch has no oneDNN")
def test_a_graph_traced_for_one_packed_layer_is_right_for_another() -> None:
    """What a compiler is given holds no weight: two layers of a shape are told apart by an input."""
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    torch.manual_seed(0)
    one, other = PackedLinear(nn.Linear(48, 80)), PackedLinear(nn.Linear(48, 80))
    x = torch.randn(2, 37, 48)
    with torch.inference_mode():
        compiled = torch.compile(one, backend=keep, fullgraph=True)
        assert torch.equal(compiled(x), one(x))
        assert not torch.equal(one(x), other(x))
        assert torch.equal(torch.ops.f5bench.packed_linear(x, other.layer, 80), other(x))
    assert [str(node.target) for node in graphs[0].graph.nodes if node.op == "call_function"] == [
        "f5bench.packed_linear"
    ]


@pytest.mark.skipif(not can_pack(torch.float32), reason="this build of torch has no oneDNN")
def test_packed_layers_are_let_go_with_their_engine() -> None:
    layer = PackedLinear(nn.Linear(8, 8))
    number = int(layer.layer)
    assert packing._LAYERS[number] is layer
    del layer
    gc.collect()
    assert number not in packing._LAYERS


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mish_with_one_exponential_is_mish(dtype: torch.dtype) -> None:
    x = torch.cat((torch.linspace(-100, 100, 4001), torch.tensor([0.0, 1e-6, -1e-6, 1e4, -1e4]))).to(dtype)
    exact = F.mish(x.double())
    traced = torch.compile(mish, backend="eager", fullgraph=True)(x)
    assert traced.dtype == dtype
    tolerance = 4 * torch.finfo(dtype).eps
    assert torch.allclose(traced.double(), exact, rtol=tolerance, atol=1e-30)
    assert torch.allclose(mish(x).double(), exact, rtol=tolerance, atol=1e-6)
