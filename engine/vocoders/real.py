"""Vocos in real arithmetic, without what a graph cannot hold: for ONNX, and with masks for padding for CUDA graphs.

irfft of one frame is two real products, cosines with the real part (even in time) and sines with the imaginary part
(odd), so half of the samples need computing; the window is part of both tables. Overlap-add is as many shifted sums as
a window has hops. Shape letters: B batch, D mel bins, N frames, C channels, F = n_fft / 2 + 1 bins, S samples.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from engine.contract import UnsupportedEngine
from engine.vocoders.vocos import VocosSpectrum

TOLERANCE = 1e-4  # largest sample difference, relative to the loudest sample
SMALLEST_ENVELOPE = 1e-11  # torch.istft's own; only where no frame is


class RealISTFT(nn.Module):
    """torch.istft(center=True) of magnitude and phase, (B, F, N) each -> (B, (N - 1) * hop), in real numbers."""

    def __init__(self, window: torch.Tensor, hop: int):
        super().__init__()
        size = len(window)
        self.size, self.hop, half = size, hop, size // 2
        time, bins = torch.arange(half + 1, dtype=torch.float64), torch.arange(half + 1, dtype=torch.float64)
        angle = torch.outer(bins, time) * (2 * math.pi / size)
        twice = torch.full((half + 1, 1), 2.0, dtype=torch.float64)  # a bin and its conjugate; but the ends have none
        twice[0] = twice[-1] = 1.0
        window = window.detach()
        scale = twice / size * window[: half + 1].double().cpu()
        self.register_buffer("cosines", (angle.cos() * scale).float().to(window.device))
        self.register_buffer("sines", (-angle.sin() * scale).float().to(window.device))
        self.register_buffer("envelope", window.square()[None, None])

    def forward(self, magnitude: torch.Tensor, phase: torch.Tensor, own_BN: torch.Tensor | None = None) -> torch.Tensor:
        """own_BN: 1 where a frame is the row's own, 0 in its padding; the samples of n own frames, (n - 1) * hop, are
        then those of n frames alone, and what follows means nothing."""
        even = (magnitude * phase.cos()).transpose(1, 2) @ self.cosines
        odd = (magnitude * phase.sin()).transpose(1, 2) @ self.sines
        mirrored = (even - odd)[..., 1:-1].flip(-1)
        frames = torch.cat((even + odd, mirrored), dim=-1)
        start, stop = self.size // 2, self.size // 2 + (frames.shape[1] - 1) * self.hop
        if own_BN is None:
            envelope = self.envelope.expand(1, frames.shape[1], self.size)
            return self._overlap(frames)[:, start:stop] / self._overlap(envelope)[:, start:stop]
        envelope = self._overlap(self.envelope * own_BN[..., None])[:, start:stop].clamp(min=SMALLEST_ENVELOPE)
        return self._overlap(frames * own_BN[..., None])[:, start:stop] / envelope

    def _overlap(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, N, size) -> (B, (N - 1) * hop + size)."""
        hops = self.size // self.hop
        parts = frames.unflatten(2, (hops, self.hop)).unbind(2)
        shifted = [F.pad(part, (0, 0, i, hops - 1 - i)) for i, part in enumerate(parts)]
        return torch.stack(shifted).sum(0).flatten(1)


class VocosGraph(nn.Module):
    """mel (B, D, N) -> audio (B, (N - 1) * hop)."""

    def __init__(self, vocos: Any):
        super().__init__()
        self.spectrum = VocosSpectrum(vocos)
        self.istft = RealISTFT(vocos.head.istft.window, vocos.head.istft.hop_length)

    def forward(self, mel_BDN: torch.Tensor) -> torch.Tensor:
        return self.istft(*self.spectrum(mel_BDN))


class MaskedVocos(nn.Module):
    """mel (B, D, N) and own (B, N), 1 where a frame is the row's own -> audio (B, (N - 1) * hop): the first
    (n - 1) * hop samples of a row with n own frames are what Vocos makes of those alone. Between its convolutions
    nothing of Vocos reaches over a frame, so what each of them reads beyond the end is set to zero, as its padding is.
    """

    def __init__(self, vocos: Any):
        super().__init__()
        if getattr(vocos.head.istft, "padding", "center") != "center":
            raise UnsupportedEngine(
                f"the inverse STFT in real arithmetic is centred, vocoder.head.padding is {vocos.head.istft.padding}",
                "use vocoder.runtime=eager",
            )
        self.backbone, self.out = vocos.backbone, vocos.head.out
        self.istft = RealISTFT(vocos.head.istft.window, vocos.head.istft.hop_length)

    def forward(self, mel_BDN: torch.Tensor, own_BN: torch.Tensor) -> torch.Tensor:
        own_B1N, backbone = own_BN[:, None], self.backbone
        h_BCN = backbone.norm(backbone.embed(mel_BDN * own_B1N).transpose(1, 2)).transpose(1, 2)
        for block in backbone.convnext:
            h_BCN = block(h_BCN * own_B1N)
        out = self.out(backbone.final_layer_norm(h_BCN.transpose(1, 2)))
        magnitude, phase = out.transpose(1, 2).chunk(2, dim=1)
        return self.istft(magnitude.exp().clip(max=1e2), phase, own_BN)  # Vocos' own bound


def own_frames(lengths_B: torch.Tensor, num_frames: int) -> torch.Tensor:
    """(B, N) float32, 1 for the first lengths_B[i] frames of row i; all of it on the device of lengths_B."""
    return (torch.arange(num_frames, device=lengths_B.device) < lengths_B[:, None]).float()


@torch.inference_mode()
def check_real(vocos: Any, form: MaskedVocos, frames: int) -> float:
    """Largest difference of a sample between Vocos and its masked form with as much padding again, on their device.
    Raises UnsupportedEngine above the tolerance, or where something is not finite."""
    device = form.istft.envelope.device
    generator = torch.Generator().manual_seed(frames)
    mel = torch.randn(1, vocos.backbone.input_channels, frames, generator=generator).to(device) * 2 - 4
    expected = vocos.decode(mel)
    own = own_frames(torch.tensor([frames], device=device), 2 * frames)
    found = form(F.pad(mel, (0, frames)), own)[:, : expected.shape[1]]
    gap, allowed = float((found - expected).abs().max()), TOLERANCE * float(expected.abs().max())
    if not gap <= allowed:
        raise UnsupportedEngine(
            f"the vocoder in real arithmetic is {gap:.1e} from PyTorch's at {frames} frames, {allowed:.0e} is allowed",
            "use vocoder.runtime=eager",
        )
    return gap
