"""A checked `vocoder` group -> a vocoder on the device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine.contract import counts_in
from engine.settings import VocoderSettings
from engine.step.precision import weight_bytes
from engine.vocoders.vocos import EagerVocoder, LoadedVocoder, Vocoder, _needs
from engine.weights.checkpoint import content_sha256, draw_state, is_random, locate, random_seed
from engine.weights.file import read_state
from engine.weights.fit import check_fit


def load_vocoder(config: VocoderSettings, device: str) -> LoadedVocoder:
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
    if histogram := counts_in(decoder.proof(), "weight_elements_by_dtype"):
        num_bytes = weight_bytes(histogram)
    return LoadedVocoder(decoder, config["name"], digest, num_bytes, is_random(source))


def _vocos(config: VocoderSettings) -> nn.Module:
    from vocos.heads import ISTFTHead
    from vocos.models import VocosBackbone
    from vocos.pretrained import Vocos

    return Vocos(nn.Identity(), VocosBackbone(**config["backbone"]), ISTFTHead(**config["head"]))


def _bigvgan(config: VocoderSettings) -> nn.Module:
    from engine.vocoders.bigvgan import Architecture, BigVGAN

    return BigVGAN(Architecture.of(config["generator"]))


def _read(path: Path, kind: str) -> Mapping[str, torch.Tensor]:
    from engine.vocoders.bigvgan import check_filters, folded

    state = read_state("vocoder.checkpoint", path)
    if kind != "bigvgan":
        return state
    check_filters(state)
    return folded(state)


def run_by(runtime: str, module: Any, digest: str, config: VocoderSettings, device: str) -> Vocoder:
    """Raises UnsupportedEngine where the runtime is not to be had here."""
    if runtime == "onnx":
        from engine.vocoders.onnx import vocos_by_onnx

        return vocos_by_onnx(module, digest, config, device)
    if runtime == "compiled":
        from engine.vocoders.compiled import CompiledVocos

        return CompiledVocos(module, config.get("precision", "fp32"), config.get("inductor") or {}, device)
    if runtime == "cuda":
        from engine.vocoders.cuda import vocos_for_cuda

        return vocos_for_cuda(module, config, device)
    return EagerVocoder(module)
