"""Whether a file's tensors are the model that is asked for: all that it needs, of the right shapes, and no other.

What upstream's files carry besides is listed where it is allowed, with the value that it must have where another value
would be another model; everything else has to be used. A tensor that is left over means that the file is of another
model (more layers, another form of attention), and dropping it would build a model that nobody trained.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from engine.contract import ConfigError
from engine.settings import ArchSettings

if TYPE_CHECKING:
    import torch


class Shaped(Protocol):
    """A tensor, or what a file's header says of one."""

    @property
    def shape(self) -> Sequence[int]: ...


Shapes = Mapping[str, tuple[int, ...]]
State = Mapping[str, Shaped]
# Values that a file stores in half precision are equal to ours within this
SAME = {"rtol": 1e-2, "atol": 1e-6}
NAMED = 3
# The mel transform's buffers, in files from before upstream computed the mel outside of its model
MODEL_CARRIES = ("mel_spec.mel_stft.mel_scale.fb", "mel_spec.mel_stft.spectrogram.window")
ROPE = "transformer.rotary_embed.inv_freq"
TEXT = "transformer.text_embed"
# The feature extractor of a whole Vocos; the mel is computed by engine.mel
VOCOS_CARRIES = ("feature_extractor.mel_spec.mel_scale.fb", "feature_extractor.mel_spec.spectrogram.window")


@dataclass(frozen=True, eq=False, slots=True)
class Needs:
    """What a model needs of a file. carried: what may stand there besides, with the value that it must have, or None
    for any. described: what a file's tensors say the architecture is."""

    shapes: Shapes
    carried: Mapping[str, torch.Tensor | None]
    described: Callable[[State], str]


def model_carries(arch: ArchSettings) -> dict[str, torch.Tensor | None]:
    """Of F5-TTS and E2-TTS files: the rotary frequencies (upstream's stored buffer) must be those built here."""
    import torch

    from engine.step.dit import ROPE_BASE

    half = arch["dim_head"] // 2
    frequency = (ROPE_BASE ** (-torch.arange(half, dtype=torch.float64) / half)).float()
    return {**dict.fromkeys(MODEL_CARRIES), ROPE: frequency}


def check_shapes(key: str, state: State, needs: Needs, remedy: str) -> None:
    """Raises ConfigError naming the first tensor that is missing, of another shape, or left over."""
    for name, shape in needs.shapes.items():
        if name not in state:
            raise _misfit(key, [name], "is missing from the checkpoint", needs.described(state), remedy)
        if tuple(state[name].shape) != shape:
            says = f"has shape {tuple(state[name].shape)}, the model needs {shape}"
            raise _misfit(key, [name], says, needs.described(state), remedy)
    left = [name for name in state if name not in needs.shapes and name not in needs.carried]
    if left:
        says = f"{'is' if len(left) == 1 else 'are'} in the checkpoint and in no place of the model"
        raise _misfit(key, left, says, needs.described(state), remedy)


def check_fit(key: str, state: Mapping[str, torch.Tensor], needs: Needs, remedy: str) -> None:
    """`check_shapes` and `check_values`. Raises ConfigError."""
    check_shapes(key, state, needs, remedy)
    check_values(key, state, needs, remedy)


def check_values(key: str, state: Mapping[str, torch.Tensor], needs: Needs, remedy: str) -> None:
    """Raises ConfigError for a carried tensor that has not the value which only one model has."""
    for name, value in needs.carried.items():
        if value is not None and name in state and not _is_same(state[name], value):
            says = "has other values than the model that is built here"
            raise _misfit(key, [name], says, needs.described(state), remedy)


def _misfit(key: str, names: Sequence[str], says: str, described: str, remedy: str) -> ConfigError:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    listed = f"(tensor{'s' if len(names) > 1 else ''} {', '.join(names[:NAMED])}{more})"
    return ConfigError(key, listed, f"{says}; the file's tensors say: {described}", remedy)


def _is_same(found: torch.Tensor, value: torch.Tensor) -> bool:
    return found.shape == value.shape and found.isclose(value.to(found), **SAME).all().item()


def _size(state: State, name: str, axis: int) -> int | None:
    shape = state[name].shape if name in state else ()
    return shape[axis] if axis < len(shape) else None


def _numbered(state: State, prefix: str) -> int:
    """How many numbered parts a list of layers has in the file."""
    found = (re.match(re.escape(prefix) + r"\.(\d+)\.", name) for name in state)
    return len({match.group(1) for match in found if match})


def _told(parts: Mapping[str, object], state: State) -> str:
    """What could be read, as settings; for a file of something else, how it begins."""
    known = [f"{name}={value}" for name, value in parts.items() if value not in (None, 0)]
    if known:
        return " ".join(known)
    first = next(iter(state), None)
    return f"{len(state)} tensors, the first is {first}" if first is not None else "no tensors at all"


def model_described(state: State) -> str:
    """Architecture of a CFM(DiT) or CFM(UNetT) checkpoint, spelt as the settings of `model.arch`."""
    stacks = {"DiT": "transformer.transformer_blocks", "UNetT": "transformer.layers"}
    depths = {kind: _numbered(state, prefix) for kind, prefix in stacks.items()}
    backbone = max(depths, key=lambda kind: depths[kind])
    first = f"{stacks[backbone]}.0."
    attn, ff = (f"{first}attn.", f"{first}ff.") if backbone == "DiT" else (f"{first}2.", f"{first}4.")
    dim, hidden = _size(state, "transformer.input_embed.proj.weight", 0), _size(state, f"{ff}ff.0.0.weight", 0)
    rows = _size(state, f"{TEXT}.text_embed.weight", 0)
    parts: dict[str, object] = {
        "backbone": backbone if depths[backbone] else None,
        "depth": depths[backbone],
        "dim": dim,
        "heads*dim_head": _size(state, f"{attn}to_q.weight", 0),
        "ff_mult": f"{hidden / dim:g}" if hidden and dim else None,
        "text_dim": _size(state, f"{TEXT}.text_embed.weight", 1),
        "conv_layers": _numbered(state, f"{TEXT}.text_blocks"),
        "vocabulary": rows - 1 if rows else None,
        "mel_bins": _size(state, "transformer.proj_out.weight", 0),
        "qk_norm": "rms_norm" if f"{attn}q_norm.weight" in state else None,
    }
    if backbone == "UNetT" and depths[backbone]:
        joins = any(re.match(r"transformer\.layers\.\d+\.0\.weight", name) for name in state)
        parts["skip_connect_type"] = "concat" if joins else "add or none"
    return _told(parts, state)


def arch_override(state: State, asked: ArchSettings) -> str | None:
    """The `model.arch` that a DiT's tensors fit, to be pasted; heads are as wide as those that were asked for, which no
    tensor tells. None where the tensors are no whole DiT."""
    first = "transformer.transformer_blocks.0."
    dim, hidden = _size(state, "transformer.input_embed.proj.weight", 0), _size(state, f"{first}ff.ff.0.0.weight", 0)
    inner, text_dim = _size(state, f"{first}attn.to_q.weight", 0), _size(state, f"{TEXT}.text_embed.weight", 1)
    dim_head = asked["dim_head"]
    if not (dim and hidden and inner and text_dim) or inner % dim_head:
        return None
    arch = {
        "dim": dim, "depth": _numbered(state, "transformer.transformer_blocks"), "heads": inner // dim_head,
        "dim_head": dim_head, "ff_mult": f"{hidden / dim:g}", "text_dim": text_dim,
        "conv_layers": _numbered(state, f"{TEXT}.text_blocks"),
    }  # fmt: skip
    if "text_mask_padding" in asked:  # a rule without tensors
        arch["text_mask_padding"] = str(asked["text_mask_padding"]).lower()
    return f"'model.arch={{{', '.join(f'{key}: {value}' for key, value in arch.items())}}}'"


def vocos_described(state: State) -> str:
    """Spelt as the settings of conf/vocoder/vocos.yaml."""
    bins = _size(state, "head.out.weight", 0)
    parts = {
        "backbone.input_channels": _size(state, "backbone.embed.weight", 1),
        "backbone.dim": _size(state, "backbone.embed.weight", 0),
        "backbone.intermediate_dim": _size(state, "backbone.convnext.0.pwconv1.weight", 0),
        "backbone.num_layers": _numbered(state, "backbone.convnext"),
        "head.n_fft": bins - 2 if bins else None,
    }
    return _told(parts, state)


def bigvgan_described(state: State) -> str:
    """Spelt as the settings of conf/vocoder/bigvgan*.yaml."""
    num_ups = _numbered(state, "ups")
    kernels = [_size(state, f"ups.{i}.0.weight", 2) for i in range(num_ups)]
    parts = {
        "num_mels": _size(state, "conv_pre.weight", 1),
        "upsample_initial_channel": _size(state, "conv_pre.weight", 0),
        "upsample_kernel_sizes": kernels or None,
        "resblocks": _numbered(state, "resblocks"),
        "use_bias_at_final": str("conv_post.bias" in state).lower() if "conv_post.weight" in state else None,
    }
    return _told(parts, state)
