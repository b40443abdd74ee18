"""`engine.step.conditioner.Conditioner` for a padded batch, every input on the device and no value of it on the host:
what a graph of the whole call can hold. Each row is what `Conditioner` makes of it alone, to rounding.

Shape letters as in engine.step.dit; G guidance rows, R = G B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from engine.step.conditioner import Conditioner, text_positions


@dataclass(frozen=True, eq=False, slots=True)
class MaskedInputs:
    """tokens (B, N) int64: token + 1, 0 where there is none; source (B, N) int64: which token a frame repeats, None for
    models whose text is not spread; mel (B, N, D): the reference, then zeros; own (B, N): 1 for a row's own frames."""

    tokens: torch.Tensor
    source: torch.Tensor | None
    mel: torch.Tensor
    own: torch.Tensor


class MaskedConditioner:
    """The weights are the conditioner's own."""

    def __init__(self, conditioner: Conditioner):
        self._from = conditioner

    @property
    def spreads(self) -> bool:
        """Whether it reads `MaskedInputs.source`."""
        return self._from.arch.text_embedding_average_upsampling

    def positions(self, num_frames: int) -> torch.Tensor:
        """(N, text_dim), on the device; made before a capture and given to every `constants` of this length."""
        return text_positions(num_frames, self._from.arch.text_dim).to(self._from.device)

    def constants(
        self, inputs: MaskedInputs, positions: torch.Tensor, guided: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """projected (R, N, C) and convolved (R, C, N), the unconditional rows last; zero beyond a row's own frames (the
        convolved ones up to what the kernel reaches over)."""
        weights, batch = self._from, len(inputs.tokens)
        text = self._embedded(inputs, positions, guided)
        projected = F.linear(text, weights.text_weight, weights.bias)
        reference = F.linear(inputs.mel, weights.cond_weight)
        projected = torch.cat((reference + projected[:batch], projected[batch:]))
        projected = projected * inputs.own.repeat(len(projected) // batch, 1)[..., None]
        return projected, weights.conv(projected.transpose(1, 2))

    def _embedded(self, inputs: MaskedInputs, positions: torch.Tensor, guided: bool) -> torch.Tensor:
        """(R, N, text_dim)."""
        arch, tokens, times = self._from.arch, inputs.tokens, 2 if guided else 1
        dropped = (torch.zeros_like(tokens),) if guided else ()
        x = F.embedding(torch.cat((tokens, *dropped)), self._from.text["text_embed.weight"])
        own = inputs.own.repeat(times, 1)[..., None]
        if arch.conv_layers:
            # Beyond a row's own frames everything reads zero, as beyond the end of a run of its own length
            spoken = (tokens != 0).to(x.dtype).repeat(times, 1)[..., None] if arch.text_mask_padding else own
            x = (x + positions) * spoken
            for i in range(arch.conv_layers):
                x = self._block(f"text_blocks.{i}", x, own) * spoken
        if inputs.source is None:
            return x
        source = inputs.source.repeat(times, 1)[..., None]
        return x.gather(1, source.expand(-1, -1, x.shape[-1]))

    def _block(self, name: str, x: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """ConvNeXt V2 block (arXiv 2301.00808) over (R, N, text_dim), its norm over a row's own frames."""
        w = {key.removeprefix(name + "."): v for key, v in self._from.text.items() if key.startswith(name + ".")}
        h = F.conv1d(x.transpose(1, 2), w["dwconv.weight"], w["dwconv.bias"], padding=3, groups=x.shape[-1])
        h = F.layer_norm(h.transpose(1, 2), h.shape[1:2], w["norm.weight"], w["norm.bias"], 1e-6)
        h = F.gelu(F.linear(h, w["pwconv1.weight"], w["pwconv1.bias"]))
        energy = (h * own).norm(p=2, dim=1, keepdim=True)
        response = energy / (energy.mean(dim=-1, keepdim=True) + 1e-6)
        h = w["grn.gamma"][0] * (h * response) + w["grn.beta"][0] + h
        return x + F.linear(h, w["pwconv2.weight"], w["pwconv2.bias"])


def token_row(token_ids: Sequence[int], num_frames: int, out_N: np.ndarray) -> None:
    """Fills a row of `MaskedInputs.tokens`."""
    out_N[:] = 0
    ids = np.asarray(token_ids[:num_frames], dtype=np.int64)
    out_N[: len(ids)] = ids + 1  # row 0 of the embedding is the filler


def source_row(num_tokens: int, num_frames: int, out_N: np.ndarray) -> None:
    """Fills a row of `MaskedInputs.source`: each token the same number of frames, the last ones one more."""
    out_N[:] = 0
    repeats = np.full(num_tokens, num_frames // num_tokens)
    repeats[num_tokens - num_frames % num_tokens :] += 1
    out_N[:num_frames] = np.repeat(np.arange(num_tokens), repeats)
