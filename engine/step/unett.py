"""The flat U-Net transformer of E2-TTS as one step, called as `engine.step.dit.DiTStep` is.

Upstream: f5_tts.model.backbones.unett. Time enters as one token before the frames, so the table of an evaluation time
is its embedding (C,) in the place of `modulation`, and `final` is empty. Shape letters as in engine.step.dit; M = N +
1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from engine.contract import UnsupportedEngine
from engine.settings import ArchSettings
from engine.step.attention import Attend, flash
from engine.step.dit import (
    Arch,
    DiTStep,
    State,
    block_weights,
    embed_input,
    end_weights,
    mix,
    rope_table,
    split_halves,
)
from engine.step.inputs import StepInputs

QK_NORM_EPS = 1e-6
NORM_MIN = 1e-12  # x_transformers' RMSNorm divides by the norm, or by this where the norm is smaller


@dataclass(frozen=True, kw_only=True, slots=True)
class UNetTArch:
    """The `arch` of upstream's model YAML with backbone UNetT: what it shares with the DiT, and its own. skip: add,
    concat or none, how the second half's blocks take what entered their mirror image in the first."""

    shared: Arch
    qk_norm: bool
    skip: str

    @staticmethod
    def of(config: ArchSettings) -> UNetTArch:
        """Raises UnsupportedEngine for parts of upstream's UNetT that no released checkpoint uses."""
        if config.get("conv_layers"):
            raise UnsupportedEngine(
                f"model.arch.conv_layers={config['conv_layers']} is not built with model.backbone=UNetT",
                "use engine=upstream",
            )
        shared = {name: value for name, value in config.items() if name not in ("qk_norm", "skip_connect_type")}
        skip = str(config.get("skip_connect_type", "concat"))
        return UNetTArch(
            shared=Arch.of(cast(ArchSettings, shared)), qk_norm=config.get("qk_norm") is not None, skip=skip
        )


def rms_norm(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    """x_transformers' RMSNorm: the mean square has no epsilon."""
    return F.rms_norm(x, x.shape[-1:], gain, NORM_MIN**2 / x.shape[-1])


class UNetTBlock(nn.Module):
    """One block: skip connection, attention, feed-forward."""

    def __init__(self, arch: UNetTArch, is_later: bool):
        super().__init__()
        shared = arch.shared
        inner, hidden = shared.heads * shared.dim_head, int(shared.dim * shared.ff_mult)
        self.attend: Attend = flash
        self.heads, self.dim_head = shared.heads, shared.dim_head
        joins = arch.skip == "concat" and is_later
        self.skip = nn.Linear(2 * shared.dim, shared.dim, bias=False) if joins else None
        self.norm_a = nn.Parameter(torch.ones(shared.dim))
        self.norm_f = nn.Parameter(torch.ones(shared.dim))
        self.qk_gain = nn.Parameter(torch.ones(2, 1, shared.dim_head)) if arch.qk_norm else None
        self.qkv = nn.Linear(shared.dim, 3 * inner)
        self.out = nn.Linear(inner, shared.dim)
        self.ff_in = nn.Linear(shared.dim, hidden)
        self.act: nn.Module = nn.GELU(approximate="tanh")
        self.ff_out = nn.Linear(hidden, shared.dim)

    def forward(
        self,
        x: torch.Tensor,
        skipped: torch.Tensor | None,
        cos: torch.Tensor,
        sin: torch.Tensor,
        key_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        if skipped is not None:
            # Autocast would hand the narrow dtype on to every later sum
            x = x + skipped if self.skip is None else self.skip(torch.cat((x, skipped), dim=-1)).to(x.dtype)
        x = x + self.attention(rms_norm(x, self.norm_a), cos, sin, key_mask)
        return x + self.ff_out(self.act(self.ff_in(rms_norm(x, self.norm_f))))

    def attention(
        self, h: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, key_mask: torch.Tensor | None
    ) -> torch.Tensor:
        rows, tokens, _ = h.shape
        qkv = self.qkv(h).view(rows, tokens, 3, self.heads, self.dim_head)
        if self.qk_gain is not None:
            qk = F.rms_norm(qkv[:, :, :2], (self.dim_head,), eps=QK_NORM_EPS) * self.qk_gain
            qkv = torch.cat((qk.to(qkv.dtype), qkv[:, :, 2:]), dim=2)
        return self.out(mix(qkv, cos, sin, key_mask, self.attend).reshape(rows, tokens, -1))


class UNetTStep(nn.Module):
    """One evaluation for all rows. Weights come from `load`."""

    def __init__(self, arch: UNetTArch, mel_bins: int):
        super().__init__()
        dim, self.depth, self.arch = arch.shared.dim, arch.shared.depth, arch
        self.x_proj = nn.Linear(mel_bins, dim, bias=False)
        self.conv1: nn.Module = nn.Conv1d(dim, dim, 31, groups=16, padding=15, bias=False)
        self.conv2: nn.Module = nn.Conv1d(dim, dim, 31, groups=16, padding=15)
        self.blocks = nn.ModuleList([UNetTBlock(arch, i >= self.depth // 2) for i in range(self.depth)])
        self.norm_out = nn.Parameter(torch.ones(dim))
        self.proj_out = nn.Linear(dim, mel_bins)
        # Upstream counts from the time token; scores depend on distances alone, so frames keep the DiT's table and
        # the token stands at -1
        cos, sin = rope_table(2, arch.shared)
        self.register_buffer("time_cos", cos[1:], persistent=False)
        self.register_buffer("time_sin", -sin[1:], persistent=False)

    def load(self, state: State) -> None:
        """Upstream's tensors by name; q, k, v fused, RoPE pairs split into halves, also in the norms of q and k."""
        new = {**end_weights(state, self.x_proj.in_features), "norm_out": state["norm_out.g"]}
        for i in range(self.depth):
            old, shared = f"layers.{i}", self.arch.shared
            own = block_weights(state, f"{old}.2", f"{old}.4", shared)
            own |= {"norm_a": state[f"{old}.1.g"], "norm_f": state[f"{old}.3.g"]}
            if self.arch.qk_norm:
                gains = [split_halves(state[f"{old}.2.{n}_norm.weight"], 1, shared.dim_head) for n in "qk"]
                own["qk_gain"] = torch.stack(gains)[:, None]
            if f"{old}.0.weight" in state:
                own["skip.weight"] = state[f"{old}.0.weight"]
            new.update({f"blocks.{i}.{name}": value for name, value in own.items()})
        self.load_state_dict(new)

    def forward(self, inputs: StepInputs) -> torch.Tensor:
        """As DiTStep.forward, with modulation (C,), the time's embedding, and nothing in final."""
        h = embed_input(self, inputs)
        h = torch.cat((inputs.modulation.expand(h.shape[0], 1, -1).to(h.dtype), h), dim=1)
        cos, sin = torch.cat((self.time_cos, inputs.cos)), torch.cat((self.time_sin, inputs.sin))
        keys = None if inputs.keys is None else F.pad(inputs.keys, (1, 0))
        entered: list[torch.Tensor] = []
        for i, block in enumerate(self.blocks):
            if i < self.depth // 2:
                entered.append(h)
                h = block(h, None, cos, sin, keys)
            else:
                skipped = entered.pop()
                h = block(h, None if self.arch.skip == "none" else skipped, cos, sin, keys)
        return self.proj_out(rms_norm(h, self.norm_out)[:, 1:])


Step = DiTStep | UNetTStep
