"""Vocoders: mel (1, D, N) float32 -> audio (1, S) float32. Vocos with upstream's own classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from engine.checkpoint import check_shapes, content_sha256, draw_state, is_random, locate, random_seed, read_state
from engine.contract import ConfigError


class Vocoder(Protocol):
    """One method. Output samples for N frames: (N - 1) * hop."""

    def decode(self, mel_BDN: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True, eq=False, slots=True)
class LoadedVocoder:
    """A vocoder with what its facts need. `module` is a vocos.Vocos without feature extractor, or an OnnxVocos."""

    module: Any
    name: str
    sha256: str
    num_bytes: int
    random: bool


def load_vocos(config: Mapping[str, Any], device: str) -> LoadedVocoder:
    """The `vocoder` group -> Vocos on the device, float32. Raises ConfigError for weights that do not fit.

    runtime: eager (the default) or onnx."""
    from vocos.heads import ISTFTHead
    from vocos.models import VocosBackbone
    from vocos.pretrained import Vocos

    if config["kind"] != "vocos":
        raise ConfigError("vocoder.kind", config["kind"], "must be vocos", "use vocoder=vocos")
    runtime = config.get("runtime", "eager")
    if runtime not in ("eager", "onnx"):
        raise ConfigError("vocoder.runtime", runtime, "must be eager or onnx", "use vocoder=vocos or vocos_onnx")
    module = Vocos(torch.nn.Identity(), VocosBackbone(**config["backbone"]), ISTFTHead(**config["head"]))
    own = module.state_dict()
    shapes = {name: tuple(value.shape) for name, value in own.items() if not name.startswith("head.istft.")}
    source = config["checkpoint"]
    if is_random(source):
        state, digest = draw_state(shapes, random_seed("vocoder.checkpoint", source)), source
    else:
        path = locate("vocoder.checkpoint", source)
        state, digest = read_state("vocoder.checkpoint", path), content_sha256(path)
        check_shapes("vocoder.checkpoint", state, shapes, "choose the vocoder config that belongs to the weights")
    module.load_state_dict({**own, **{name: state[name] for name in shapes}})
    module = module.to(device).eval()
    num_bytes = sum(p.numel() * p.element_size() for p in module.parameters())
    if runtime == "onnx":
        from engine.vocoder_onnx import vocos_by_onnx

        module = vocos_by_onnx(module, digest, config, device)
    return LoadedVocoder(module, config["name"], digest, num_bytes, is_random(source))
