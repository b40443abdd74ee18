"""The functions that conf/engine/*.yaml name in `_target_`, and the checks that need no torch."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from engine.clock import Clock
from engine.context import Context, fade_of
from engine.contract import ConfigError, Engine
from engine.mel import check_vocoder
from engine.settings import DeviceSettings, EngineConfig, ModelSettings
from engine.weights.checkpoint import check_backbone, is_random, locate, random_seed
from engine.weights.releases import check_release

if TYPE_CHECKING:
    from engine.solver.methods import SolverSpec


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
    """Everything about engine, solver, model, vocoder and device that can be refused before anything is built."""
    from engine.solver.methods import solver_spec
    from engine.text.chunks import chunk_bound
    from engine.text.streaming import stream_rule

    chunk_bound(config)
    check_student(config["model"], solver_spec(config["solver"]))
    stream_rule(config["stream"])
    fade_of(config["reference"], config["model"]["sample_rate_hz"])
    engine_arguments(config["engine"])
    model = config["model"]
    check_backbone(model)
    check_vocoder(config["vocoder"], model)
    locate("model.vocab", model["vocab"])
    for key, source in (
        ("model.checkpoint", model["checkpoint"]),
        ("vocoder.checkpoint", config["vocoder"]["checkpoint"]),
    ):
        if is_random(source):
            random_seed(key, source)
        else:
            locate(key, source)
    check_release(model, None if is_random(model["checkpoint"]) else locate("model.checkpoint", model["checkpoint"]))
    check_device(config["device"])


def check_student(model: ModelSettings, solver: SolverSpec) -> None:
    """Raises ConfigError for guidance of a student that has it in its one row: it would be guided twice."""
    student = model.get("student")
    if student and student["taught_cfg_strength"] > 0 and solver.guided:
        raise ConfigError(
            "solver.cfg_strength", solver.cfg_strength,
            f"model={model['name']} has its teacher's guidance of {student['taught_cfg_strength']:g} in its one row",
            "use solver.cfg_strength=0, which is its default, and a solver that sets none",
        )  # fmt: skip


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
    """Resolved configuration -> engine. Raises ConfigError for settings, UnsupportedEngine for what cannot be built."""
    from engine.solver.methods import solver_spec

    validate_config(config)
    context = Context(config, solver_spec(config["solver"]), clock)
    prepare_device(context.device)
    fitted, model = context.solver.fitted, config["model"]
    if fitted is not None and not is_random(model["checkpoint"]):  # drawn weights have a speed only
        fitted.check_model(str(model["name"]))
    return target_of(config["engine"])(context=context, **engine_arguments(config["engine"]))


def prepare_device(device: str) -> None:
    """What holds for the whole process before an engine is built in it."""
    import torch

    # float32 means float32: convolutions are allowed TF32 by default, and the oracle is made of them
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    if device != "cpu":  # TensorRT and ONNX Runtime take the current device where torch is told one
        torch.cuda.set_device(int(device.partition(":")[2] or 0))
