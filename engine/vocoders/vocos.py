"""Vocoders: mel (1, D, N) float32 -> audio (1, S) float32. Vocos with upstream's own classes, run in four ways, and
BigVGAN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from engine.contract import STEADY, Proof, counts_in
from engine.step.precision import weight_histogram
from engine.weights.fit import VOCOS_CARRIES, Needs, Shapes, bigvgan_described, vocos_described


class Vocoder(Protocol):
    """engine.mel.chunk_samples says how many samples. `proof` shows that it ran as named: `runtime`, what that counts,
    and in `steady_counters` what may not move once the engine is warm."""

    def decode(self, mel_BDN: torch.Tensor) -> torch.Tensor: ...

    def proof(self) -> Proof: ...


class EagerVocoder:
    """Implements Vocoder by a module with `decode`, as PyTorch runs it."""

    def __init__(self, module: Any):
        self.module = module

    def decode(self, mel_BDN: torch.Tensor) -> torch.Tensor:
        return self.module.decode(mel_BDN)

    def proof(self) -> Proof:
        return {"runtime": "eager", "weight_elements_by_dtype": weight_histogram(self.module)}


@dataclass(frozen=True, eq=False, slots=True)
class LoadedVocoder:
    """A vocoder with what its facts need."""

    decoder: Vocoder
    name: str
    sha256: str
    num_bytes: int
    random: bool


class VocosSpectrum(nn.Module):
    """All of Vocos before its inverse STFT: mel (B, D, N) -> magnitude and phase, (B, F, N) each."""

    def __init__(self, vocos: Any):
        super().__init__()
        self.backbone, self.out = vocos.backbone, vocos.head.out

    def forward(self, mel_BDN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        magnitude, phase = self.out(self.backbone(mel_BDN)).transpose(1, 2).chunk(2, dim=1)
        return magnitude.exp().clip(max=1e2), phase  # Vocos' own bound


def with_vocoder(proof: Proof, vocoder: Vocoder) -> dict[str, object]:
    """An engine's proof with the vocoder's beside it; what may not move is counted with the engine's."""
    own = dict(vocoder.proof())
    steady = {f"vocoder_{name}": count for name, count in counts_in(own, STEADY).items()}
    own.pop(STEADY, None)
    both = {**proof, "vocoder": own}
    return {**both, STEADY: {**counts_in(proof, STEADY), **steady}} if steady else both


def _needs(module: nn.Module, kind: str, shapes: Shapes) -> Needs:
    """A file may carry the module's own buffers, with their values, and what a whole one of its kind has besides."""
    if kind == "bigvgan":
        from engine.vocoders.bigvgan import filter_names

        return Needs(shapes, dict.fromkeys(filter_names(module)), bigvgan_described)
    buffers = {name: value for name, value in module.state_dict().items() if name not in shapes}
    return Needs(shapes, {**dict.fromkeys(VOCOS_CARRIES), **buffers}, vocos_described)
