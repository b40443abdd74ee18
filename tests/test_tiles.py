"""The evaluation in bfloat16 tiles: emulated on any CPU, and by the processor's own where it has them."""

import numpy as np
import pytest
import torch

from engine.backends.tiles.denoiser import (
    TilesDenoiser,
    TileWeights,
    by_columns,
    by_rows,
    int8_by_columns,
    int8_by_rows,
    quantized,
)
from engine.contract import UnsupportedEngine
from engine.native import library
from engine.step.attention import has_tiles
from engine.step.conditioner import Conditioning
from engine.step.dit import Arch, DiTStep, rope_table
from engine.step.inputs import StepInputs, padding_masks
from engine.step.tables import Tables
from tests.engines import WIDE, engine, request

BINS = 100
# Relative L2 of bfloat16 operands over two blocks: 0.003 to 0.004 is found, a tile in a wrong place gives 0.3 or more
NEAR = 0.006
KINDS = [
    "emulated",
    pytest.param("tiles", marks=pytest.mark.skipif(not has_tiles(), reason="this CPU has no bfloat16 tiles (AMX)")),
]
AND_INT8 = [
    *KINDS,
    "emulated int8",
    pytest.param("tiles int8", marks=pytest.mark.skipif(not has_tiles(), reason="this CPU has no tiles (AMX)")),
]
SMALL = Arch(dim=256, depth=2, heads=4, ff_mult=2)


def functions(kind: str) -> library.Compiled:
    try:
        library.compiler()
    except UnsupportedEngine as refusal:
        pytest.skip(f"{refusal.reason}: {refusal.remedy}")
    return library.compiled(kind.startswith("emulated"))


def drawn(arch: Arch, bins: int = BINS) -> DiTStep:
    """A step whose every parameter is drawn, large enough for attention to choose."""
    generator = torch.Generator().manual_seed(0)
    step = DiTStep(arch, bins).eval().requires_grad_(False)
    for parameter in step.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 16
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 1.5 / fan_in**0.5)
    return step


class Solve:
    """Constants, noise and tables of one batch, for both."""

    def __init__(self, arch: Arch, lengths: tuple[int, ...], guided: bool = True, bins: int = BINS):
        generator = torch.Generator().manual_seed(len(lengths))
        self.arch, self.lengths, self.guided, num_frames = arch, lengths, guided, max(lengths)
        rows = len(lengths) * (1 + guided)
        self.projected = torch.randn(rows, num_frames, arch.dim, generator=generator)
        self.convolved = torch.randn(rows, arch.dim, num_frames, generator=generator)
        self.x = torch.randn(len(lengths), num_frames, bins, generator=generator)
        modulation = torch.randn(2, arch.depth, 6, arch.dim, generator=generator) * 0.3
        modulation[:, :, [1, 4]] += 1
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
        return step(StepInputs(self.x, self.projected, self.convolved, cos, sin, *tables, *masks))

    def tiles(self, denoiser: TilesDenoiser, index: int = 1) -> torch.Tensor:
        return denoiser.bind(self.conditioning())(self.x, index, self.guided)

    def worst(self, found: torch.Tensor, expected: torch.Tensor) -> float:
        """The largest relative L2 of a row's own frames."""
        return max(
            float((found[row, :length] - expected[row, :length]).norm() / expected[row, :length].norm())
            for row, length in enumerate(self.lengths * (1 + self.guided))
        )


def denoiser(step: DiTStep, solve: Solve, kind: str) -> TilesDenoiser:
    weights = TileWeights(step, int8=kind.endswith("int8"))
    return TilesDenoiser(functions(kind), weights, step.arch, solve.tables)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "inner", "columns"), [(32, 32, 32), (96, 288, 160), (64, 1056, 32), (1600, 64, 64)])
def test_a_product_is_that_of_the_rounded_operands(kind: str, rows: int, inner: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(rows, inner, generator=generator), torch.randn(columns, inner, generator=generator)
    found = functions(kind).product(by_rows(a), by_columns(b), rows, columns)
    exact = a.bfloat16().double() @ b.bfloat16().double().T
    assert (found - exact).abs().max() / exact.abs().max() < 1e-6, "sums are float32"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "inner", "columns"), [(32, 64, 32), (96, 576, 160), (64, 2112, 32), (1600, 64, 64)])
def test_a_product_of_bytes_is_exact(kind: str, rows: int, inner: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = (
        torch.randint(-127, 128, (count, inner), dtype=torch.int8, generator=generator) for count in (rows, columns)
    )  # fmt: skip
    found = functions(kind).product(int8_by_rows(a), int8_by_columns(b), rows, columns)
    assert torch.equal(found, a.int() @ b.int().T)


def test_operands_that_do_not_belong_together_are_refused() -> None:
    rows, columns = by_rows(torch.ones(32, 64)), by_columns(torch.ones(32, 96))
    with pytest.raises(ValueError, match="do not make 1 by 1 pairs"):
        functions("emulated").product(rows, columns, 32, 32)
    with pytest.raises(ValueError, match="both bfloat16 or both int8"):
        functions("emulated").product(rows.half(), columns.half(), 32, 32)
    with pytest.raises(ValueError, match="do not make 1 by 1 pairs"):
        functions("emulated").product_into(torch.empty(1, 1, 2), rows, rows)


@pytest.mark.parametrize("kind", ["emulated int8", AND_INT8[-1]])
@pytest.mark.parametrize(
    ("arch", "lengths"),
    [
        (SMALL, (5,)),
        (SMALL, (37, 34, 19)),
        (SMALL, (250,)),
        (Arch(dim=1024, depth=1, heads=16, ff_mult=4), (33,)),  # k in several blocks, and in two chunks
    ],
)
def test_int8_is_the_step_with_its_layers_rounded_to_bytes(kind: str, arch: Arch, lengths: tuple[int, ...]) -> None:
    """Weights per channel, activations per frame: what rounding itself costs, reckoned in float32."""
    solve, step = Solve(arch, lengths), drawn(arch)
    ours = denoiser(step, solve, kind)
    found, exact = solve.tiles(ours), solve.oracle(step)
    for block in step.blocks:
        for name in ("qkv", "out", "ff_in", "ff_out"):
            setattr(block, name, Rounded(getattr(block, name)))
    rounded = solve.oracle(step)
    cost = solve.worst(rounded, exact)
    assert solve.worst(found, rounded) < 2 * NEAR, "bfloat16 between the layers moves some values to the next byte"
    assert 0.7 * cost < solve.worst(found, exact) < 1.3 * cost
    assert ours.proof()["quantized_linears"] == 4 * arch.depth
    assert ours.proof()["weight_elements_by_dtype"]["int8"] == arch.depth * arch.dim**2 * int(4 + 2 * arch.ff_mult)
    pairs = -(-2 * sum(-(-max(lengths) // 16) for _ in lengths) // 2)
    layers = 4 * pairs * (arch.dim // 32) * (arch.dim // 64) * int(4 + 2 * arch.ff_mult)
    assert ours.proof()["int8_tile_products"] == arch.depth * layers, "bytes were multiplied, not said to be"


@pytest.mark.parametrize("kind", ["emulated int8", AND_INT8[-1]])
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_int8_does_not_hide_a_value_that_is_not_finite(kind: str, wrong: float) -> None:
    solve, step = Solve(SMALL, (20,)), drawn(SMALL)
    step.blocks[0].qkv.bias[2 * 256 + 5] = wrong  # one dimension of one head's values
    assert not torch.isfinite(solve.tiles(denoiser(step, solve, kind))).any()


class Rounded(torch.nn.Module):
    """A linear layer of bytes in float32 arithmetic."""

    def __init__(self, linear: torch.nn.Linear):
        super().__init__()
        values, scales = quantized(linear.weight)
        self.weight, self.bias = values.float() * scales[:, None], linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scales = x.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30) / 127
        return torch.nn.functional.linear((x / scales).round() * scales, self.weight, self.bias)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [5, 16, 37, 250])
@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_evaluation_is_the_steps(kind: str, frames: int, guided: bool, batch: int) -> None:
    solve, step = Solve(SMALL, (frames, frames - 3, frames // 2 + 1)[:batch], guided), drawn(SMALL)
    assert solve.worst(solve.tiles(denoiser(step, solve, kind)), solve.oracle(step)) < NEAR


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("arch", "bins"),
    [
        (Arch(dim=1024, depth=1, heads=16, ff_mult=2), 100),  # a convolution's group is four tiles of channels
        (Arch(dim=256, depth=1, heads=6, ff_mult=4, pe_attn_head=1), 80),  # wider inside; one head rotated
        (Arch(dim=512, depth=1, heads=8, ff_mult=2.5), 64),
        (Arch(dim=768, depth=1, heads=3, ff_mult=1), 100),  # three tiles of channels: one and a half pairs
        (Arch(dim=1280, depth=1, heads=4, ff_mult=2), 128),  # sums over more than a chunk of k, with GELU after them
    ],
    ids=lambda part: f"{part.dim}" if isinstance(part, Arch) else f"{part}",
)
def test_other_widths_are_the_steps_too(kind: str, arch: Arch, bins: int) -> None:
    solve, step = Solve(arch, (41,), bins=bins), drawn(arch, bins)
    assert solve.worst(solve.tiles(denoiser(step, solve, kind)), solve.oracle(step)) < NEAR


@pytest.mark.parametrize("kind", KINDS)
def test_it_lies_nearer_to_float32_than_the_step_in_bfloat16(kind: str) -> None:
    solve, step = Solve(SMALL, (64,)), drawn(SMALL)
    expected, found = solve.oracle(step), solve.tiles(denoiser(step, solve, kind))
    narrow = torch.bfloat16
    tables = solve.tables.modulation[1], solve.tables.final[1]
    inputs = (solve.x, solve.projected, solve.convolved, *rope_table(64, SMALL), *tables)
    whole = step.to(narrow)(StepInputs(*(tensor.to(narrow) for tensor in inputs)))
    assert solve.worst(found, expected) < 0.7 * solve.worst(whole.float(), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_activations_are_right_where_their_exponentials_leave_float32(kind: str) -> None:
    solve, step = Solve(SMALL, (40,)), drawn(SMALL)
    step.blocks[0].ff_in.weight *= 0  # nothing but the activation's own ends
    ends = torch.linspace(-300, 300, len(step.blocks[0].ff_in.bias))
    ends[0], ends[-1] = -1e15, 1e15
    step.blocks[0].ff_in.bias.copy_(ends)
    assert solve.worst(solve.tiles(denoiser(step, solve, kind)), solve.oracle(step)) < NEAR


@pytest.mark.parametrize("kind", KINDS)
def test_attention_that_sees_one_key_alone_is_that_keys_value(kind: str) -> None:
    """Scores of thousands: all weight falls on the largest, in whichever part of the keys it is met."""
    solve, step = Solve(SMALL, (400,)), drawn(SMALL)
    for block in step.blocks:
        block.qkv.weight[: 2 * 256] *= 30
    found, expected = solve.tiles(denoiser(step, solve, kind)), solve.oracle(step)
    assert torch.isfinite(found).all()
    off = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
    assert off.median() < 0.02, "rounding picks another key for few queries only"


@pytest.mark.parametrize("kind", AND_INT8)
def test_an_utterance_in_a_padded_batch_is_its_own_run_bit_for_bit(kind: str) -> None:
    together, step = Solve(SMALL, (70, 33, 48)), drawn(SMALL)
    found = together.tiles(denoiser(step, together, kind))
    for row, length in enumerate(together.lengths):
        alone = Solve(SMALL, (length,))
        alone.projected, alone.convolved = (
            together.projected[row::3, :length], together.convolved[row::3, :, :length],
        )  # fmt: skip
        alone.x = together.x[row : row + 1, :length]
        assert torch.equal(alone.tiles(denoiser(step, together, kind)), found[row::3, :length])


@pytest.mark.parametrize("kind", AND_INT8)
def test_what_was_evaluated_before_leaves_no_trace(kind: str) -> None:
    step = drawn(SMALL)
    long, short, single = Solve(SMALL, (90, 75)), Solve(SMALL, (21,)), Solve(SMALL, (21,), guided=False)
    ours = denoiser(step, short, kind)
    fresh = short.tiles(denoiser(step, short, kind))
    for before in (long, single, short, single):
        before.tiles(ours)
        assert torch.equal(short.tiles(ours), fresh)


@pytest.mark.parametrize("kind", AND_INT8)
def test_other_lengths_of_the_same_shape_leave_no_trace(kind: str) -> None:
    step = drawn(SMALL)
    one, other = Solve(SMALL, (64, 20)), Solve(SMALL, (64, 47))
    ours = denoiser(step, one, kind)
    one.tiles(ours)
    found, fresh = other.tiles(ours), other.tiles(denoiser(step, other, kind))
    assert torch.equal(found, fresh)


@pytest.mark.parametrize("kind", AND_INT8)
def test_the_number_of_threads_changes_no_bit_and_stands_in_the_proof(kind: str) -> None:
    solve, step, before = Solve(SMALL, (170, 90)), drawn(SMALL), torch.get_num_threads()
    ours, found = denoiser(step, solve, kind), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(solve.tiles(ours))
            assert ours.proof()["threads"] == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_warm_denoiser_takes_no_new_memory_and_counts_its_work(kind: str) -> None:
    solve, step = Solve(SMALL, (32,)), drawn(SMALL)
    ours = denoiser(step, solve, kind)
    rows = ours.bind(solve.conditioning())
    rows(solve.x, 0, True)
    place, once = ours._workspace.data_ptr(), ours.proof()["tile_products"]
    rows(solve.x, 1, True)
    proof = ours.proof()
    assert ours._workspace.data_ptr() == place
    assert (proof["num_evals"], proof["tile_products"], proof["int8_tile_products"]) == (2, 2 * once, 0)
    # 4 tiles of rows; convolutions see 16 channels a group: 16 tiles of k, the second tile of columns empty
    blocks = 2 * 4 * (8 * 48 + 8 * 16 + 8 * 32 + 16 * 16) + 2 * 2 * 4 * 16
    ends = 2 * 4 * 16 + 4 * 8 * 8
    convolutions = 16 * 16 * 4 + 2 * 16 * 16 * 4
    assert once == blocks + ends + convolutions
    weights = sum(p.numel() for p in step.parameters() if p.ndim > 1)
    assert proof["weight_elements_by_dtype"]["bfloat16"] == weights, "tiles are filled up, but that is no weight"
    assert proof["compiler"]


@pytest.mark.skipif(not has_tiles(), reason="this CPU has no bfloat16 tiles (AMX)")
def test_full_width_through_the_pipeline_stays_near_the_oracle() -> None:
    ask = request("Two small birds sat by the window.")
    with engine(*WIDE, "engine=tiles_bf16") as ours, engine(*WIDE, "engine=fp32") as oracle:
        found, expected = (one.synthesize([ask])[0].mel_ND for one in (ours, oracle))
        assert ours.facts.denoiser == "tiles"
    assert np.abs(found - expected).mean() < 0.05
