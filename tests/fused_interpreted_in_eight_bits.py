"""The fused step's products of eight bits in Triton's interpreter, against PyTorch in float64 on the same operands: a
program, as tests/fused_interpreted.py is. Prints one JSON object; tests/test_fused_eight_bits.py starts it and asserts.

Shape letters as in engine.backends.fused.launch.
"""

import copy
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
import torch.nn.functional as F
import triton.language as tl
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes
from triton.runtime import interpreter

from engine.backends.eager.denoiser import EagerDenoiser
from engine.backends.fused.choose import Choices, Widths
from engine.backends.fused.denoiser import FusedDenoiser
from engine.backends.fused.eight_bits import (
    FP8,
    GROUP,
    INT8,
    Form,
    Quantised,
    QuantisedLinear,
    plain_operand,
    plain_weight,
    quantised,
)
from engine.backends.fused.launch import TILES_8_BITS, Kernels, Rope
from engine.backends.fused.step import FusedStep, Plan
from engine.backends.fused.watch import PyTorchsWork
from engine.clock import HostClock
from engine.context import Build, Context, assemble, materials
from engine.solver.methods import solver_spec
from engine.solver.sampler import StepSampler
from engine.step.dit import NORM_EPS, DiTStep
from engine.step.precision import PreparedStep
from tests import fused_interpreted as interpreted
from tests.engines import config, engine, request
from tests.fused_interpreted import Row, conditioning, drawn, evaluated, row, small_step, small_tables

FORMS = (INT8, FP8)
TILE = TILES_8_BITS[1]
OURS = Plan(qkv=TILE, out=TILE, ff_in=TILE, ff_out=TILE, attention="torch")
LARGE = Plan(**{part: TILES_8_BITS[0] for part in ("qkv", "out", "ff_in", "ff_out")}, attention="torch")
LIBRARYS = replace(OURS, qkv=None)


def round_e4m3() -> None:
    """The interpreter cuts e4m3 off; a device rounds to the nearest, ties to even, and stops at the largest value."""
    plain = interpreter._convert_float

    def converted(data: Any, source: Any, target: Any, mode: Any) -> Any:
        if target == tl.float8e4nv:
            assert source == tl.float32
            with _disable_current_modes():  # this is the interpreter's work, not PyTorch's
                nearest = torch.from_numpy(np.ascontiguousarray(data)).clamp(-448, 448).to(torch.float8_e4m3fn)
                return nearest.view(torch.uint8).numpy()
        return plain(data, source, target, mode)

    interpreter._convert_float = converted


def multiply_eight_bits() -> None:
    """The interpreter sums bytes without BLAS; in float64 the same sums are exact, too."""
    plain = interpreter.InterpreterBuilder.create_dot

    def dot(self: Any, a: Any, b: Any, d: Any, *rest: Any) -> Any:
        if a.dtype.scalar not in (tl.int8, tl.float8e4nv):
            return plain(self, a, b, d, *rest)
        kind = torch.int8 if a.dtype.scalar == tl.int8 else torch.float8_e4m3fn
        with _disable_current_modes():
            x, y = (torch.from_numpy(np.ascontiguousarray(part.data)).view(kind).double().numpy() for part in (a, b))
        return interpreter.TensorHandle((x @ y).astype(d.data.dtype) + d.data, d.dtype.scalar)

    interpreter.InterpreterBuilder.create_dot = dot


def scale_on_a_cpu() -> None:
    """PyTorch's product of e4m3 with a scale a row is for CUDA alone: here is what it means."""

    def scaled(a: Any, b: Any, scale_a: Any, scale_b: Any, bias: Any, out_dtype: Any) -> torch.Tensor:
        assert scale_a.shape == (len(a), 1)
        assert scale_b.shape == (1, b.shape[1])
        assert (a.stride(1), b.stride(0)) == (1, 1), "cuBLASLt takes rows times columns"
        wide = (a.double() * scale_a.double()) @ (b.double() * scale_b.double())
        return (wide + bias.double()).to(out_dtype)

    torch._scaled_mm = scaled  # type: ignore[assignment]


def linear(inputs: int, outputs: int, dtype: torch.dtype, form: Form) -> QuantisedLinear:
    made = interpreted.linear(inputs, outputs, torch.float32)
    return QuantisedLinear(made.weight, made.bias.to(dtype), form)


def steps_away(name: str, answer: Quantised, exact: torch.Tensor, form: Form) -> Iterator[Row]:
    """How far the values lie from what they stand for, in halves of the step between two values there; scales against
    the largest value of what has one."""
    groups = exact.unflatten(-1, (answer.scales.shape[-1], -1))
    largest = groups.abs().amax(-1) / form.largest
    scales = float(((answer.scales.double() - largest) / largest).abs().max())
    yield f"{name} {form.name}, scales", scales, 1e-5
    wanted = (groups / answer.scales.double()[..., None]).flatten(-2)
    half = torch.full_like(wanted, 0.5)
    if form is FP8:  # three bits behind the first; below 2^-6 steps of 2^-9
        half = torch.exp2(wanted.abs().clamp(min=2**-6).log2().floor() - 4)
    gap = ((answer.values.double() - wanted).abs() - 1e-4 * wanted.abs().clamp(min=1)) / half
    yield f"{name} {form.name}, values in half steps", float(gap.max()), 1.0


def norms(form: Form) -> Iterator[Row]:
    for width, dtype in ((256, torch.float32), (768, torch.float32), (1024, torch.float16)):
        x, scale, shift = drawn(2, 3, width, dtype=dtype) + 3, drawn(width, dtype=dtype), drawn(width, dtype=dtype)
        exact = F.layer_norm(x.double(), (width,), scale.double(), shift.double(), NORM_EPS)
        answer = Kernels().norm_modulate(x, scale, shift, form)
        assert isinstance(answer, Quantised)
        yield from steps_away(f"norm_modulate {width}", answer, exact, form)
    nothing = Kernels().norm_modulate(torch.ones(1, 1, 256), torch.zeros(256), torch.zeros(256), form)
    assert isinstance(nothing, Quantised)
    yield f"a row of zeros {form.name}", float(nothing.plain().abs().max()), 0.0


def exact_sums() -> Iterator[Row]:
    """Of whole numbers, K = 1024, the largest that there are among them: what float32 holds is the sum itself."""
    a = torch.randint(-127, 128, (1, 70, 1024), generator=interpreted.generator, dtype=torch.int8)
    a[0, 0], zeros, ones = 127, torch.zeros(256), torch.ones(256)
    weight = linear(1024, 256, torch.float32, INT8)
    weight.weight.copy_(torch.randint(-127, 128, (256, 1024), generator=interpreted.generator))
    weight.weight[0] = 127
    weight.scales.fill_(1)
    weight.bias.fill_(0)
    expected = (a.long() @ weight.weight.long().T).double()
    for tile in TILES_8_BITS:
        for name, scales in (("row", torch.ones(1, 70, 1)), ("group", torch.ones(1, 70, 1024 // GROUP))):
            answer = Kernels().gated_product(Quantised(a, scales), weight, ones, zeros.expand(1, 70, 256).clone(), tile)
            yield f"whole sums by {name} {tile.name}", float((answer.double() - expected).abs().max()), 0.0


def products(form: Form) -> Iterator[Row]:
    """69 ragged rows of 23 frames, each epilogue, on operands as the kernel before leaves them."""
    for width, dtype, tile in ((256, torch.float32, TILES_8_BITS[1]), (1024, torch.float32, TILES_8_BITS[0]),
                               (256, torch.float16, TILES_8_BITS[0])):  # fmt: skip
        kernels, named = Kernels(), f"{width} {tile.name} {form.name}"
        a = quantised(drawn(3, 23, width), form)
        into, back = linear(width, 2 * width, dtype, form), linear(2 * width, width, dtype, form)
        hidden = kernels.gelu_product(a, into, tile)
        assert isinstance(hidden, Quantised)
        yield from steps_away(f"gelu_product {named}", hidden, F.gelu(in_float64(a, into), approximate="tanh"), form)
        gate, residual = drawn(width, dtype=dtype), drawn(3, 23, width, dtype=dtype)
        own = linear(width, width, dtype, form)
        for name, operand, layer in (("by groups", hidden, back), ("read", drawn(3, 23, width, dtype=dtype), own)):
            exact = residual.double() + gate.double() * in_float64(operand, layer)
            answer = kernels.gated_product(operand, layer, gate, residual, tile)
            yield row(f"gated_product {name} {named}", answer, exact)
        qkv = linear(width, 3 * width, dtype, form)
        for turned in (None, 1):
            rope = interpreted.rope_of(23, width // 64, turned, dtype)
            full = Rope(rope.cos.double(), rope.sin.double(), rope.heads)
            exact = interpreted.turned_in_float64(in_float64(a, qkv), full)
            yield row(f"rope_product {named}", kernels.rope_product(a, qkv, rope, tile), exact)
            if form is FP8:
                behind = kernels.rope_product(a, qkv, rope, None)
                yield row(f"rope behind cuBLASLt's {named}", behind, exact, ulps=2)


def in_float64(a: torch.Tensor | Quantised, layer: QuantisedLinear) -> torch.Tensor:
    return F.linear(plain_operand(a, layer, torch.float64), plain_weight(layer, torch.float64), layer.bias.double())


class Emulated(nn.Module):
    """A linear layer in float64 that rounds its operands to a form, by rows or by groups."""

    def __init__(self, plain: nn.Linear, form: Form, group: int | None):
        super().__init__()
        self._form, self._group = form, group
        weight = quantised(plain.weight.float(), form).plain(torch.float64)
        self._weight, self._bias = (nn.Parameter(part, requires_grad=False) for part in (weight, plain.bias.double()))

    def forward(self, a: torch.Tensor) -> torch.Tensor:
        rounded = quantised(a.float(), self._form, self._group).plain(torch.float64)
        return F.linear(rounded, self._weight, self._bias)


def emulated(step: DiTStep, form: Form) -> DiTStep:
    made = copy.deepcopy(step).double()
    for block, own in zip(made.blocks, step.blocks, strict=True):
        for part, group in (("qkv", None), ("out", GROUP), ("ff_in", None), ("ff_out", GROUP)):
            setattr(block, part, Emulated(getattr(own, part), form, group))
    return made


def eight_bit_steps(form: Form) -> Iterator[tuple[str, float, float]]:
    """(which, relative L2 from the same arithmetic in float64, from float64 without eight bits): one utterance and
    three ragged ones, guided and not. A value that the two see on two sides of a tie is a whole step off."""
    cases = (
        (256, (19,), True, OURS, None), (256, (11, 5, 9), True, LARGE, 1), (256, (11, 5, 9), False, OURS, None),
        (1024, (7, 4), True, OURS, None), (256, (11, 5, 9), True, LIBRARYS, None),
    )  # fmt: skip
    for width, lengths, guided, plan, turned in cases:
        if plan.qkv is None and form is INT8:
            continue
        step, tables = small_step(width, turned), small_tables(width)
        chosen = plan
        modules = (
            (FusedStep(copy.deepcopy(step), lambda *_, plan=chosen: plan, torch.float32, form), torch.float32),
            (emulated(step, form), torch.float64), (copy.deepcopy(step).double(), torch.float64),
        )  # fmt: skip
        made = [EagerDenoiser(PreparedStep(part, dtype, None), step.arch, tables, "cpu") for part, dtype in modules]
        constants, x = conditioning(width, lengths, guided), drawn(len(lengths), max(lengths), 100)
        fused, rounded, exact = (evaluated(one, constants, x, guided).double() for one in made)
        name = f"{form.name} {width}, {len(lengths)} utterances, {'guided' if guided else 'unguided'}"
        yield name, float((fused - rounded).norm() / rounded.norm()), float((fused - exact).norm() / exact.norm())


def traffic(form: Form) -> dict[str, Any]:
    """What one guided evaluation launches, and what PyTorch runs beside it."""
    step = small_step(256, None)
    fused = FusedStep(copy.deepcopy(step), lambda *_: OURS, torch.float16, form)
    made = EagerDenoiser(PreparedStep(fused, torch.float16, None), step.arch, small_tables(256, torch.float16), "cpu")
    rows, x = made.bind(conditioning(256, (11, 8), True)), drawn(2, 11, 100)
    with PyTorchsWork(interpreted.INTERPRETERS_OWN) as seen:
        rows(x, 0, True)
    (counted,) = fused.counters.values()
    return {"seen": dict(seen.elementwise), "counted": counted}


def choices(form: Form) -> dict[str, Any]:
    said = iter(range(1000, 0, -1))  # every later candidate is the faster one
    widths = Widths(dim=256, heads=4, hidden=256, dtype=torch.float32, device="cpu", form=form)
    made = Choices(widths, TILES_8_BITS, {"form": form.name}, lambda run: float(next(said)), ("torch",))
    made.prepare(1, 100, False)
    (found,) = made.proof().values()
    assert isinstance(found, dict)
    return found


def pocket(form: Form, solver: str = "solver=fitted_2") -> dict[str, Any]:
    """The speaking model through the whole engine, float16 beside eight bits: how far its mel lies from float32's. At
    most 64 frames, one tile of a convolution, since the interpreter takes most of its time there."""
    composed = config(solver)
    ask = request("We go.", num_frames=16)
    ask = replace(ask, ref_audio_S=ask.ref_audio_S[: ask.ref_sample_rate_hz // 2])
    context = Context(composed, solver_spec(composed["solver"]), HostClock())
    made = materials(context)
    step = FusedStep(made.dit, lambda *_: LARGE, torch.float16, form)
    inner = EagerDenoiser(PreparedStep(step, torch.float16, None), made.arch, made.tables, "cpu")
    widths = Widths(dim=256, heads=4, hidden=512, dtype=torch.float16, device="cpu", form=form)
    choices = Choices(widths, TILES_8_BITS[:1], {"pocket": form.name}, lambda run: 1.0, ("torch",))
    build = Build(name="interpreted", denoiser="fused", precision=f"{form.name}_fp16", step_bytes=1)
    sampler = StepSampler(FusedDenoiser(inner, step, choices), context.solver)
    with assemble(context, made, sampler, build) as fused, engine("engine=fp32", solver) as oracle:
        mel, expected = (one.synthesize([ask])[0].mel_ND for one in (fused, oracle))
        proof = dict(fused.facts.proof)
    return {"error": float(np.linalg.norm(mel - expected) / np.linalg.norm(expected)), "proof": proof}


def main() -> None:
    interpreted.multiply_bfloat16()
    round_e4m3()
    multiply_eight_bits()
    scale_on_a_cpu()
    rows = list(exact_sums())
    for form in FORMS:
        rows += [*norms(form), *products(form)]
    json.dump(
        {
            "rows": rows,
            "steps": [found for form in FORMS for found in eight_bit_steps(form)],
            "traffic": {form.name: traffic(form) for form in FORMS},
            "choices": {form.name: choices(form) for form in FORMS},
            "pocket": {form.name: pocket(form) for form in FORMS},
        },
        sys.stdout,
    )


if __name__ == "__main__":
    with torch.inference_mode():
        main()
