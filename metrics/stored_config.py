"""Configurations in records and jobs of before, in today's words: build functions have moved, keys were added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from metrics.typed import value_of

# `engine._target_` before engines had rooms of their own
TARGETS = {
    "engine.build.pytorch": "engine.backends.eager.build.pytorch",
    "engine.build.upstream": "engine.upstream.build.upstream",
    "engine.backends.compiled": "engine.backends.compiled.build.compiled",
    "engine.backends.cuda_graph": "engine.backends.cuda_graph.build.cuda_graph",
    "engine.backends.tiles": "engine.backends.tiles.build.tiles",
    "engine.backends.tensorrt": "engine.backends.tensorrt.build.tensorrt",
    "engine.backends.tensorrt_int8": "engine.backends.tensorrt.build.tensorrt_int8",
    "engine.denoiser.onnx_graph.onnx": "engine.backends.onnx.build.onnx",
    "engine.denoiser.onnx_graph.onnx_int8": "engine.backends.onnx.build.onnx_int8",
}
# group -> keys of today, with what was done before there was the choice
ADDED: Mapping[str, Mapping[str, object]] = {"sweep": {"all": True}}
# Those of a configuration that have names
GROUPS = ("model", "engine", "solver", "vocoder", "reference", "workload", "device", "measure", "quality", "tracking")


class Group(TypedDict, total=False):
    """A group of a configuration, as far as every one is alike."""

    name: str


def todays(config: Mapping[str, object]) -> dict[str, object]:
    """The same configuration as it would be written now; what is no configuration of ours stays as it is."""
    found = dict(config)
    engine = found.get("engine")
    target = engine.get("_target_") if isinstance(engine, Mapping) else None
    if isinstance(engine, Mapping) and isinstance(target, str) and target in TARGETS:
        found["engine"] = {**engine, "_target_": TARGETS[target]}
    for group, keys in ADDED.items():
        given = found.get(group)
        if isinstance(given, Mapping):
            found[group] = {**keys, **given}
    return found


def check_names(config: Mapping[str, object]) -> None:
    """Groups that have a name have a text for one. Raises ValueError."""
    for group in [name for name in GROUPS if name in config]:
        value_of(Group | None, config[group], f"config.{group}")
