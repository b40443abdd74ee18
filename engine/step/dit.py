"""The DiT of F5-TTS as one step: tensors in, tensor out.

Upstream's module (f5_tts.model.backbones.dit) computes at every step what never changes. Here everything that depends
on t only (time MLP, AdaLN) is a table per evaluation time, everything that depends on N only (RoPE) a table per length,
and the parts of the input projection and of the first convolution that see only reference and text are computed once
per utterance. What is left, `DiTStep.forward`, has no t, no text, no reference and no branches.

Shape letters: B utterances, R rows (conditional rows first, then unconditional ones), N frames, D mel bins, C model
width, H heads, E evaluation times, L blocks, T text tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn

from engine.contract import UnsupportedEngine
from engine.settings import ArchSettings
from engine.step.attention import Attend, flash
from engine.step.inputs import StepInputs

State = Mapping[str, torch.Tensor]
ROPE_BASE = 10000.0
NORM_EPS = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Arch:
    """The `arch` of upstream's model YAML, with upstream's defaults."""

    dim: int
    depth: int
    heads: int
    dim_head: int = 64
    ff_mult: float = 4
    text_dim: int = 100
    conv_layers: int = 0
    text_mask_padding: bool = True
    text_embedding_average_upsampling: bool = False
    pe_attn_head: int | None = None

    @staticmethod
    def of(config: ArchSettings) -> Arch:
        """Raises UnsupportedEngine for parts of upstream's DiT that no released checkpoint uses."""
        for name in ("qk_norm", "long_skip_connection"):
            if config.get(name):
                raise UnsupportedEngine(f"model.arch.{name}={config.get(name)} is not built", "use engine=upstream")
        known: dict[str, Any] = {key: value for key, value in config.items() if key in Arch.__dataclass_fields__}
        ignored = {"dropout", "checkpoint_activations", "attn_backend", "attn_mask_enabled", *known}
        for name in set(config) - ignored - {"qk_norm", "long_skip_connection"}:
            raise UnsupportedEngine(f"model.arch.{name} is not known", "remove the key or use engine=upstream")
        return Arch(**known)


def rope_table(num_frames: int, arch: Arch) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin, each (N, 1 or H, dim_head) float32, angles in float64; halves layout, see `split_halves`."""
    half = arch.dim_head // 2
    frequency = ROPE_BASE ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.outer(torch.arange(num_frames, dtype=torch.float64), frequency)
    angle = torch.cat((angle, angle), dim=-1)[:, None, :]
    if arch.pe_attn_head is not None:
        rotated = (torch.arange(arch.heads) < arch.pe_attn_head)[None, :, None]
        angle = torch.where(rotated, angle, torch.zeros_like(angle))
    return angle.cos().float(), angle.sin().float()


def split_halves(weight: torch.Tensor, heads: int, dim_head: int) -> torch.Tensor:
    """Reorder a query or key projection's outputs per head from interleaved RoPE pairs to two halves. Scores are
    unchanged, since queries and keys are reordered alike."""
    shape = weight.shape
    return weight.view(heads, dim_head // 2, 2, *shape[1:]).transpose(1, 2).reshape(shape)


def mix(
    qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, key_mask: torch.Tensor | None, attend: Attend
) -> torch.Tensor:
    """RoPE and attention: (R, N, 3, H, dim_head) -> (R, N, H, dim_head)."""
    qk, v = qkv[:, :, :2], qkv[:, :, 2]
    first, second = qk.chunk(2, dim=-1)
    qk = torch.addcmul(qk * cos[:, None], torch.cat((-second, first), dim=-1), sin[:, None])
    q, k = qk[:, :, 0].transpose(1, 2), qk[:, :, 1].transpose(1, 2)
    return attend(q, k, v.transpose(1, 2), key_mask).transpose(1, 2)


class Block(nn.Module):
    """One DiT block; `modulation` holds shift, 1 + scale, gate of attention, then of the feed-forward: (6, C)."""

    def __init__(self, arch: Arch):
        super().__init__()
        self.attend: Attend = flash
        inner, hidden = arch.heads * arch.dim_head, int(arch.dim * arch.ff_mult)
        self.heads, self.dim_head = arch.heads, arch.dim_head
        self.mix: Callable[..., torch.Tensor] = mix  # an export puts its own one-node form here
        self.qkv = nn.Linear(arch.dim, 3 * inner)
        self.out = nn.Linear(inner, arch.dim)
        self.ff_in = nn.Linear(arch.dim, hidden)
        self.act: nn.Module = nn.GELU(approximate="tanh")
        self.ff_out = nn.Linear(hidden, arch.dim)

    def forward(
        self,
        x: torch.Tensor,
        modulation: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        key_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = modulation.unbind(0)
        h = F.layer_norm(x, x.shape[-1:], scale_a, shift_a, NORM_EPS)
        x = torch.addcmul(x, gate_a, self.attention(h, cos, sin, key_mask))
        h = F.layer_norm(x, x.shape[-1:], scale_f, shift_f, NORM_EPS)
        return torch.addcmul(x, gate_f, self.ff_out(self.act(self.ff_in(h))))

    def attention(
        self, h: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, key_mask: torch.Tensor | None
    ) -> torch.Tensor:
        rows, frames, _ = h.shape
        qkv = self.qkv(h).view(rows, frames, 3, self.heads, self.dim_head)
        return self.out(self.mix(qkv, cos, sin, key_mask, self.attend).reshape(rows, frames, -1))


class InputLayers(Protocol):
    """What every backbone's step has before its blocks."""

    @property
    def x_proj(self) -> nn.Module: ...

    @property
    def conv1(self) -> nn.Module: ...

    @property
    def conv2(self) -> nn.Module: ...


def mish(x: torch.Tensor) -> torch.Tensor:
    """x tanh(ln(1 + e^x)). For a compiler written with one exponential, exactly: with n = e^x (e^x + 2), x n / (n + 2);
    beyond 20 the fraction is 1 in float32. Eager PyTorch has one kernel for it, inductor would call three functions."""
    if not torch.compiler.is_dynamo_compiling():  # an export has an operator for it, too
        return F.mish(x)
    grown = x.float().clamp(max=20.0).exp()
    n = grown * (grown + 2)
    return (x * (n / (n + 2))).to(x.dtype)


def embed_input(layers: InputLayers, inputs: StepInputs) -> torch.Tensor:
    """Upstream's InputEmbedding less its constants: (R, N, C). The noise's share is computed once for both rows."""
    x, projected, frames = inputs.x, inputs.projected, inputs.frames
    repeats = projected.shape[0] // x.shape[0]
    h = layers.x_proj(x)
    if frames is not None:
        h = h * frames.view(repeats, *h.shape[:2], 1)[0]
    c = mish(layers.conv1(h.transpose(1, 2)).repeat(repeats, 1, 1) + inputs.convolved)
    if frames is not None:
        c = c * frames.transpose(1, 2)
    return h.repeat(repeats, 1, 1) + projected + mish(layers.conv2(c)).transpose(1, 2)


def end_weights(state: State, mel_bins: int) -> dict[str, torch.Tensor]:
    """A step's own names for what upstream has before and after the blocks, less the constants' share."""
    conv = "input_embed.conv_pos_embed.conv1d"
    return {
        "x_proj.weight": state["input_embed.proj.weight"][:, :mel_bins],
        "conv1.weight": state[f"{conv}.0.weight"],
        "conv2.weight": state[f"{conv}.2.weight"],
        "conv2.bias": state[f"{conv}.2.bias"],
        "proj_out.weight": state["proj_out.weight"],
        "proj_out.bias": state["proj_out.bias"],
    }


def block_weights(state: State, attn: str, ff: str, arch: Arch) -> dict[str, torch.Tensor]:
    """A block's own names for the products of upstream's modules `attn` and `ff`."""
    new = {}
    for kind in ("weight", "bias"):
        q, k, v = (state[f"{attn}.to_{n}.{kind}"] for n in "qkv")
        q, k = split_halves(q, arch.heads, arch.dim_head), split_halves(k, arch.heads, arch.dim_head)
        new[f"qkv.{kind}"] = torch.cat((q, k, v))
        new[f"out.{kind}"] = state[f"{attn}.to_out.0.{kind}"]
        new[f"ff_in.{kind}"] = state[f"{ff}.ff.0.0.{kind}"]
        new[f"ff_out.{kind}"] = state[f"{ff}.ff.2.{kind}"]
    return new


class DiTStep(nn.Module):
    """One evaluation for all rows. Weights come from `load`."""

    def __init__(self, arch: Arch, mel_bins: int):
        super().__init__()
        self.arch = arch
        self.x_proj = nn.Linear(mel_bins, arch.dim, bias=False)
        self.conv1: nn.Module = nn.Conv1d(arch.dim, arch.dim, 31, groups=16, padding=15, bias=False)
        self.conv2: nn.Module = nn.Conv1d(arch.dim, arch.dim, 31, groups=16, padding=15)
        self.blocks = nn.ModuleList([Block(arch) for _ in range(arch.depth)])
        self.proj_out = nn.Linear(arch.dim, mel_bins)

    def load(self, state: State) -> None:
        """Upstream's tensors by name; q, k, v fused, RoPE pairs split into halves."""
        new = end_weights(state, self.x_proj.in_features)
        for i in range(self.arch.depth):
            old = f"transformer_blocks.{i}"
            own = block_weights(state, f"{old}.attn", f"{old}.ff", self.arch)
            new.update({f"blocks.{i}.{name}": value for name, value in own.items()})
        self.load_state_dict(new)

    def forward(self, inputs: StepInputs) -> torch.Tensor:
        """Velocity per row: (R, N, D)."""
        h = embed_input(self, inputs)
        for block, row in zip(self.blocks, inputs.modulation.unbind(0), strict=True):
            h = block(h, row, inputs.cos, inputs.sin, inputs.keys)
        h = F.layer_norm(h, h.shape[-1:], inputs.final[1], inputs.final[0], NORM_EPS)
        return self.proj_out(h)


def linear_of(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def time_embeddings(state: State, times: Sequence[float]) -> torch.Tensor:
    """Upstream's TimestepEmbedding at every evaluation time: (E, C) float32. Sinusoid in float64 (upstream rounds
    1000 t first), then the time MLP."""
    half = 128
    frequency = torch.exp(torch.arange(half, dtype=torch.float64) * -(math.log(10000) / (half - 1)))
    angle = 1000 * torch.tensor(times, dtype=torch.float64)[:, None] * frequency
    sinusoid = torch.cat((angle.sin(), angle.cos()), dim=-1).float()
    return linear_of(state, "time_embed.time_mlp.2", F.silu(linear_of(state, "time_embed.time_mlp.0", sinusoid)))


def modulation_tables(state: State, times: Sequence[float], depth: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What AdaLN needs at every evaluation time: modulation (E, L, 6, C) and final (E, 2, C), float32."""
    embedding = F.silu(time_embeddings(state, times))
    blocks = [linear_of(state, f"transformer_blocks.{i}.attn_norm.linear", embedding) for i in range(depth)]
    modulation = torch.stack(blocks, dim=1).unflatten(-1, (6, -1))  # shift, scale, gate twice
    modulation[:, :, [1, 4]] += 1
    scale, shift = linear_of(state, "norm_out.linear", embedding).chunk(2, dim=-1)
    return modulation, torch.stack((shift, 1 + scale), dim=1)
