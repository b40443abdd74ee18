"""Which of upstream's releases a checkpoint is, where its tensors do not tell.

F5TTS_Base (v0) and F5TTS_v1_Base have the same tensors and differ in what leaves none: whether the text's filler is
masked, whether every head is turned by RoPE or the first alone, and the mel may be Vocos' or BigVGAN's. Weights of one
run with the settings of another speak nonsense that no loader notices. A file in a folder of upstream's name says which
it is; any other file of these sizes does not, so `model.release` has to. Upstream: f5_tts/configs/F5TTS_*.yaml.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.contract import ConfigError
from engine.mel import mel_kind
from engine.settings import ArchSettings, ModelSettings

# Of `model.arch`, with upstream's default where a configuration is silent
DEFAULTS: Mapping[str, object] = {
    "text_mask_padding": True, "pe_attn_head": None, "text_embedding_average_upsampling": False,
}  # fmt: skip
V0 = {**DEFAULTS, "text_mask_padding": False, "pe_attn_head": 1}


@dataclass(frozen=True, slots=True)
class Release:
    """What the weights of a release were trained with. preset: the model that has these settings."""

    arch: Mapping[str, object]
    mel: str
    preset: str


RELEASES: Mapping[str, Release] = {
    "v0": Release(V0, "vocos", "model=f5tts_base"),
    "v0_bigvgan": Release(V0, "bigvgan", "model=f5tts_base_bigvgan"),
    "v1": Release(DEFAULTS, "vocos", "model=f5tts_v1_base"),
    "v1_bigvgan": Release(DEFAULTS, "bigvgan", "model=f5tts_v1_base model.mel_spec_type=bigvgan"),
}
FOLDERS: Mapping[str, str] = {
    "F5TTS_Base": "v0", "F5TTS_Base_bigvgan": "v0_bigvgan", "F5TTS_Small": "v0",
    "F5TTS_v1_Base": "v1", "F5TTS_v1_Base_no_zero_init": "v1", "F5TTS_v1_Small": "v1",
}  # fmt: skip
# dim, depth, heads * dim_head, ff_mult, text_dim, conv_layers: upstream's Base and Small, alike in all releases
SIZES = {(1024, 22, 1024, 2, 512, 4), (768, 18, 768, 2, 512, 4)}


def check_release(model: ModelSettings, path: Path | None) -> None:
    """Raises ConfigError where the file and the settings are of two releases, and where nothing says which the file is.

    path: the checkpoint's; None: drawn weights.
    """
    stated = model.get("release")
    if stated is not None and stated not in RELEASES:
        raise ConfigError("model.release", stated, f"must be one of {', '.join(RELEASES)}, or null", "use null")
    if model["backbone"] != "DiT":
        return
    known = FOLDERS.get(path.parent.name) if path is not None else None
    if path is not None and known is not None:
        source = f"model.checkpoint is upstream's {path.parent.name}/{path.name}"
        if stated not in (None, known):
            raise ConfigError(
                "model.release", stated, f"{source}, and that is {known}",
                f"use model.release={known}, or move the file if the folder's name is wrong",
            )  # fmt: skip
        _check_settings(model, known, f"{source} ({known})")
    elif stated is not None:
        _check_settings(model, stated, f"model.release={stated}")
    elif path is not None and _size(model["arch"]) in SIZES:
        raise ConfigError(
            "model.release", "null",
            f"{path.name} has the tensors of F5TTS_v1_Base and of the older F5TTS_Base, and does not say which it is",
            "set model.release=v1 with model=f5tts_v1_base if that was trained or fine-tuned, "
            "model.release=v0 with model=f5tts_base if the older one was",
        )  # fmt: skip


def _check_settings(model: ModelSettings, name: str, why: str) -> None:
    release = RELEASES[name]
    settings = {f"arch.{key}": (model["arch"].get(key, DEFAULTS[key]), value) for key, value in release.arch.items()}
    settings["mel_spec_type"] = (mel_kind(model), release.mel)
    for key, (found, wanted) in settings.items():
        if json.dumps(found) != json.dumps(wanted):  # 1 is not true
            raise ConfigError(
                f"model.{key}", json.dumps(found), f"{why}, which has {json.dumps(wanted)}", f"use {release.preset}"
            )


def _size(arch: ArchSettings) -> tuple[Any, ...]:
    inner = arch["heads"] * arch["dim_head"]
    return arch["dim"], arch["depth"], inner, arch["ff_mult"], arch.get("text_dim"), arch.get("conv_layers")
