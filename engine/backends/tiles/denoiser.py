"""The whole evaluation of a DiT's step as one function of our own, for CPUs that multiply bfloat16 in tiles (AMX).

What engine/native/tiles.cpp computes is `DiTStep.forward` (engine.step.dit) with the operands of matrix products
rounded to bfloat16 and everything else in float32; here its weights are laid out and its memory is held. By way of
oneDNN most of an evaluation passes outside the tiles: operands are rearranged, and attention, RoPE and activations go
through memory between products. In int8 the blocks' four linear layers multiply bytes: weights scaled per output
channel, activations per frame as they come, sums exact.

Shape letters as in engine.step.dit.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from engine.contract import Proof, UnsupportedEngine
from engine.native.library import ALIGNMENT, INSTEAD, Batch, BlockWeights, Compiled, Model, aligned
from engine.solver.guidance import Rows
from engine.step.conditioner import Conditioning
from engine.step.dit import Arch, Block, DiTStep, rope_table
from engine.step.kept import KeptTables
from engine.step.tables import Tables

GROUPS, TAPS = 16, 31  # of the input's convolutions


def by_rows(values: torch.Tensor) -> torch.Tensor:
    """(m, k) -> the layout of an A operand, bfloat16: m and k padded with zeros to multiples of 32."""
    m, k = values.shape
    padded = F.pad(values, (0, -k % 32, 0, -m % 32)).to(torch.bfloat16)
    return padded.view(-(-m // 32), 2, 16, -(-k // 32), 32).permute(0, 3, 1, 2, 4).contiguous()


def by_columns(weight: torch.Tensor) -> torch.Tensor:
    """(n, k) -> the layout of a B operand, k by n, bfloat16: n and k padded with zeros to multiples of 32."""
    n, k = weight.shape
    padded = F.pad(weight, (0, -k % 32, 0, -n % 32)).to(torch.bfloat16)
    tiles = padded.view(-(-n // 32), 2, 16, -(-k // 32), 16, 2)  # pair, side, column, k tile, pair of k, which
    return tiles.permute(0, 3, 1, 4, 2, 5).contiguous()


def int8_by_rows(values: torch.Tensor) -> torch.Tensor:
    """(m, k) int8 -> the layout of an A operand of bytes: m padded with zeros to a multiple of 32, k of 64."""
    m, k = values.shape
    padded = F.pad(values, (0, -k % 64, 0, -m % 32))
    return padded.view(-(-m // 32), 2, 16, -(-k // 64), 64).permute(0, 3, 1, 2, 4).contiguous()


def int8_by_columns(weight: torch.Tensor) -> torch.Tensor:
    """(n, k) int8 -> the layout of a B operand of bytes: n padded with zeros to a multiple of 32, k of 64."""
    n, k = weight.shape
    padded = F.pad(weight, (0, -k % 64, 0, -n % 32))
    return padded.view(-(-n // 32), 2, 16, -(-k // 64), 16, 4).permute(0, 3, 1, 4, 2, 5).contiguous()


def quantized(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, k) -> int8 (n, k) and the scale of each row, symmetric."""
    scales = weight.abs().amax(dim=1).clamp(min=1e-30) / 127
    return (weight / scales[:, None]).round().to(torch.int8), scales


def conv_by_columns(weight: torch.Tensor) -> torch.Tensor:
    """(C, C / 16, 31) -> one B operand per group, whose k runs over channels, then over taps."""
    channels = len(weight) // GROUPS
    groups = weight.view(GROUPS, channels, -1, TAPS).transpose(2, 3).flatten(2)
    return torch.stack([by_columns(group) for group in groups])


def rope_beside(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """A query's or key's outputs, halves layout, with 16 first halves beside their 16 second halves."""
    return weight.view(heads, 2, 2, 16, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def qkv_beside(weight: torch.Tensor, heads: int) -> torch.Tensor:
    q, k, v = weight.chunk(3)
    return torch.cat((rope_beside(q, heads), rope_beside(k, heads), v))


class TileWeights:
    """A step's weights as tiles.cpp reads them. Tensors are kept here, `model` points into them."""

    def __init__(self, step: DiTStep, int8: bool = False):
        """int8: of the blocks' linear layers."""
        arch, self._int8 = step.arch, int8
        self.num_int8_layers = 4 * arch.depth if int8 else 0
        self._kept: list[torch.Tensor] = []
        self.elements_by_dtype: Counter[str] = Counter()  # of the model, without what fills up tiles
        self._blocks = (BlockWeights * arch.depth)(*(self._block(block, arch.heads) for block in step.blocks))
        convolutions = [self._keep(conv.weight, conv_by_columns(conv.weight)) for conv in (step.conv1, step.conv2)]
        self.model = Model(
            arch.dim, arch.heads, step.blocks[0].ff_in.out_features, arch.depth, step.x_proj.in_features,
            arch.heads if arch.pe_attn_head is None else arch.pe_attn_head,
            self._keep(step.x_proj.weight, by_columns(step.x_proj.weight)), *convolutions,
            self._keep(step.proj_out.weight, by_columns(step.proj_out.weight)),
            self._keep(step.conv2.bias, step.conv2.bias.float()),
            self._keep(step.proj_out.bias, F.pad(step.proj_out.bias.float(), (0, -len(step.proj_out.bias) % 32))),
            self._blocks,
        )  # fmt: skip

    def _keep(self, of: torch.Tensor, laid_out: torch.Tensor) -> int:
        self._kept.append(laid_out.detach().contiguous())
        self.elements_by_dtype[str(laid_out.dtype).removeprefix("torch.")] += of.numel()
        return int(self._kept[-1].data_ptr())

    def _block(self, block: Block, heads: int) -> BlockWeights:
        layers = block.qkv, block.out, block.ff_in, block.ff_out
        weights = [qkv_beside(block.qkv.weight, heads), *(layer.weight for layer in layers[1:])]
        biases = [qkv_beside(block.qkv.bias, heads), *(layer.bias for layer in layers[1:])]
        kept_biases = [self._keep(bias, bias.float()) for bias in biases]
        if not self._int8:
            return BlockWeights(*(self._keep(weight, by_columns(weight)) for weight in weights), *kept_biases)
        pairs = [quantized(weight.float()) for weight in weights]
        kept = [self._keep(values, int8_by_columns(values)) for values, _ in pairs]
        return BlockWeights(*kept, *kept_biases, *(self._keep(scales, scales) for _, scales in pairs))

    def num_bytes(self) -> int:
        """As laid out."""
        return sum(tensor.nbytes for tensor in self._kept)


def by_tiles(values: torch.Tensor) -> torch.Tensor:
    """(R, N, C) float32 -> (R, T, C / 16, 16 frames, 16 channels), zeros behind the last frame."""
    rows, num_frames, width = values.shape
    padded = F.pad(values.float(), (0, 0, 0, -num_frames % 16))
    return padded.view(rows, -1, 16, width // 16, 16).transpose(2, 3).contiguous()


def refuse_shapes(arch: Arch, int8: bool) -> None:
    """Raises UnsupportedEngine for a DiT that does not divide into tiles."""
    if arch.depth < 1:
        raise UnsupportedEngine(f"model.arch.depth={arch.depth} leaves nothing to evaluate", "use a positive depth")
    if arch.dim_head != 64:
        raise UnsupportedEngine(f"tiles are laid out for model.arch.dim_head=64, not {arch.dim_head}", INSTEAD)
    hidden = int(arch.dim * arch.ff_mult)
    for name, value, step in (("dim", arch.dim, 256), ("dim x ff_mult", hidden, 64 if int8 else 32)):
        if value % step:
            raise UnsupportedEngine(f"tiles need model.arch.{name} in multiples of {step}, not {value}", INSTEAD)


@dataclass(frozen=True, eq=False, slots=True)
class Constants:
    """A batch's constants in memory: projected and convolved as `by_tiles`, cos and sin (16 T, 32), lengths (B,)."""

    projected: torch.Tensor
    convolved: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor
    lengths: torch.Tensor


class TilesDenoiser:
    """Implements engine.solver.sampler.Denoiser."""

    def __init__(self, made: Compiled, weights: TileWeights, arch: Arch, tables: Tables):
        self._made, self._weights, self._arch = made, weights, arch
        self._modulation = tables.modulation.float().contiguous()
        self._final = tables.final.float().contiguous()
        self._rope = KeptTables(self._rope_table)
        self._workspace = torch.empty(0, dtype=torch.uint8)
        self._workspace_of: tuple[int, ...] = ()
        self.num_evals = self._tile_products = self._byte_products = self._team = 0

    def _rope_table(self, num_tiles: int) -> tuple[torch.Tensor, torch.Tensor]:
        every_head = Arch(dim=self._arch.dim, depth=0, heads=1)  # which heads are rotated, tiles.cpp is told apart
        cos, sin = rope_table(16 * num_tiles, every_head)
        return cos[:, 0, :32].contiguous(), sin[:, 0, :32].contiguous()

    def bind(self, conditioning: Conditioning) -> Rows:
        cos, sin = self._rope.of(-(-conditioning.num_frames // 16))
        constants = Constants(
            by_tiles(conditioning.projected), by_tiles(conditioning.convolved.transpose(1, 2)), cos, sin,
            torch.tensor(conditioning.lengths, dtype=torch.int64),
        )  # fmt: skip

        def rows(x: torch.Tensor, index: int, guided: bool) -> torch.Tensor:
            self.num_evals += 1
            return self._evaluate(constants, x.float().contiguous(), index, guided)

        return rows

    def _evaluate(self, constants: Constants, x: torch.Tensor, index: int, guided: bool) -> torch.Tensor:
        utterances, num_frames, _ = x.shape
        num_rows = len(constants.projected) if guided else utterances
        tensors = constants.lengths, constants.cos, constants.sin, constants.projected, constants.convolved
        pointers = (tensor.data_ptr() for tensor in tensors)
        batch = Batch(utterances, num_rows, num_frames, torch.get_num_threads(), 0, 0, 0, *pointers)
        batch.workspace = self._workspace_for(batch)
        velocity = torch.empty(num_rows, *x.shape[1:], dtype=torch.float32)
        self._made.library.evaluate(
            self._weights.model, batch, x.data_ptr(), self._modulation[index].data_ptr(), self._final[index].data_ptr(),
            velocity.data_ptr(),
        )  # fmt: skip
        self._team = batch.team
        self._tile_products += batch.products
        self._byte_products += batch.byte_products
        return velocity

    def _workspace_for(self, batch: Batch) -> int:
        """Where scratch memory for this shape begins; zeroed for a new shape, since padding is never written."""
        shape = batch.utterances, batch.rows, batch.frames, batch.threads
        if shape != self._workspace_of:
            needed = self._made.library.workspace_bytes(self._weights.model, batch) + ALIGNMENT
            if needed > len(self._workspace):
                with torch.inference_mode(False):  # it outlives this call
                    self._workspace = torch.empty(needed, dtype=torch.uint8)
            self._workspace[:needed].zero_()
            self._workspace_of = shape
        return aligned(self._workspace)

    def proof(self) -> Proof:
        return {
            "num_evals": self.num_evals,
            "tile_products": self._tile_products,
            "int8_tile_products": self._byte_products,
            "threads": self._team,
            "weight_elements_by_dtype": dict(self._weights.elements_by_dtype),
            "quantized_linears": self._weights.num_int8_layers,
            "compiler": self._made.compiler,
            "compiler_flags": list(self._made.flags),
            "source_sha256": self._made.source_sha256,
        }
