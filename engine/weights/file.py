"""A file of weights -> its tensors by name, or one line about what lies there instead.

Upstream's trainer writes a dictionary of dictionaries (`WRAPPERS` hold weights, `BESIDE` the rest of a training state);
its published files hold one of them, or its tensors alone; ours may be compact (engine.weights.compact). Nothing is
unpickled that could run code.
"""

from __future__ import annotations

import json
import pickle
import re
import shlex
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contract import ConfigError
from engine.weights.compact import expanded, scales_of

if TYPE_CHECKING:
    import torch

WRAPPERS = ("ema_model_state_dict", "model_state_dict", "generator")  # the first that a file has is taken
BESIDE = {"model_state_dict", "optimizer_state_dict", "scheduler_state_dict", "update", "step"}
BOOKKEEPING = ("initted", "step", "update")  # of the moving average, among its weights
EMA_PREFIX = "ema_model."
# What torch's own reader raises for bytes that are no checkpoint, or a damaged one
UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError,
    AssertionError, OverflowError, struct.error, ImportError, MemoryError,
)  # fmt: skip
FORBIDDEN = re.compile(r"GLOBAL (\S+) was not an allowed global")
TENSORS_ONLY = (
    'import sys, torch; s = torch.load(sys.argv[1], map_location="cpu", weights_only=False); '
    f"s = next((s[k] for k in {json.dumps(WRAPPERS)} if k in s), s); "
    "torch.save({k: v for k, v in s.items() if torch.is_tensor(v)}, sys.argv[2])"
)


def read_state(key: str, path: Path) -> dict[str, torch.Tensor]:
    """Checkpoint -> float32 tensors by name; upstream's EMA prefix, wrapper and bookkeeping removed.

    Raises ConfigError for what cannot be read, for entries that are neither weights nor a known part of a training
    state, for weights that are not floating point, which would be taken as numbers they do not stand for, and for
    values that are not finite.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, value in expanded(_unwrapped(key, path, _read(key, path))).items():
        plain = name.removeprefix(EMA_PREFIX)
        if plain in BOOKKEEPING:
            continue
        if plain in tensors:
            raise _refusal(key, path, f"holds {plain} twice, with and without the prefix {EMA_PREFIX}")
        if not value.is_floating_point():
            raise _refusal(key, path, f"holds {name} as {str(value.dtype).removeprefix('torch.')}, not floating point")
        if not bool(value.isfinite().all()):
            raise _refusal(key, path, f"holds values in {name} that are no finite numbers")
        tensors[plain] = value.float()
    return tensors


@dataclass(frozen=True, slots=True)
class TensorShape:
    """What a file's header says of a tensor."""

    shape: tuple[int, ...]


def header_shapes(key: str, path: Path) -> dict[str, TensorShape] | None:
    """Shapes by name as `read_state` names them, from the header alone; None for a file that has none (.pt).

    Raises ConfigError for a file that cannot be read.
    """
    if path.suffix != ".safetensors":
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as held:
            names = set(held.keys()) - scales_of(held.keys())
            shapes = {
                name: TensorShape(tuple(held.get_slice(name).get_shape())) for name in held.keys() if name in names
            }
    except (SafetensorError, *UNREADABLE) as error:
        raise _unreadable(key, path, error) from error
    plain = {name.removeprefix(EMA_PREFIX): shape for name, shape in shapes.items()}
    return {name: shape for name, shape in plain.items() if name not in BOOKKEEPING}


def _read(key: str, path: Path) -> Any:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, *UNREADABLE) as error:
        forbidden = FORBIDDEN.search(str(error))
        if forbidden is not None:
            raise _unsafe(key, path, forbidden.group(1)) from error
        raise _unreadable(key, path, error) from error


def _unreadable(key: str, path: Path, error: Exception) -> ConfigError:
    said = " ".join(str(error).partition("\n")[0].split()) or type(error).__name__
    return ConfigError(key, path.name, f"not a readable checkpoint ({said})", "fetch the file again")


def _unsafe(key: str, path: Path, met: str) -> ConfigError:
    """torch's own words on it are a page about a setting that nobody has here."""
    new = path.with_name(f"{path.stem}.weights.pt")
    command = f"python -c {shlex.quote(TENSORS_ONLY)} {shlex.quote(str(path))} {shlex.quote(str(new))}"
    return ConfigError(
        key, path.name, f"holds {met}, and only tensors are unpickled here",
        f"if you trust the file (this runs what is in it), keep its weights alone: {command}",
    )  # fmt: skip


def _unwrapped(key: str, path: Path, content: Any) -> Mapping[str, torch.Tensor]:
    """The mapping that holds the weights. Numbers and words beside them say nothing about a model and are left."""
    import torch

    if not isinstance(content, Mapping):
        raise _refusal(key, path, f"holds a {type(content).__name__}, not tensors by name")
    wrapper = next((name for name in WRAPPERS if name in content), None)
    if wrapper is not None:
        for name, value in content.items():
            if name != wrapper and name not in BESIDE and _has_tensors(value):
                raise _refusal(key, path, f"holds {name} beside {wrapper}, which is no part of upstream's files")
        content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise _refusal(key, path, f"its {wrapper or 'content'} holds no tensors by name")
    for name, value in content.items():
        if not isinstance(value, torch.Tensor) and _has_tensors(value):
            raise _refusal(key, path, f"holds {name}, a {type(value).__name__} of tensors and not one")
    return {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}


def _has_tensors(value: Any) -> bool:
    import torch

    if isinstance(value, Mapping):
        return any(map(_has_tensors, value.values()))
    if isinstance(value, list | tuple | set):
        return any(map(_has_tensors, value))
    return isinstance(value, torch.Tensor)


def _refusal(key: str, path: Path, says: str) -> ConfigError:
    return ConfigError(key, path.name, says, "give a file that holds the weights alone")
