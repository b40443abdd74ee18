"""What the fused step is made of: every kernel with its meaning in PyTorch's terms, launched and counted.

Shape letters: B utterances, R rows (conditional first), N frames, M = R x N, C model width, H heads, O and K a
product's outputs and inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import triton
from torch.nn.attention import SDPBackend, sdpa_kernel

from engine.backends.fused import kernels
from engine.backends.fused.eight_bits import GROUP, Form, Linear, Operand, Quantised, QuantisedLinear
from engine.step.dit import NORM_EPS

DIM_HEAD = 64
FRAMES_TILE, CONVOLUTION = 64, {"num_warps": 4, "num_stages": 3}
ROPE_TILE = 16, 128
ATTENTIONS: Mapping[str, SDPBackend | None] = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "torch": None,  # its own choice
}


@dataclass(frozen=True, slots=True)
class Tile:
    """What one program of a product makes, and with how many warps and stages of loads ahead."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int

    @property
    def name(self) -> str:
        return f"triton_{self.rows}x{self.columns}x{self.depth}"

    def shared_bytes(self, element_bytes: int) -> int:
        """Most that the loads ahead can take."""
        return (self.rows + self.columns) * self.depth * element_bytes * self.stages


TILES = (Tile(128, 128, 64, 8, 3), Tile(64, 128, 64, 4, 3))
# In eight bits as deep and as wide as a group of the operand that has one scale for it
TILES_8_BITS = (Tile(128, 128, GROUP, 8, 3), Tile(64, 128, GROUP, 4, 3))


def fitting_tiles(shared_bytes: int, eight_bits: bool = False) -> tuple[Tile, ...]:
    """Those that a device with so much shared memory a block can hold."""
    tiles, element_bytes = (TILES_8_BITS, 1) if eight_bits else (TILES, 2)
    return tuple(tile for tile in tiles if tile.shared_bytes(element_bytes) <= shared_bytes)


@dataclass(frozen=True, eq=False, slots=True)
class Rope:
    """cos and sin (N, 1 or H, 64), angles in halves as `rope_table` has them; the heads of q and k."""

    cos: torch.Tensor
    sin: torch.Tensor
    heads: int


def pairs_beside(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """(3 H 64, ...) of the fused projection, the halves that `split_halves` made of q and k put back side by side: one
    thread holds both coordinates of a plane. Scores are unchanged, since queries and keys are reordered alike."""
    q, k, v = weight.chunk(3)
    q, k = (part.view(heads, 2, DIM_HEAD // 2, *part.shape[1:]).transpose(1, 2).reshape(part.shape) for part in (q, k))
    return torch.cat((q, k, v))


def by_taps(weight: torch.Tensor) -> torch.Tensor:
    """The weight of a convolution in G groups, (C, C / G, taps) -> (G, taps, C / G in, C / G out)."""
    channels, width, taps = weight.shape
    return weight.view(channels // width, width, width, taps).permute(0, 3, 2, 1).contiguous()


class Kernels:
    """`launched` counts launches by name; `moved_bytes` is what they read and wrote beside the operands and results of
    products, convolutions and attention."""

    def __init__(self) -> None:
        self.launched: Counter[str] = Counter()
        self.moved_bytes = 0

    def _count(self, name: str, *moved: torch.Tensor) -> None:
        self.launched[name] += 1
        self.moved_bytes += sum(tensor.nbytes for tensor in moved)

    def norm_modulate(
        self, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, form: Form | None = None
    ) -> Operand:
        """layer_norm(x) * scale + shift over the last dimension: x (R, N, C), scale and shift (C,); in `form` with one
        scale a row."""
        width = x.shape[-1]
        out = torch.empty_like(x, dtype=form.dtype if form else x.dtype)
        scales = x.new_empty(*x.shape[:-1], 1, dtype=torch.float32) if form else None
        self._count("norm_modulate", x, scale, shift, out, *(() if scales is None else (scales,)))
        block = triton.next_power_of_2(width)
        grid = (x.numel() // width,)
        kernels.norm_modulate_kernel[grid](
            x, scale, shift, out, scales, EPS=NORM_EPS, C=width, BLOCK=block, LARGEST=form.largest if form else 1.0,
            num_warps=4,
        )  # fmt: skip
        return out if scales is None else Quantised(out, scales)

    def rope(self, qkv: torch.Tensor, rope: Rope) -> None:
        """q and k of qkv (R, N, 3 H 64) turned where they lie, pairs side by side."""
        num_frames, num_rows = qkv.shape[1], qkv.shape[0] * qkv.shape[1]
        turned = qkv[..., : 2 * rope.heads * DIM_HEAD]
        self._count("rope", turned, turned, rope.cos, rope.sin)
        rows, columns = ROPE_TILE
        grid = (triton.cdiv(num_rows, rows), triton.cdiv(turned.shape[-1], columns))
        kernels.rope_kernel[grid](
            qkv, rope.cos, rope.sin, num_rows, num_frames, HEADS=rope.heads, ANGLE_HEADS=rope.cos.shape[1],
            BLOCK_M=rows, BLOCK_O=columns, num_warps=4,
        )  # fmt: skip

    def rope_product(self, a: Operand, linear: Linear, rope: Rope, tile: Tile | None) -> torch.Tensor:
        """linear(a), q and k turned: (R, N, C) -> (R, N, 3 H 64). tile None: cuBLASLt and a kernel behind it."""
        if tile is None:
            qkv = self.library_product(a, linear)
            self.rope(qkv, rope)
            return qkv
        self._count("rope_product", rope.cos, rope.sin)
        return _product(a, linear, "rope", tile, {"cos": rope.cos, "sin": rope.sin, "heads": rope.heads})

    def gelu_product(self, a: Operand, linear: Linear, tile: Tile | None) -> Operand:
        """gelu(linear(a), tanh's form), behind a product of eight bits in that form again, a scale for each GROUP. tile
        None: cuBLASLt, whose epilogue is this form on CUDA."""
        if tile is None:
            if isinstance(a, Quantised) or isinstance(linear, QuantisedLinear):
                raise RuntimeError("its products of eight bits have no GELU that quantises")
            self._count("cublaslt_gelu")
            flat = torch._addmm_activation(linear.bias, a.flatten(0, 1), linear.weight.t(), use_gelu=True)
            return flat.view(*a.shape[:2], -1)
        if not isinstance(linear, QuantisedLinear):
            self._count("gelu_product")
            return _product(a, linear, "gelu", tile, {})
        assert tile.columns == GROUP
        assert linear.out_features % GROUP == 0
        scales = linear.scales.new_empty(*_values(a).shape[:2], linear.out_features // GROUP)
        self._count("gelu_product", scales, scales)  # written here, read by the product behind
        return Quantised(_product(a, linear, "gelu", tile, {"out_scales": scales}), scales)

    def gated_product(
        self, a: Operand, linear: Linear, gate: torch.Tensor, residual: torch.Tensor, tile: Tile
    ) -> torch.Tensor:
        """residual + gate * linear(a): gate (O,), residual (R, N, O). A half type before a linear of eight bits is
        quantised as it is read, a scale for each GROUP."""
        self._count("gated_product", gate, residual)
        return _product(a, linear, "gate", tile, {"gate": gate, "residual": residual})

    def library_product(self, a: Operand, linear: Linear) -> torch.Tensor:
        """linear(a): (B or R, N, K) -> (B or R, N, O), by cuBLASLt. Raises RuntimeError where it cannot."""
        if not isinstance(linear, QuantisedLinear):
            assert isinstance(a, torch.Tensor)
            self._count("cublaslt")
            return F.linear(a, linear.weight, linear.bias)
        if linear.form.dtype == torch.int8:
            # That pass would move 6 bytes an element of q, k and v, 18 C a frame; a whole block moves 10 C beside it
            raise RuntimeError("torch._int_mm leaves sums in int32 and has no epilogue: scaling is a pass of its own")
        assert isinstance(a, Quantised)
        assert a.scales.shape[-1] == 1
        self._count("cublaslt_fp8", a.scales)
        flat = torch._scaled_mm(
            a.values.flatten(0, 1), linear.weight.t(), scale_a=a.scales.flatten(0, 1), scale_b=linear.scales[None],
            bias=linear.bias, out_dtype=linear.bias.dtype,
        )  # fmt: skip
        return flat.view(*a.values.shape[:2], -1)

    def attention(self, qkv: torch.Tensor, heads: int, key_mask: torch.Tensor | None, by: str) -> torch.Tensor:
        """softmax(q k' / 8 + mask) v: qkv (R, N, 3 H 64), key_mask (R, 1, 1, N) -> (R, N, H 64). Raises RuntimeError
        where `by`, one of ATTENTIONS, cannot."""
        self._count(f"attention_{by}")
        q, k, v = qkv.unflatten(-1, (3, heads, DIM_HEAD)).transpose(1, 3).unbind(2)
        backend = ATTENTIONS[by]
        only: AbstractContextManager[Any] = nullcontext() if backend is None else sdpa_kernel(backend)
        with only:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=key_mask)
        return mixed.transpose(1, 2).flatten(2)

    def first_convolution(
        self, h: torch.Tensor, weight: torch.Tensor, convolved: torch.Tensor, present: torch.Tensor | None
    ) -> torch.Tensor:
        """mish(conv(h) + convolved), padding zeroed before and after: h (B, N, C) once for all R rows, weight as
        `by_taps`, convolved (R, N, C), present (R, N, 1) -> (R, N, C)."""
        (utterances, num_frames, width), out = h.shape, torch.empty_like(convolved)
        self._count("first_convolution", convolved)
        kernels.first_convolution_kernel[_convolution_grid(h, weight)](
            h, weight, convolved, present, out, utterances, num_frames, REPEATS=len(convolved) // utterances, C=width,
            MASKED=present is not None, **_convolution(weight),
        )  # fmt: skip
        return out

    def second_convolution(
        self, c: torch.Tensor, conv: tuple[torch.Tensor, torch.Tensor], h: torch.Tensor, projected: torch.Tensor,
        present: torch.Tensor | None,
    ) -> torch.Tensor:  # fmt: skip
        """h + projected + mish(conv(c) + bias), padding of h zeroed: c and projected (R, N, C), conv weight as
        `by_taps` and bias (C,), h (B, N, C) -> (R, N, C)."""
        out = torch.empty_like(c)
        self._count("second_convolution", h, projected)
        kernels.second_convolution_kernel[_convolution_grid(c, conv[0])](
            c, *conv, h, projected, present, out, len(h), c.shape[1], C=c.shape[2], MASKED=present is not None,
            **_convolution(conv[0]),
        )  # fmt: skip
        return out


def _convolution_grid(x: torch.Tensor, weight: torch.Tensor) -> tuple[int, int, int]:
    return triton.cdiv(x.shape[1], FRAMES_TILE), len(weight), len(x)


def _convolution(weight: torch.Tensor) -> dict[str, Any]:
    taps, width = weight.shape[1:3]
    block = triton.next_power_of_2(width)
    return {"WIDTH": width, "BLOCK_C": block, "TAPS": taps, "BLOCK_N": FRAMES_TILE, **CONVOLUTION}


def _values(a: Operand) -> torch.Tensor:
    return a.values if isinstance(a, Quantised) else a


def _inputs(a: Operand, linear: Linear, tile: Tile) -> dict[str, Any]:
    """How a product reads its operands, see `product_kernel`; as many loads ahead as a half type leaves room for."""
    if not isinstance(linear, QuantisedLinear):
        return {"INPUTS": "half", "LARGEST": 1.0, "num_stages": tile.stages}
    scales = a.scales if isinstance(a, Quantised) else None
    by_row = scales is not None and scales.shape[-1] == 1
    assert by_row or (tile.depth == GROUP and linear.in_features % GROUP == 0)
    return {
        "INPUTS": "rows" if by_row else "groups", "LARGEST": linear.form.largest, "a_scales": scales,
        "w_scales": linear.scales, "num_stages": tile.stages if scales is not None else tile.stages - 1,
    }  # fmt: skip


def _product(
    a: Operand, linear: Linear, epilogue: str, tile: Tile, operands: Mapping[str, torch.Tensor | int | None]
) -> torch.Tensor:
    """(R, N, K) -> (R, N, O), in eight bits where there are out_scales among the operands."""
    values = _values(a)
    rows, num_frames, depth = values.shape
    outputs, num_rows = linear.out_features, rows * num_frames
    in_eight_bits = "out_scales" in operands
    out = linear.bias.new_empty(rows, num_frames, outputs, dtype=linear.weight.dtype if in_eight_bits else None)
    cos, pointers = operands.get("cos"), ("cos", "sin", "gate", "residual")
    read = {"a_scales": None, "w_scales": None, **_inputs(a, linear, tile)}
    grid = (triton.cdiv(num_rows, tile.rows) * triton.cdiv(outputs, tile.columns),)
    kernels.product_kernel[grid](
        values, linear.weight, linear.bias, out, *(operands.get(name) for name in pointers),
        out_scales=operands.get("out_scales"), num_rows=num_rows, num_frames=num_frames, OUTPUTS=outputs, K=depth,
        EPILOGUE=epilogue, HEADS=operands.get("heads", 1),
        ANGLE_HEADS=cos.shape[1] if isinstance(cos, torch.Tensor) else 1, BLOCK_M=tile.rows, BLOCK_O=tile.columns,
        BLOCK_K=tile.depth, GROUP=8, num_warps=tile.warps, **read,
    )  # fmt: skip
    return out
