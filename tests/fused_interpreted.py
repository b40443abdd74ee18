"""The fused step's kernels in Triton's interpreter, against PyTorch in float64: a program, since Triton reads
TRITON_INTERPRET once, when it is imported. Prints one JSON object; tests/test_fused.py starts it and asserts.

Shape letters as in engine.backends.fused.launch.
"""

import copy
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"
os.environ["F5BENCH_CACHE"] = tempfile.mkdtemp()

import numpy as np
import torch
import torch.nn.functional as F
import triton.language as tl
from torch import nn
from triton.runtime import interpreter

from engine.backends.eager.denoiser import EagerDenoiser
from engine.backends.fused.choose import Choices, Widths
from engine.backends.fused.denoiser import FusedDenoiser, with_channels_innermost
from engine.backends.fused.launch import TILES, Kernels, Rope, Tile, by_taps
from engine.backends.fused.step import FusedStep, Plan
from engine.backends.fused.watch import PyTorchsWork
from engine.step.conditioner import Conditioning
from engine.step.dit import NORM_EPS, Arch, DiTStep, rope_table
from engine.step.inputs import padding_masks
from engine.step.precision import PreparedStep
from engine.step.tables import Tables

Row = tuple[str, float, float]
HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}
generator = torch.Generator().manual_seed(0)


def multiply_bfloat16() -> None:
    """The interpreter multiplies the bits of bfloat16 as integers; here they are what they mean."""
    plain = interpreter.InterpreterBuilder.create_dot

    def meant(handle: Any) -> Any:
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        return interpreter.TensorHandle((handle.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    def dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return plain(self, meant(a), meant(b), *rest)

    interpreter.InterpreterBuilder.create_dot = dot


def drawn(*shape: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.randn(*shape, generator=generator) * scale).to(dtype)


def linear(inputs: int, outputs: int, dtype: torch.dtype) -> nn.Linear:
    made = nn.Linear(inputs, outputs).requires_grad_(False)
    made.weight.copy_(drawn(outputs, inputs, scale=inputs**-0.5))
    made.bias.copy_(drawn(outputs, scale=0.3))
    return made.to(dtype)


def row(name: str, answer: torch.Tensor, expected: torch.Tensor, ulps: float = 1.0) -> Row:
    """error and bound: 1e-5 in float32, else units in the last place of the largest value."""
    assert answer.shape == expected.shape
    dtype = str(answer.dtype).removeprefix("torch.")
    bound = (
        1e-5 if answer.dtype == torch.float32 else ulps * torch.finfo(answer.dtype).eps * float(expected.abs().max())
    )
    return f"{name} {dtype}", float((answer.double() - expected.double()).abs().max()), bound


def norms() -> Iterator[Row]:
    for width, dtype in ((256, torch.float32), (768, torch.float32), (1024, torch.float32), (1024, torch.float16),
                         (1024, torch.bfloat16)):  # fmt: skip
        x, scale, shift = drawn(2, 3, width, dtype=dtype) + 3, drawn(width, dtype=dtype), drawn(width, dtype=dtype)
        expected = F.layer_norm(x.double(), (width,), scale.double(), shift.double(), NORM_EPS)
        yield row(f"norm_modulate {width}", Kernels().norm_modulate(x, scale, shift), expected)


def rope_of(frames: int, heads: int, turned: int | None, dtype: torch.dtype) -> Rope:
    cos, sin = rope_table(frames, Arch(dim=64 * heads, depth=1, heads=heads, pe_attn_head=turned))
    return Rope(cos.to(dtype), sin.to(dtype), heads)


def products() -> Iterator[Row]:
    """69 ragged rows of 23 frames: beyond one tile of 64, short of one of 128."""
    sizes: Sequence[tuple[int, torch.dtype, Tile]] = (
        (256, torch.float32, TILES[1]), (1024, torch.float32, TILES[0]), (256, torch.float16, TILES[0]),
        (256, torch.bfloat16, TILES[1]),
    )  # fmt: skip
    for width, dtype, tile in sizes:
        kernels, a, heads = Kernels(), drawn(3, 23, width, dtype=dtype), width // 64
        into, back = linear(width, 2 * width, dtype), linear(2 * width, width, dtype)
        expected = F.gelu(F.linear(a.double(), into.weight.double(), into.bias.double()), approximate="tanh")
        yield row(f"gelu_product {width} {tile.name}", kernels.gelu_product(a, into, tile), expected)
        hidden, gate, residual = (
            drawn(3, 23, 2 * width, dtype=dtype),
            drawn(width, dtype=dtype),
            drawn(3, 23, width, dtype=dtype),
        )
        expected = residual.double() + gate.double() * F.linear(
            hidden.double(), back.weight.double(), back.bias.double()
        )
        yield row(
            f"gated_product {width} {tile.name}", kernels.gated_product(hidden, back, gate, residual, tile), expected
        )
        yield from rope_products(kernels, a, heads, tile)


def rope_products(kernels: Kernels, a: torch.Tensor, heads: int, tile: Tile) -> Iterator[Row]:
    """In the product's epilogue, and behind a product of the library; all heads turned, or one as in F5TTS_Base."""
    qkv = linear(a.shape[-1], 3 * 64 * heads, a.dtype)
    for turned in (None, 1):
        rope = rope_of(23, heads, turned, a.dtype)
        wide = copy.deepcopy(qkv).double()
        full = Rope(rope.cos.double(), rope.sin.double(), heads)
        expected = turned_in_float64(F.linear(a.double(), wide.weight, wide.bias), full)
        name = f"{a.shape[-1]} {tile.name}, {turned or 'all'} heads turned"
        yield row(f"rope_product {name}", kernels.rope_product(a, qkv, rope, tile), expected)
        yield row(f"rope behind a product {name}", kernels.rope_product(a, qkv, rope, None), expected, ulps=2)


def turned_in_float64(qkv: torch.Tensor, rope: Rope) -> torch.Tensor:
    parts = qkv.unflatten(-1, (3, rope.heads, 32, 2))
    plane = torch.view_as_complex(parts[:, :, :2].contiguous())
    by = torch.complex(rope.cos[..., :32], rope.sin[..., :32])[:, None]
    return torch.cat((torch.view_as_real(plane * by), parts[:, :, 2:]), dim=2).flatten(2)


def convolutions() -> Iterator[Row]:
    """Two groups of 16 (pocket, all taps), 48 and 64 channels; frames beyond one tile; a padded utterance beside."""
    for width, taps, dtype in ((16, 31, torch.float32), (48, 5, torch.float32), (64, 5, torch.float32),
                               (64, 3, torch.float16), (64, 3, torch.bfloat16)):  # fmt: skip
        channels, frames, lengths = 2 * width, 67, (67, 31)
        weight, bias = (
            drawn(channels, width, taps, scale=(taps * width) ** -0.5, dtype=dtype),
            drawn(channels, dtype=dtype),
        )
        h, projected = drawn(2, frames, channels, dtype=dtype), drawn(4, frames, channels, dtype=dtype)
        convolved = drawn(4, frames, channels, dtype=dtype)
        present = padding_masks(lengths, 4, frames, dtype)[0]
        kernels, laid = Kernels(), by_taps(weight)
        for guided, mask in ((True, present), (False, None)):
            rows = 4 if guided else 2
            speech = torch.ones(rows, frames, 1, dtype=torch.float64) if mask is None else mask.double()
            own = h.double() * speech[:2]
            conv = F.conv1d(own.mT, weight.double(), padding=taps // 2, groups=2).mT.repeat(rows // 2, 1, 1)
            expected = F.mish(conv + convolved[:rows].double()) * speech
            c = kernels.first_convolution(h, laid, convolved[:rows], mask)
            name = f"{width} channels a group, {'guided, masked' if guided else 'plain'}"
            yield row(f"first_convolution {name}", c, expected)
            conv = F.conv1d(c.double().mT, weight.double(), bias.double(), padding=taps // 2, groups=2).mT
            expected = F.mish(conv) + own.repeat(rows // 2, 1, 1) + projected[:rows].double()
            second = kernels.second_convolution(c, (laid, bias), h, projected[:rows], mask)
            yield row(f"second_convolution {name}", second, expected)


def small_step(width: int, turned: int | None) -> DiTStep:
    """One block, its convolutions in four groups of three taps: the kernels take both from the weights."""
    step = DiTStep(Arch(dim=width, depth=1, heads=width // 64, ff_mult=2, pe_attn_head=turned), 100)
    step.conv1 = nn.Conv1d(width, width, 3, groups=4, padding=1, bias=False)
    step.conv2 = nn.Conv1d(width, width, 3, groups=4, padding=1)
    for weight in step.requires_grad_(False).parameters():
        weight.copy_(drawn(*weight.shape, scale=weight[0].numel() ** -0.5 if weight.dim() > 1 else 0.1))
    return step


def small_tables(width: int, dtype: torch.dtype = torch.float32) -> Tables:
    modulation, final = drawn(1, 1, 6, width, scale=0.3, dtype=dtype), drawn(1, 2, width, scale=0.3, dtype=dtype)
    modulation[:, :, [1, 4]] += 1
    final[:, 1] += 1
    return Tables(modulation, final)


def denoisers(
    width: int, dtype: torch.dtype, plan: Plan, turned: int | None = None
) -> tuple[EagerDenoiser, EagerDenoiser, EagerDenoiser, FusedStep]:
    """The same weights, rounded to the type, as the fused step in that type, the eager one, and the eager one in
    float64."""
    step, tables = small_step(width, turned).to(dtype), small_tables(width, dtype)
    exact = copy.deepcopy(step).double()
    fused = FusedStep(copy.deepcopy(step), lambda rows, frames, masked: plan, dtype)
    made = [
        EagerDenoiser(PreparedStep(module, kind, None), step.arch, tables, "cpu")
        for module, kind in ((fused, dtype), (step, dtype), (exact, torch.float64))
    ]
    return made[0], made[1], made[2], fused


def conditioning(width: int, lengths: tuple[int, ...], guided: bool) -> Conditioning:
    rows, frames = len(lengths) * (1 + guided), max(lengths)
    convolved = with_channels_innermost(drawn(rows, width, frames, scale=0.5))
    return Conditioning(drawn(rows, frames, width, scale=0.5), convolved, lengths)


OURS = Plan(qkv=TILES[1], out=TILES[1], ff_in=TILES[1], ff_out=TILES[1], attention="torch")
LIBRARYS = Plan(qkv=None, out=TILES[0], ff_in=TILES[0], ff_out=TILES[0], attention="torch")


def evaluated(made: EagerDenoiser, constants: Conditioning, x: torch.Tensor, guided: bool) -> torch.Tensor:
    """The velocity at the utterances' own frames, float32."""
    speech = torch.arange(x.shape[1])[None] < torch.tensor(constants.lengths)[:, None]
    return made.bind(constants)(x, 0, guided)[speech.repeat(1 + guided, 1)]


def steps() -> Iterator[Row]:
    """Whole evaluations: one utterance and three ragged ones, guided and not, one head turned."""
    cases: Sequence[tuple[int, tuple[int, ...], bool, Plan, int | None]] = (
        (256, (19,), True, OURS, None), (256, (11, 5, 9), True, LIBRARYS, 1), (256, (11, 5, 9), False, OURS, None),
        (1024, (7, 4), True, LIBRARYS, None),
    )  # fmt: skip
    for width, lengths, guided, plan, turned in cases:
        fused, _, exact, _ = denoisers(width, torch.float32, plan, turned)
        constants, x = conditioning(width, lengths, guided), drawn(len(lengths), max(lengths), 100)
        name = f"step {width}, {len(lengths)} utterances, {'guided' if guided else 'unguided'}"
        yield row(name, evaluated(fused, constants, x, guided), evaluated(exact, constants, x, guided))


def half_steps() -> dict[str, list[float]]:
    """Root mean square error against float64: the fused step's and the eager one's."""
    found = {}
    for name, dtype in HALF.items():
        fused, eager, exact, _ = denoisers(256, dtype, OURS)
        constants, x = conditioning(256, (11, 8), True), drawn(2, 11, 100)
        # Both are given what the type holds, so that only their own rounding differs
        constants = Conditioning(constants.projected.to(dtype), constants.convolved.to(dtype), constants.lengths)
        expected = evaluated(exact, constants, x.to(dtype).float(), True)
        found[name] = [
            float((evaluated(made, constants, x, True) - expected).square().mean().sqrt()) for made in (fused, eager)
        ]
    return found


INTERPRETERS_OWN = ("set_", "copy_")


def traffic() -> dict[str, Any]:
    """One guided evaluation of two padded utterances by three steps of one block."""
    found: dict[str, Any] = {}
    constants, x = conditioning(256, (11, 8), True), drawn(2, 11, 100)
    for name, plan in (("ours", OURS), ("library's", LIBRARYS)):
        fused, eager, _, step = denoisers(256, torch.float32, plan)
        for made, who in ((fused, name), (eager, "eager")):
            rows = made.bind(constants)
            with PyTorchsWork(INTERPRETERS_OWN) as seen:
                rows(x, 0, True)
            found[who] = {
                "elementwise": dict(seen.elementwise),
                "products": dict(seen.products),
                "bytes": seen.moved_bytes,
            }
        kernels = step.kernels
        found[name] |= {"launched": dict(kernels.launched), "bytes": found[name]["bytes"] + kernels.moved_bytes}
    return found


def choices() -> dict[str, Any]:
    """A choice on a CPU with a clock that is told what to say: the library's exact GELU is another function, which
    float32 shows, and cuDNN attends on CUDA only."""
    said = iter(range(1000, 0, -1))  # every later candidate is the faster one
    widths = Widths(dim=256, heads=4, hidden=256, dtype=torch.float32, device="cpu")

    def made() -> Choices:
        return Choices(widths, TILES, {"device": "told"}, lambda run: float(next(said)), ("torch", "cudnn"))

    first = made()
    first.prepare(1, 100, True)
    first.prepare(1, 128, True)
    again = made()
    again.prepare(1, 65, True)
    plan = again.of(1, 90, True)
    read = again.num_measured
    inner, _, _, step = denoisers(256, torch.float32, plan)
    denoiser = FusedDenoiser(inner, step, again)
    denoiser.place(conditioning(256, (100,), True))
    return {
        "measured": [first.num_measured, read, again.num_measured], "plan": repr(plan), "found": again.proof(),
        "same": first.of(1, 100, True) == plan,
    }  # fmt: skip


def main() -> None:
    multiply_bfloat16()
    rows = [found for part in (norms, products, convolutions, steps) for found in part()]
    json.dump({"rows": rows, "half": half_steps(), "traffic": traffic(), "choices": choices()}, sys.stdout)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
