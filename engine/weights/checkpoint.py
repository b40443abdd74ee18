"""Weights and vocabularies: where they come from, that they fit, and their hash.

A source is a path (engine.paths says where a relative one starts), `hub:OWNER/REPO/FILE` (looked up in the local hub
cache, never downloaded here), `f5_tts:FILE` (a file inside the installed f5_tts package) or `random:SEED`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract import ConfigError
from engine.paths import ROOT as ROOT
from engine.paths import find_file
from engine.settings import ModelSettings
from engine.weights.file import header_shapes, read_state
from engine.weights.fit import (
    MODEL_CARRIES,
    ROPE,
    Needs,
    Shapes,
    State,
    arch_override,
    check_shapes,
    check_values,
    model_carries,
    model_described,
)
from engine.weights.shapes import dit_shapes, unett_shapes
from engine.weights.vocabulary import read_vocabulary

if TYPE_CHECKING:
    import torch


# What is made here and not shipped, and by which command
MADE = {"outputs/pocket_small/pocket_small.safetensors": "`make students` teaches it, ten minutes on two quiet cores"}


def is_random(source: str) -> bool:
    return source.startswith("random:")


def random_seed(key: str, source: str) -> int:
    seed = source.removeprefix("random:")
    if not (seed.isascii() and seed.isdigit()) or len(seed) > 18:  # of a 64-bit generator
        raise ConfigError(key, source, "after random: a whole number is needed", "use random:0")
    return int(seed)


def locate(key: str, source: str) -> Path:
    """Source -> existing file. Raises ConfigError with what to do when it is not there."""
    if source.startswith("hub:"):
        return _hub_file(key, source)
    if source.startswith("f5_tts:"):
        spec = importlib.util.find_spec("f5_tts")
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(key, source, "the package f5_tts is not installed", "pip install f5-tts")
        path = Path(next(iter(spec.submodule_search_locations))) / source.removeprefix("f5_tts:")
    else:
        path = find_file(source)
    if not path.is_file():
        remedy = MADE.get(source, "give the path of a checkpoint, hub:OWNER/REPO/FILE or random:0")
        raise ConfigError(key, source, "no such file", remedy)
    return path


def _hub_file(key: str, source: str) -> Path:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    parts = source.removeprefix("hub:").split("/", 2)
    if len(parts) != 3:
        raise ConfigError(key, source, "must read hub:OWNER/REPO/FILE", "for example hub:SWivid/F5-TTS/NAME")
    owner, repo, file = parts
    try:
        cached = try_to_load_from_cache(f"{owner}/{repo}", file)
    except HFValidationError as error:
        raise ConfigError(
            key, source, f"is no name that the hub has ({error})", "for example hub:SWivid/F5-TTS/NAME"
        ) from error
    if not isinstance(cached, str):
        fetch = shlex.join(["hf", "download", f"{owner}/{repo}", file])
        raise ConfigError(
            key, source, "not in the local hub cache", f"fetch it once with `{fetch}`, or give a local path",
        )  # fmt: skip
    return Path(cached)


@lru_cache(maxsize=16)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def content_sha256(path: Path) -> str:
    """Hash of the file's bytes."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


def draw_state(shapes: Shapes, seed: int) -> dict[str, torch.Tensor]:
    """Every parameter from a seeded normal distribution: 1/sqrt(fan in) for matrices, 0.02 around its neutral value
    for the rest. Upstream's own initialisation is zero at the output, which would make any comparison vacuous."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator)
        if len(shape) >= 2 and not name.endswith(("gamma", "beta")):
            state[name] = values / math.sqrt(math.prod(shape[1:]))
        else:
            neutral = 1.0 if name.endswith(("norm.weight", ".g")) else 0.0
            state[name] = neutral + 0.02 * values
    return state


def drawn_digest(source: str, shapes: Shapes) -> str:
    """Stands for the hash of drawn weights: the draw depends on all names and sizes, not the seed alone."""
    listed = [[name, *shape] for name, shape in shapes.items()]
    return f"{source}:{hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]}"


SHAPES = {"DiT": dit_shapes, "UNetT": unett_shapes}
BLOCKS = {"DiT": "transformer.transformer_blocks.", "UNetT": "transformer.layers."}
UNETT_CHOICES = {"qk_norm": (None, "rms_norm"), "skip_connect_type": ("concat", "add", "none")}
MODEL_KEYS = (
    "name", "family", "backbone", "arch", "release", "student", "checkpoint", "vocab", "mel_bins", "mel_spec_type",
    "sample_rate_hz", "hop_samples",
)  # fmt: skip
OTHER_MODEL = "choose the model config that belongs to the weights"
NOT_UNETTS = ("text_embedding_average_upsampling", "long_skip_connection", "checkpoint_activations")


def check_backbone(model: ModelSettings) -> None:
    """Raises ConfigError for a backbone that is not known, or that upstream could not build from this `arch`."""
    backbone, arch = model["backbone"], model["arch"]
    for key, value in model.items():
        if key not in MODEL_KEYS:
            allowed = f"is not a key of a model ({', '.join(MODEL_KEYS)})"
            raise ConfigError(f"model.{key}", value, allowed, "correct the spelling")
    if backbone not in SHAPES:
        raise ConfigError(
            "model.backbone", backbone, f"must be {' or '.join(SHAPES)}", "see conf/model/pocket.yaml, e2tts_base.yaml"
        )
    if backbone == "DiT":
        return
    for name, choices in UNETT_CHOICES.items():
        if arch.get(name, choices[0]) not in choices:
            said = ", ".join("null" if value is None else value for value in choices)
            raise ConfigError(f"model.arch.{name}", arch.get(name), f"must be one of {said}", "correct the spelling")
    if arch["depth"] % 2:
        raise ConfigError(
            "model.arch.depth", arch["depth"], "must be even with a UNetT", "its halves mirror each other"
        )
    for name in NOT_UNETTS:
        if name in arch:
            raise ConfigError(f"model.arch.{name}", arch.get(name), "is not a key of upstream's UNetT", "remove it")


def check_blocks(model: ModelSettings, state: State) -> None:
    """Raises ConfigError for a checkpoint whose blocks are the other backbone's."""
    wanted = model["backbone"]
    held = [backbone for backbone, prefix in BLOCKS.items() if any(name.startswith(prefix) for name in state)]
    if held and wanted not in held:
        raise ConfigError(
            "model.backbone", wanted, f"does not fit model.checkpoint={model['checkpoint']}, which holds a {held[0]}",
            OTHER_MODEL,
        )  # fmt: skip


def check_model_shapes(model: ModelSettings, state: State, num_tokens: int) -> None:
    """Raises ConfigError for tensors of another backbone, vocabulary or size than the model's."""
    check_blocks(model, state)
    table = state.get("transformer.text_embed.text_embed.weight")
    if table is not None and len(table.shape) and table.shape[0] != num_tokens + 1:
        raise ConfigError(
            "model.vocab", model["vocab"],
            f"has {num_tokens} tokens, the checkpoint was trained with {table.shape[0] - 1}",
            "give the vocabulary file that belongs to the checkpoint",
        )  # fmt: skip
    shapes = SHAPES[model["backbone"]](model["arch"], num_tokens, model["mel_bins"])
    needs = Needs(shapes, dict.fromkeys((*MODEL_CARRIES, ROPE)), model_described)
    check_shapes("model.checkpoint", state, needs, _other_model(model, state))


def check_header(model: ModelSettings) -> None:
    """`check_model_shapes` by the file's header alone; one without a header (.pt) is met when it is loaded.

    Raises ConfigError.
    """
    source = model["checkpoint"]
    if is_random(source):
        return
    shapes = header_shapes("model.checkpoint", locate("model.checkpoint", source))
    if shapes is not None:
        check_model_shapes(model, shapes, len(read_vocabulary(locate("model.vocab", model["vocab"]))))


def _other_model(model: ModelSettings, state: State) -> str:
    arch = arch_override(state, model["arch"]) if model["backbone"] == "DiT" else None
    return OTHER_MODEL if arch is None else f"{OTHER_MODEL}, or give their sizes: {arch}"


@dataclass(frozen=True, eq=False, slots=True)
class LoadedModel:
    """Checked float32 weights by upstream's names (without the `transformer.` prefix)."""

    state: Mapping[str, torch.Tensor]
    vocabulary: Mapping[str, int]
    sha256: str
    random: bool


def load_model(model: ModelSettings) -> LoadedModel:
    vocab_path, source = locate("model.vocab", model["vocab"]), model["checkpoint"]
    vocabulary = read_vocabulary(vocab_path)
    shapes = SHAPES[model["backbone"]](model["arch"], len(vocabulary), model["mel_bins"])
    if is_random(source):
        state = draw_state(shapes, random_seed("model.checkpoint", source))
        digest = drawn_digest(source, shapes)
    else:
        path = locate("model.checkpoint", source)
        state, digest = read_state("model.checkpoint", path), content_sha256(path)
        check_model_shapes(model, state, len(vocabulary))
        needs = Needs(shapes, model_carries(model["arch"]), model_described)
        check_values("model.checkpoint", state, needs, OTHER_MODEL)
    return LoadedModel(
        {name.removeprefix("transformer."): state[name] for name in shapes}, vocabulary, digest, is_random(source)
    )
