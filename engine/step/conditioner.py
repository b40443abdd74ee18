"""What an utterance's text and reference contribute to every step, computed once, in float32.

Upstream: TextEmbedding and InputEmbedding of f5_tts.model.backbones.dit. Shape letters as in engine.step.dit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from engine.step.dit import Arch
from engine.step.packed import pack_conv

MAX_POSITIONS = 8192
DROPPED_TEXTS_KEPT = 64


@dataclass(frozen=True, eq=False, slots=True)
class Conditioning:
    """The constant terms of one solve of B utterances: projected (R, N, C) and convolved (R, C, N), the conditional
    rows first and, where guided, the B unconditional ones after them; lengths: frames of each, N is the longest."""

    projected: torch.Tensor
    convolved: torch.Tensor
    lengths: tuple[int, ...]

    @property
    def num_frames(self) -> int:
        return self.projected.shape[1]

    @property
    def guided(self) -> bool:
        return self.projected.shape[0] == 2 * len(self.lengths)

    @property
    def padded(self) -> bool:
        return min(self.lengths) < self.num_frames


def stack(constants: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Conditioning:
    """Constants of single utterances, (G, N_i, C) and (G, C, N_i) each -> one batch, padded with zeros."""
    lengths = tuple(projected.shape[1] for projected, _ in constants)
    longest = max(lengths)
    projected = [F.pad(p, (0, 0, 0, longest - p.shape[1])) for p, _ in constants]
    convolved = [F.pad(c, (0, longest - c.shape[2])) for _, c in constants]
    return Conditioning(
        torch.stack(projected, dim=1).flatten(0, 1), torch.stack(convolved, dim=1).flatten(0, 1), lengths
    )


def text_positions(num_frames: int, dim: int) -> torch.Tensor:
    """(N, dim) float32: cosines then sines of the text's absolute positions."""
    frequency = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    position = torch.arange(num_frames, dtype=torch.float64).clamp(max=MAX_POSITIONS - 1)
    angle = torch.outer(position, frequency)
    return torch.cat((angle.cos(), angle.sin()), dim=-1).float()


def first_conv(weight: torch.Tensor, bias: torch.Tensor) -> nn.Module:
    """The first of the input's two convolutions, (C, C / 16, 31) and (C,), packed on a CPU where that pays."""
    channels = len(weight)
    conv = nn.Conv1d(channels, channels, 31, groups=16, padding=15, device="meta").requires_grad_(False)
    conv.load_state_dict({"weight": weight, "bias": bias}, assign=True)
    return pack_conv(conv) if weight.device.type == "cpu" else conv


class Conditioner:
    """Text tokens and reference mel -> the constant terms of `DiTStep.forward`, made and left on the device."""

    def __init__(self, arch: Arch, mel_bins: int, state: Mapping[str, torch.Tensor], device: str):
        self.arch, self.device = arch, torch.device(device)
        state = {k: v.to(device) for k, v in state.items() if k.startswith(("text_embed.", "input_embed."))}
        self.text = {k.removeprefix("text_embed."): v for k, v in state.items() if k.startswith("text_embed.")}
        weight = state["input_embed.proj.weight"]
        self.cond_weight, self.text_weight = weight[:, mel_bins : 2 * mel_bins], weight[:, 2 * mel_bins :]
        self.bias = state["input_embed.proj.bias"]
        conv = "input_embed.conv_pos_embed.conv1d.0"
        self.conv = first_conv(state[f"{conv}.weight"], state[f"{conv}.bias"])
        self._dropped: OrderedDict[tuple[int, int], torch.Tensor] = OrderedDict()
        self.dropped_text_hits = 0

    def embed_text(self, token_ids: Sequence[int], num_frames: int, drop: bool) -> torch.Tensor:
        """(N, text_dim): embedded tokens, then filler up to N frames or evenly repeated; drop=True for guidance."""
        arch = self.arch
        ids = torch.tensor(token_ids[:num_frames], dtype=torch.long) + 1  # row 0 is the filler
        num_tokens = len(ids)
        ids = F.pad(ids, (0, num_frames - num_tokens)).to(self.device)
        x = F.embedding(torch.zeros_like(ids) if drop else ids, self.text["text_embed.weight"])
        if arch.conv_layers:
            x = x + text_positions(num_frames, arch.text_dim).to(self.device)
            # The mask is that of the tokens also where they are dropped, as upstream
            spoken = (ids != 0)[:, None] if arch.text_mask_padding else torch.ones_like(ids, dtype=torch.bool)[:, None]
            x = x.masked_fill(~spoken, 0.0)
            for i in range(arch.conv_layers):
                x = self._text_block(f"text_blocks.{i}", x).masked_fill(~spoken, 0.0)
        if not arch.text_embedding_average_upsampling:
            return x
        repeats = torch.full((num_tokens,), num_frames // num_tokens)
        remainder = num_frames % num_tokens  # goes to the last tokens, as upstream
        repeats[num_tokens - remainder :] += 1
        # Told the size, the device need not be asked for it
        return x[:num_tokens].repeat_interleave(repeats.to(self.device), dim=0, output_size=num_frames)

    def _text_block(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """ConvNeXt V2 block (arXiv 2301.00808) over (N, text_dim)."""
        w = {k.removeprefix(name + "."): v for k, v in self.text.items() if k.startswith(name + ".")}
        h = F.conv1d(x.T[None], w["dwconv.weight"], w["dwconv.bias"], padding=3, groups=x.shape[-1])[0].T
        h = F.layer_norm(h, h.shape[-1:], w["norm.weight"], w["norm.bias"], 1e-6)
        h = F.gelu(F.linear(h, w["pwconv1.weight"], w["pwconv1.bias"]))
        energy = h.norm(p=2, dim=0, keepdim=True)
        response = energy / (energy.mean(dim=-1, keepdim=True) + 1e-6)
        h = w["grn.gamma"][0] * (h * response) + w["grn.beta"][0] + h
        return x + F.linear(h, w["pwconv2.weight"], w["pwconv2.bias"])

    def constants(
        self, token_ids: Sequence[int], mel_ND: torch.Tensor, num_frames: int, guided: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """projected (R, N, C) and convolved (R, C, N): conditional row first, unconditional row if guided."""
        cond = F.pad(mel_ND.to(self.device), (0, 0, 0, num_frames - len(mel_ND)))
        rows = [F.linear(cond, self.cond_weight) + self._project_text(token_ids, num_frames, drop=False)]
        if guided:
            rows.append(self._dropped_text(token_ids, num_frames))
        projected = torch.stack(rows)
        return projected, self.conv(projected.transpose(1, 2))

    def _dropped_text(self, token_ids: Sequence[int], num_frames: int) -> torch.Tensor:
        """The unconditional row depends on the number of tokens and frames alone, so it is kept across requests."""
        key = (min(len(token_ids), num_frames), num_frames)
        if key in self._dropped:
            self.dropped_text_hits += 1
            self._dropped.move_to_end(key)
            return self._dropped[key]
        self._dropped[key] = self._project_text(token_ids, num_frames, drop=True)
        if len(self._dropped) > DROPPED_TEXTS_KEPT:
            self._dropped.popitem(last=False)
        return self._dropped[key]

    def _project_text(self, token_ids: Sequence[int], num_frames: int, drop: bool) -> torch.Tensor:
        return F.linear(self.embed_text(token_ids, num_frames, drop), self.text_weight, self.bias)
