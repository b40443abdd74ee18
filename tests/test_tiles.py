"""The evaluation in bfloat16 tiles: emulated on any CPU, and by the processor's own where it has them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.attention import has_tiles
from engine.build import build_engine
from engine.clock import HostClock
from engine.conditioner import Conditioning
from engine.contract import UnsupportedEngine
from engine.denoiser.eager import Tables
from engine.denoiser.tiles import TilesDenoiser, TileWeights, by_columns, by_rows
from engine.native import library
from engine.step import Arch, DiTStep, padding_masks, rope_table
from tests.engines import WIDE, config, engine, request

BINS = 100
NEAR = (
    0.006  # relative L2 of bfloat16 operands over two blocks; 0.003 to 0.004 is found, a swapped tile gives 0.3 or more
)
KINDS = [
    "emulated",
    pytest.param("tiles", marks=pytest.mark.skipif(not has_tiles(), reason="this CPU has no bfloat16 tiles (AMX)")),
]


def drawn(arch: Arch) -> DiTStep:
    """A step whose every parameter is drawn, large enough for attention to choose."""
    generator = torch.Generator().manual_seed(0)
    step = DiTStep(arch, BINS).eval().requires_grad_(False)
    for parameter in step.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 16
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 1.5 / fan_in**0.5)
    return step


class Solve:
    """Constants, noise and tables of one batch, for both."""

    def __init__(self, arch: Arch, lengths: tuple[int, ...], guided: bool = True, loud: float = 1.0):
        generator = torch.Generator().manual_seed(len(lengths))
        self.arch, self.lengths, self.guided, num_frames = arch, lengths, guided, max(lengths)
        rows = len(lengths) * (1 + guided)
        self.projected = torch.randn(rows, num_frames, arch.dim, generator=generator) * loud
        self.convolved = torch.randn(rows, arch.dim, num_frames, generator=generator)
        self.x = torch.randn(len(lengths), num_frames, BINS, generator=generator)
        modulation = torch.randn(2, arch.depth, 6, arch.dim, generator=generator) * 0.3
        modulation[:, :, [1, 4]] += loud
        final = torch.randn(2, 2, arch.dim, generator=generator) * 0.3
        final[:, 1] += 1
        self.tables = Tables(modulation, final)

    def conditioning(self) -> Conditioning:
        return Conditioning(self.projected, self.convolved, self.lengths)

    def oracle(self, step: DiTStep, index: int = 1) -> torch.Tensor:
        num_frames = max(self.lengths)
        masks = padding_masks(self.lengths, len(self.projected), num_frames, torch.float32)
        cos, sin = rope_table(num_frames, self.arch)
        tables = self.tables.modulation[index], self.tables.final[index]
        return step(self.x, self.projected, self.convolved, cos, sin, *tables, masks)

    def tiles(self, denoiser: TilesDenoiser, index: int = 1) -> torch.Tensor:
        return denoiser.bind(self.conditioning())(self.x, index, self.guided)

    def worst(self, found: torch.Tensor, expected: torch.Tensor) -> float:
        """The largest relative L2 of a row's own frames."""
        return max(
            float((found[row, :length] - expected[row, :length]).norm() / expected[row, :length].norm())
            for row, length in enumerate(self.lengths * (1 + self.guided))
        )


def denoiser(step: DiTStep, solve: Solve, kind: str) -> TilesDenoiser:
    return TilesDenoiser(library.compiled(kind == "emulated"), TileWeights(step), step.arch, solve.tables)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "inner", "columns"), [(32, 32, 32), (96, 288, 160), (64, 1056, 32), (1600, 64, 64)])
def test_a_product_is_that_of_the_rounded_operands(kind: str, rows: int, inner: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(rows, inner, generator=generator), torch.randn(columns, inner, generator=generator)
    found = library.compiled(kind == "emulated").product(by_rows(a), by_columns(b), rows, columns)
    exact = a.bfloat16().double() @ b.bfloat16().double().T
    assert (found - exact).abs().max() / exact.abs().max() < 1e-6, "sums are float32"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [5, 16, 37, 250])
@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_evaluation_is_the_steps(kind: str, frames: int, guided: bool, batch: int) -> None:
    arch = Arch(dim=256, depth=2, heads=4, ff_mult=2)
    solve, step = Solve(arch, (frames, frames - 3, frames // 2 + 1)[:batch], guided), drawn(arch)
    assert solve.worst(solve.tiles(denoiser(step, solve, kind)), solve.oracle(step)) < NEAR


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "arch",
    [
        Arch(dim=1024, depth=1, heads=16, ff_mult=2),  # four channels of a tile's width in a convolution's group
        Arch(dim=256, depth=1, heads=6, ff_mult=4, pe_attn_head=1),  # wider inside than outside; one head rotated
        Arch(dim=512, depth=1, heads=8, ff_mult=2.5),
    ],
    ids=lambda arch: f"{arch.dim}x{arch.heads}",
)
def test_other_widths_are_the_steps_too(kind: str, arch: Arch) -> None:
    solve, step = Solve(arch, (41,)), drawn(arch)
    assert solve.worst(solve.tiles(denoiser(step, solve, kind)), solve.oracle(step)) < NEAR


@pytest.mark.parametrize("kind", KINDS)
def test_it_lies_nearer_to_float32_than_the_step_in_bfloat16(kind: str) -> None:
    arch = Arch(dim=256, depth=2, heads=4, ff_mult=2)
    solve, step = Solve(arch, (64,)), drawn(arch)
    expected, found = solve.oracle(step), solve.tiles(denoiser(step, solve, kind))
    narrow = torch.bfloat16
    cos, sin = rope_table(64, arch)
    whole = step.to(narrow)(
        solve.x.to(narrow), solve.projected.to(narrow), solve.convolved.to(narrow), cos.to(narrow), sin.to(narrow),
        solve.tables.modulation[1].to(narrow), solve.tables.final[1].to(narrow),
    )  # fmt: skip
    assert solve.worst(found, expected) < 0.7 * solve.worst(whole.float(), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_loud_activations_stay_finite_and_right(kind: str) -> None:
    """Values at which exponentials leave float32's range, in activations and in attention."""
    arch = Arch(dim=256, depth=2, heads=4, ff_mult=2)
    solve, step = Solve(arch, (40,), loud=40.0), drawn(arch)
    found = solve.tiles(denoiser(step, solve, kind))
    assert torch.isfinite(found).all()
    step.blocks[0].ff_in.weight *= 0  # nothing but the activation's own ends
    step.blocks[0].ff_in.bias.copy_(torch.linspace(-300, 300, len(step.blocks[0].ff_in.bias)))
    solve = Solve(arch, (40,))
    assert solve.worst(solve.tiles(denoiser(step, solve, kind)), solve.oracle(step)) < NEAR


@pytest.mark.parametrize("kind", KINDS)
def test_an_utterance_in_a_padded_batch_is_its_own_run_bit_for_bit(kind: str) -> None:
    arch = Arch(dim=256, depth=2, heads=4, ff_mult=2)
    together, step = Solve(arch, (70, 33, 48)), drawn(arch)
    found = together.tiles(denoiser(step, together, kind))
    for row, length in enumerate(together.lengths):
        alone = Solve(arch, (length,))
        alone.projected, alone.convolved = (
            together.projected[row::3, :length], together.convolved[row::3, :, :length],
        )  # fmt: skip
        alone.x = together.x[row : row + 1, :length]
        assert torch.equal(alone.tiles(denoiser(step, together, kind)), found[row::3, :length])


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_evaluated_before_leaves_no_trace(kind: str) -> None:
    arch = Arch(dim=256, depth=2, heads=4, ff_mult=2)
    step = drawn(arch)
    long, short, single = Solve(arch, (90, 75)), Solve(arch, (21,)), Solve(arch, (21,), guided=False)
    ours = denoiser(step, short, kind)
    fresh = short.tiles(denoiser(step, short, kind))
    for before in (long, single, short, single):
        before.tiles(ours)
        assert torch.equal(short.tiles(ours), fresh)


@pytest.mark.parametrize("kind", KINDS)
def test_a_warm_denoiser_takes_no_new_memory_and_counts_its_work(kind: str) -> None:
    arch = Arch(dim=256, depth=2, heads=4, ff_mult=2)
    solve, step = Solve(arch, (32,)), drawn(arch)
    ours = denoiser(step, solve, kind)
    rows = ours.bind(solve.conditioning())
    rows(solve.x, 0, True)
    place, once = ours._workspace.data_ptr(), ours.proof()["tile_products"]
    rows(solve.x, 1, True)
    proof = ours.proof()
    assert ours._workspace.data_ptr() == place
    assert (proof["num_evals"], proof["tile_products"]) == (2, 2 * once)
    # 4 tiles of rows; convolutions see 16 channels a group: 16 tiles of k, the second tile of columns empty
    blocks = 2 * 4 * (8 * 48 + 8 * 16 + 8 * 32 + 16 * 16) + 2 * 2 * 4 * 16
    ends = 2 * 4 * 16 + 4 * 8 * 8
    convolutions = 16 * 16 * 4 + 2 * 16 * 16 * 4
    assert once == blocks + ends + convolutions
    assert proof["weight_elements_by_dtype"]["bfloat16"] > 2 * 8 * 256 * 256
    assert proof["compiler"]


@pytest.mark.skipif(not has_tiles(), reason="this CPU has no bfloat16 tiles (AMX)")
def test_full_width_through_the_pipeline_stays_near_the_oracle() -> None:
    ask = request("Two small birds sat by the window.")
    with engine(*WIDE, "engine=tiles_bf16") as ours, engine(*WIDE, "engine=fp32") as oracle:
        found, expected = (one.synthesize([ask])[0].mel_ND for one in (ours, oracle))
        assert ours.facts.denoiser == "tiles"
    assert np.abs(found - expected).mean() < 0.05


def test_without_tiles_it_is_refused_before_weights_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    library.compiled.cache_clear()
    monkeypatch.setattr(library, "has_tiles", lambda: False)
    with pytest.raises(UnsupportedEngine, match="does not multiply bfloat16 in tiles") as refusal:
        build_engine(config("engine=tiles_bf16"), HostClock())
    assert "compiled_bf16" in refusal.value.remedy


def test_without_a_compiler_or_with_one_too_old_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("F5BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    library.compiled.cache_clear()
    with pytest.raises(UnsupportedEngine, match="needs a C\\+\\+ compiler"):
        library.compiled(emulated=True)
    old = tmp_path / "g++"
    old.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo g++ 9 && exit 0\necho "error: unknown -march" >&2; exit 1\n'
    )
    old.chmod(0o755)
    with pytest.raises(UnsupportedEngine, match="does not compile tiles\\.cpp: error: unknown -march"):
        library.compiled(emulated=True)
    library.compiled.cache_clear()


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("model.arch.dim=384", "model.arch.heads=6"), "multiples of 256"),
        (("model.arch.dim_head=32",), "dim_head=64"),
    ],
)
@pytest.mark.skipif(not has_tiles(), reason="this CPU has no bfloat16 tiles (AMX)")
def test_a_model_that_does_not_divide_into_tiles_is_refused(overrides: tuple[str, ...], says: str) -> None:
    small = ("model=f5tts_v1_base_random", "model.arch.depth=1", "model.vocab=engine/pocket/vocab.txt")
    with pytest.raises(UnsupportedEngine, match=says):
        build_engine(config(*small, "vocoder=vocos_random", "engine=tiles_bf16", *overrides), HostClock())
