"""Vocoders: mel (1, D, N) float32 -> audio (1, S) float32. Vocos with upstream's own classes, run in three ways, and
BigVGAN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from engine.step.precision import weight_bytes, weight_histogram
from engine.weights.checkpoint import content_sha256, draw_state, is_random, locate, random_seed
from engine.weights.file import read_state
from engine.weights.fit import VOCOS_CARRIES, Needs, Shapes, bigvgan_described, check_fit, vocos_described


class Vocoder(Protocol):
    """engine.mel.chunk_samples says how many samples. `proof` shows that it ran as named: `runtime`, what that counts,
    and in `steady_counters` what may not move once the engine is warm."""

    def decode(self, mel_BDN: torch.Tensor) -> torch.Tensor: ...

    def proof(self) -> Mapping[str, Any]: ...


class EagerVocoder:
    """Implements Vocoder by a module with `decode`, as PyTorch runs it."""

    def __init__(self, module: Any):
        self.module = module

    def decode(self, mel_BDN: torch.Tensor) -> torch.Tensor:
        return self.module.decode(mel_BDN)

    def proof(self) -> Mapping[str, Any]:
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


def with_vocoder(proof: Mapping[str, Any], vocoder: Vocoder) -> dict[str, Any]:
    """An engine's proof with the vocoder's beside it; what may not move is counted with the engine's."""
    own = dict(vocoder.proof())
    steady = {f"vocoder_{name}": count for name, count in own.pop("steady_counters", {}).items()}
    both = {**proof, "vocoder": own}
    if steady:
        both["steady_counters"] = {**proof.get("steady_counters", {}), **steady}
    return both


def load_vocoder(config: Mapping[str, Any], device: str) -> LoadedVocoder:
    """The checked `vocoder` group -> a vocoder on the device, float32.

    Raises ConfigError for weights that do not fit, UnsupportedEngine for a runtime that is not to be had here."""
    module = _bigvgan(config) if config["kind"] == "bigvgan" else _vocos(config)
    shapes = {name: tuple(value.shape) for name, value in module.named_parameters()}
    source = config["checkpoint"]
    state: Mapping[str, torch.Tensor]
    if is_random(source):
        state, digest = draw_state(shapes, random_seed("vocoder.checkpoint", source)), source
    else:
        path = locate("vocoder.checkpoint", source)
        state, digest = _read(path, config["kind"]), content_sha256(path)
        needs = _needs(module, config["kind"], shapes)
        check_fit("vocoder.checkpoint", state, needs, "choose the vocoder config that belongs to the weights")
    module.load_state_dict({**module.state_dict(), **{name: state[name] for name in shapes}})
    module = module.to(device).eval()
    num_bytes = sum(p.numel() * p.element_size() for p in module.parameters())
    decoder = run_by(config.get("runtime", "eager"), module, digest, config, device)
    if (histogram := decoder.proof().get("weight_elements_by_dtype")) is not None:
        num_bytes = weight_bytes(histogram)
    return LoadedVocoder(decoder, config["name"], digest, num_bytes, is_random(source))


def _needs(module: nn.Module, kind: str, shapes: Shapes) -> Needs:
    """A file may carry the module's own buffers, with their values, and what a whole one of its kind has besides."""
    if kind == "bigvgan":
        from engine.vocoders.bigvgan import filter_names

        return Needs(shapes, dict.fromkeys(filter_names(module)), bigvgan_described)
    buffers = {name: value for name, value in module.state_dict().items() if name not in shapes}
    return Needs(shapes, {**dict.fromkeys(VOCOS_CARRIES), **buffers}, vocos_described)


def _vocos(config: Mapping[str, Any]) -> nn.Module:
    from vocos.heads import ISTFTHead
    from vocos.models import VocosBackbone
    from vocos.pretrained import Vocos

    return Vocos(nn.Identity(), VocosBackbone(**config["backbone"]), ISTFTHead(**config["head"]))


def _bigvgan(config: Mapping[str, Any]) -> nn.Module:
    from engine.vocoders.bigvgan import Architecture, BigVGAN

    return BigVGAN(Architecture.of(config["generator"]))


def _read(path: Path, kind: str) -> Mapping[str, torch.Tensor]:
    from engine.vocoders.bigvgan import check_filters, folded

    state = read_state("vocoder.checkpoint", path)
    if kind != "bigvgan":
        return state
    check_filters(state)
    return folded(state)


def run_by(runtime: str, module: Any, digest: str, config: Mapping[str, Any], device: str) -> Vocoder:
    """Raises UnsupportedEngine where the runtime is not to be had here."""
    if runtime == "onnx":
        from engine.vocoders.onnx import vocos_by_onnx

        return vocos_by_onnx(module, digest, config, device)
    if runtime == "compiled":
        from engine.vocoders.compiled import CompiledVocos

        return CompiledVocos(module, config.get("precision", "fp32"), config.get("inductor") or {}, device)
    return EagerVocoder(module)
