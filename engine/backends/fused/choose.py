"""Who makes which product and who attends: every candidate checked, timed once per shape and device, the fastest
kept.

A shape is (rows, frames up to the next power of two, masked): a workload of many lengths measures a handful. What was
measured is kept in the cache by device, versions and source. A candidate whose answer is not PyTorch's in float32, or
that refuses, is named with the reason and not taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from engine.backends.fused.eight_bits import (
    GROUP,
    Form,
    Linear,
    Operand,
    Quantised,
    QuantisedLinear,
    plain_operand,
    plain_weight,
    quantised,
)
from engine.backends.fused.launch import ATTENTIONS, DIM_HEAD, Kernels, Rope, Tile
from engine.backends.fused.step import INSTEAD, Plan
from engine.cache import cached_folder, source_sha256
from engine.contract import UnsupportedEngine

SMALLEST_BUCKET = 128
LIBRARY = "cublaslt"
SOURCES = tuple(f"engine.backends.fused.{name}" for name in ("kernels", "launch", "choose", "eight_bits"))
ULPS, SUMMING = 4, 2e-6  # of the largest value: rounding to the type, and the order of a sum in float32
Run = Callable[[], Operand]
Exact = Callable[[], torch.Tensor]
Timer = Callable[[Run], float]
"""A candidate -> milliseconds a run."""
Shape = tuple[int, int, bool]


def on_device(run: Run) -> float:
    from triton.testing import do_bench

    return float(do_bench(run, warmup=10, rep=30, return_mode="median"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Widths:
    """Of the model: C, H, and the feed-forward's hidden width; of which type the tensors are, where, and what the
    blocks multiply in place of that type."""

    dim: int
    heads: int
    hidden: int
    dtype: torch.dtype
    device: str
    form: Form | None = None


def bucket(num_frames: int) -> int:
    """The next power of two, from SMALLEST_BUCKET."""
    return max(SMALLEST_BUCKET, 1 << (num_frames - 1).bit_length())


class Trial:
    """The candidates of one shape, on drawn tensors of its size."""

    def __init__(self, widths: Widths, shape: Shape, tiles: Mapping[str, Tile], attentions: tuple[str, ...]):
        self._widths, self._tiles, self._attentions = widths, tiles, attentions
        self._rows, self._frames, self._masked = shape
        self.form = widths.form
        self._kernels = Kernels()  # its own: trials are no part of an engine's counts
        self._generator = torch.Generator().manual_seed(0)

    def _drawn(self, *shape: int, scale: float = 1.0) -> torch.Tensor:
        drawn = torch.randn(*shape, generator=self._generator) * scale
        return drawn.to(self._widths.device, self._widths.dtype)

    def _linear(self, inputs: int, outputs: int) -> Linear:
        linear = nn.Linear(inputs, outputs, device="meta").requires_grad_(False)
        weight, bias = self._drawn(outputs, inputs, scale=inputs**-0.5), self._drawn(outputs, scale=0.1)
        if self._widths.form is not None:
            return QuantisedLinear(weight, bias, self._widths.form)
        linear.load_state_dict({"weight": weight, "bias": bias}, assign=True)
        return linear

    def _operand(self, width: int, group: int | None = None) -> Operand:
        """As the kernel before a product leaves it."""
        drawn, form = self._input(width), self._widths.form
        return drawn if form is None else quantised(drawn.float(), form, group)

    def parts(self) -> Iterator[tuple[str, Exact, dict[str, Run]]]:
        """(what is chosen, its answer in float32, candidates by name)."""
        widths, kernels = self._widths, self._kernels
        inner = widths.heads * DIM_HEAD
        a, h = self._operand(widths.dim), self._operand(widths.hidden, GROUP)
        qkv, ff_in = self._linear(widths.dim, 3 * inner), self._linear(widths.dim, widths.hidden)
        angle = torch.rand(self._frames, 1, DIM_HEAD // 2, generator=self._generator).repeat(1, 1, 2)
        cos, sin = (table.to(widths.device, widths.dtype) for table in (angle.cos(), angle.sin()))
        rope = Rope(cos, sin, widths.heads)
        with_library: dict[str, Tile | None] = {LIBRARY: None, **self._tiles}
        yield "qkv", lambda: in_float32(a, qkv, rope), {
            name: partial(kernels.rope_product, a, qkv, rope, tile) for name, tile in with_library.items()
        }  # fmt: skip
        yield "ff_in", lambda: F.gelu(in_float32(a, ff_in), approximate="tanh"), {
            name: partial(kernels.gelu_product, a, ff_in, tile) for name, tile in with_library.items()
        }  # fmt: skip
        for name, b, source in (("out", self._input(inner), inner), ("ff_out", h, widths.hidden)):
            yield name, *self._gated(b, self._linear(source, widths.dim))
        yield "attention", *self._attending(self._input(3 * inner))

    def _input(self, width: int) -> torch.Tensor:
        return self._drawn(self._rows, self._frames, width)

    def _gated(self, b: Operand, linear: Linear) -> tuple[Exact, dict[str, Run]]:
        gate, residual = self._drawn(linear.out_features, scale=0.3), self._input(linear.out_features)
        return lambda: residual.float() + gate.float() * in_float32(b, linear), {
            name: partial(self._kernels.gated_product, b, linear, gate, residual, tile)
            for name, tile in self._tiles.items()
        }  # fmt: skip

    def _attending(self, qkv: torch.Tensor) -> tuple[Exact, dict[str, Run]]:
        heads, mask = self._widths.heads, None
        if self._masked:
            mask = torch.zeros(self._rows, 1, 1, self._frames, device=qkv.device, dtype=qkv.dtype)
            mask[..., -self._frames // 3 :] = -torch.inf
        reference = Kernels()
        return lambda: reference.attention(qkv.float(), heads, None if mask is None else mask.float(), "torch"), {
            by: partial(self._kernels.attention, qkv, heads, mask, by) for by in self._attentions
        }


def in_float32(a: Operand, linear: Linear, rope: Rope | None = None) -> torch.Tensor:
    """The product of what is stored and, where asked, q and k turned, pairs side by side."""
    answer = F.linear(plain_operand(a, linear), plain_weight(linear), linear.bias.float())
    if rope is None:
        return answer
    pairs = answer.unflatten(-1, (3, rope.heads, DIM_HEAD // 2, 2))
    cos, sin = (table[:, None, :, : DIM_HEAD // 2].float() for table in (rope.cos, rope.sin))
    first, second = pairs[:, :, :2, ..., 0], pairs[:, :, :2, ..., 1]
    turned = torch.stack((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return torch.cat((turned, pairs[:, :, 2:]), dim=2).flatten(2)


def measured(trial: Trial, timer: Timer) -> dict[str, dict[str, Any]]:
    """By part: milliseconds of the candidates that are right, reasons of the others, and who is the fastest. Raises
    UnsupportedEngine where nobody is left."""
    found: dict[str, dict[str, Any]] = {}
    for part, reference, candidates in trial.parts():
        expected, times, refused = reference(), {}, {}
        for name, run in candidates.items():
            try:
                wrong = difference(run(), expected, trial.form)
                if wrong is None:
                    times[name] = timer(run)
                else:
                    refused[name] = wrong
            except RuntimeError as error:  # PyTorch's way of saying that a backend of attention does not take this
                refused[name] = str(error).splitlines()[0]
        if not times:
            raise UnsupportedEngine(f"no kernel for {part} works on this device ({refused})", INSTEAD)
        found[part] = {"chosen": min(times, key=lambda name: times[name]), "ms": times, "refused": refused}
    return found


def difference(answer: Operand, expected: torch.Tensor, form: Form | None) -> str | None:
    """None where the answer is the expected one rounded to its type (if it is quantised, to `form`) and summed in
    another order."""
    largest = expected.abs().max()
    if isinstance(answer, Quantised):
        assert form is not None
        rounded, answer = 1.02 * form.rounding_frac, answer.plain()
    else:
        rounded = ULPS * torch.finfo(answer.dtype).eps
    allowed, worst = (rounded + SUMMING) * largest, (answer.float() - expected).abs().max()
    return None if worst <= allowed else f"is wrong by {float(worst / largest):.1e} of the largest value"


class Choices:
    """The plan for every shape that was prepared. `identity`: of the device and of what runs on it."""

    def __init__(
        self, widths: Widths, tiles: tuple[Tile, ...], identity: Mapping[str, object], timer: Timer = on_device,
        attentions: tuple[str, ...] = ("cudnn", "flash", "efficient"),
    ):  # fmt: skip
        assert set(attentions) <= set(ATTENTIONS)
        self._widths, self._tiles = widths, {tile.name: tile for tile in tiles}
        self._identity, self._timer, self._attentions = identity, timer, attentions
        self._found: dict[Shape, dict[str, dict[str, Any]]] = {}
        self._plans: dict[Shape, Plan] = {}
        self.num_measured = 0

    def prepare(self, rows: int, frames: int, masked: bool) -> None:
        """Measures the shape, or reads what was measured before."""
        shape = rows, bucket(frames), masked
        if shape in self._plans:
            return
        made_from = {**self._identity, "shape": list(shape), "sources": source_sha256(*SOURCES)}
        folder = cached_folder("fused", made_from, lambda new: self._measure(shape, new))
        self._found[shape] = json.loads((folder / "measured.json").read_text("utf-8"))
        chosen = {part: facts["chosen"] for part, facts in self._found[shape].items()}
        self._plans[shape] = Plan(
            qkv=self._tiles.get(chosen["qkv"]), out=self._tiles[chosen["out"]], ff_in=self._tiles.get(chosen["ff_in"]),
            ff_out=self._tiles[chosen["ff_out"]], attention=chosen["attention"],
        )  # fmt: skip

    def _measure(self, shape: Shape, folder: Path) -> None:
        self.num_measured += 1
        found = measured(Trial(self._widths, shape, self._tiles, self._attentions), self._timer)
        (folder / "measured.json").write_text(json.dumps(found, indent=1), "utf-8")

    def of(self, rows: int, frames: int, masked: bool) -> Plan:
        """The plan of a shape that was prepared."""
        return self._plans[rows, bucket(frames), masked]

    def proof(self) -> dict[str, object]:
        """By shape: who was chosen, in how many milliseconds, and who refused."""
        return {
            f"{rows} rows, up to {frames} frames{', masked' if masked else ''}": found
            for (rows, frames, masked), found in self._found.items()
        }
