"""The functions that conf/engine/*.yaml name in `_target_`, and the checks that need no torch."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from engine.clock import Clock
from engine.contract import ConfigError, Engine, precision_fault
from engine.families.family import family_of, refuse_strangers
from engine.settings import DeviceSettings, EngineConfig


def target_of(engine_config: Mapping[str, object]) -> Callable[..., Engine]:
    """The build function an engine YAML names. Only functions below `engine.` are taken."""
    target = str(engine_config["_target_"])
    module_name, _, name = target.rpartition(".")
    if not module_name.startswith("engine."):
        raise ConfigError("engine._target_", target, "must name a function below engine.", "see conf/engine/fp32.yaml")
    try:
        function = getattr(importlib.import_module(module_name), name, None)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise  # what the module itself needs and does not find
        function = None
    if not inspect.isfunction(function) or "context" not in inspect.signature(function).parameters:
        raise ConfigError("engine._target_", target, "is no build function", "see conf/engine/fp32.yaml")
    return function


def engine_arguments(engine_config: Mapping[str, object]) -> dict[str, Any]:
    """The YAML's own keys, checked against the build function's signature."""
    arguments = {key: value for key, value in engine_config.items() if key != "_target_"}
    parameters = set(inspect.signature(target_of(engine_config)).parameters) - {"context"}
    for key in arguments:
        if key not in parameters:
            raise ConfigError(
                f"engine.{key}", arguments[key], f"is not a key of this engine ({', '.join(sorted(parameters))})",
                "correct the spelling",
            )  # fmt: skip
    return arguments


def validate_config(config: EngineConfig) -> None:
    """Everything about engine, model, device and post-processing that can be refused before anything is built, and what
    else the model's family reads: solver, vocoder, voices."""
    from engine.enhance.stages import check_enhancement

    engine_arguments(config["engine"])
    check_enhancement(config)
    refuse_strangers(config["engine"], config["model"])
    family_of(config["model"]).validate(config)
    check_device(config["device"])


def check_device(device: DeviceSettings) -> None:
    kind, threads = str(device["kind"]), device["threads"]
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise ConfigError("device.threads", threads, "must be a positive whole number or null", "use device.threads=2")
    if kind == "cpu":
        return
    if not kind.startswith("cuda"):
        raise ConfigError("device.kind", kind, "must be cpu, cuda or cuda:N", "use device=cpu")
    import torch

    index = int(kind.partition(":")[2] or 0) if (kind.partition(":")[2] or "0").isdigit() else -1
    if not torch.cuda.is_available() or not 0 <= index < torch.cuda.device_count():
        raise ConfigError(
            "device.kind", kind, f"this machine has {torch.cuda.device_count()} CUDA devices", "use device=cpu"
        )


def build_engine(config: EngineConfig, clock: Clock) -> Engine:
    """Resolved configuration -> engine. Raises ConfigError for settings, UnsupportedEngine for what cannot be built,
    and ValueError for an engine whose own proof is against the precision that it says."""
    from engine.enhance.enhanced import EnhancedEngine
    from engine.enhance.stages import enhancement

    validate_config(config)
    context = family_of(config["model"]).context(config, clock)
    engine = target_of(config["engine"])(context=context, **engine_arguments(config["engine"]))
    fault = precision_fault(engine.facts)
    if fault is not None:
        engine.close()
        raise ValueError(fault)
    enhance = enhancement(config)
    return engine if enhance is None else EnhancedEngine(engine, enhance, clock)
