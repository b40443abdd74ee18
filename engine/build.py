"""The functions that conf/engine/*.yaml name in `_target_`, and the checks that need no torch."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.clock import Clock
from engine.contract import ConfigError, Engine, EngineFacts, UnsupportedEngine
from engine.mel import check_vocoder, mel_transform
from engine.weights.checkpoint import LoadedModel, check_backbone, is_random, load_model, locate, random_seed
from engine.weights.releases import check_release

if TYPE_CHECKING:
    from engine.backends.eager.denoiser import Tables
    from engine.postprocess import Fade
    from engine.solver.methods import SolverSpec
    from engine.solver.sampler import Sampler
    from engine.step.dit import Arch, DiTStep
    from engine.step.unett import Step
    from engine.vocoders.vocos import LoadedVocoder

PACKAGES = ("torch", "torchaudio", "vocos", "numpy")


@dataclass(frozen=True, eq=False, slots=True)
class Context:
    """What every build function gets: the whole resolved configuration, the checked solver, the clock."""

    config: Mapping[str, Any]
    solver: SolverSpec
    clock: Clock

    @property
    def device(self) -> str:
        return str(self.config["device"]["kind"])


def target_of(engine_config: Mapping[str, Any]) -> Callable[..., Engine]:
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


def engine_arguments(engine_config: Mapping[str, Any]) -> dict[str, Any]:
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


def validate_config(config: Mapping[str, Any]) -> None:
    """Everything about engine, solver, model, vocoder and device that can be refused before anything is built."""
    from engine.solver.methods import solver_spec
    from engine.text.chunks import chunk_bound
    from engine.text.streaming import stream_rule

    chunk_bound(config)
    solver_spec(config["solver"])
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


def check_device(device: Mapping[str, Any]) -> None:
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


def build_engine(config: Mapping[str, Any], clock: Clock) -> Engine:
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


def facts_of(context: Context, name: str, model: LoadedModel, vocoder: LoadedVocoder, **own: Any) -> EngineFacts:
    """The facts every engine shares; `own` adds denoiser, precision, weights_bytes, max_batch."""
    import importlib.metadata

    import torch

    solver, device = context.solver, context.device
    return EngineFacts(
        name=name,
        solver=solver.name,
        steps=solver.steps,
        evals_per_step=solver.evals_per_step,
        time_grid=solver.grid,
        sway=solver.sway,
        cfg_strength=solver.cfg_strength,
        solver_options=solver.options(),
        vocoder=f"{vocoder.name}:{vocoder.sha256[:12]}",
        model=context.config["model"]["name"],
        device_name="cpu" if device == "cpu" else torch.cuda.get_device_name(device),
        num_threads=torch.get_num_threads(),
        weights_sha256=model.sha256,
        random_weights=model.random or vocoder.random,
        sample_rate_hz=context.config["model"]["sample_rate_hz"],
        versions={package: importlib.metadata.version(package) for package in PACKAGES},
        proof={},
        **own,
    )


@dataclass(frozen=True, eq=False, slots=True)
class Materials:
    """What every engine of ours is made of, in float32: the step with its weights, its tables, the checked model, the
    vocoder."""

    arch: Arch
    model: LoadedModel
    vocoder: LoadedVocoder
    step: Step
    tables: Tables

    @property
    def dit(self) -> DiTStep:
        """The step, for backends that begin with `needs_dit`."""
        from engine.step.dit import DiTStep

        if not isinstance(self.step, DiTStep):
            raise TypeError(f"{type(self.step).__name__} is not a DiT's step")
        return self.step


def needs_dit(context: Context, engine: str) -> None:
    """Raises UnsupportedEngine for models that are no DiT: what is exported or compiled ahead has the DiT's tables."""
    backbone = context.config["model"]["backbone"]
    if backbone != "DiT":
        raise UnsupportedEngine(
            f"{engine} takes the step of a DiT and model.backbone is {backbone}",
            "use engine=fp32, bf16, fp16, int8, compiled or cuda_graph with it",
        )


def materials(context: Context) -> Materials:
    """Loads weights and makes the tables of the solver's grid. Raises ConfigError for weights that do not fit."""
    from engine.backends.eager.denoiser import Tables
    from engine.step.dit import Arch, DiTStep, modulation_tables, time_embeddings
    from engine.step.unett import UNetTArch, UNetTStep
    from engine.vocoders.vocos import load_vocoder

    model_config, times = context.config["model"], context.solver.evaluation_times
    step: Step
    if model_config["backbone"] == "UNetT":
        unett, model = UNetTArch.of(model_config["arch"]), load_model(model_config)
        arch, step = unett.shared, UNetTStep(unett, model_config["mel_bins"])
        embeddings = time_embeddings(model.state, times)
        tables = Tables(embeddings, embeddings[:, :0])
    else:
        arch, model = Arch.of(model_config["arch"]), load_model(model_config)
        step = DiTStep(arch, model_config["mel_bins"])
        tables = Tables(*modulation_tables(model.state, times, arch.depth))
    step.load(model.state)
    return Materials(arch, model, load_vocoder(context.config["vocoder"], context.device), step, tables)


@dataclass(frozen=True, kw_only=True, slots=True)
class Build:
    """What an engine is called in its facts, what its step weighs as built, and how much it takes at once."""

    name: str
    denoiser: str
    precision: str
    step_bytes: int
    max_batch: int = 8
    max_padding_frac: float = 0.1


def fade_of(reference: Mapping[str, Any], rate_hz: int) -> Fade:
    """The `reference` group's cross-fade. Raises ConfigError for a kind that does not exist."""
    from engine.postprocess import FADES, Fade

    kind = reference.get("cross_fade", "linear")
    if kind not in FADES:
        raise ConfigError("reference.cross_fade", kind, f"must be one of {', '.join(FADES)}", "upstream's is linear")
    return Fade(int(reference["cross_fade_s"] * rate_hz), kind)


def assemble(context: Context, made: Materials, sampler: Sampler, build: Build) -> Engine:
    """The pipeline around a sampler."""
    from engine.conditioner import Conditioner
    from engine.frontend import FrontEnd
    from engine.pipeline import F5Engine, Parts
    from engine.text.chunks import chunk_bound
    from engine.text.streaming import stream_rule

    model_config, reference = context.config["model"], context.config["reference"]
    parts = Parts(
        frontend=FrontEnd(
            made.model.vocabulary, mel_transform(model_config), model_config["sample_rate_hz"],
            model_config["hop_samples"], chunk_bound(context.config),
        ),
        conditioner=Conditioner(made.arch, model_config["mel_bins"], made.model.state, context.device),
        sampler=sampler,
        solver=context.solver,
        vocoder=made.vocoder.decoder,
        clock=context.clock,
        device=context.device,
        mel_bins=model_config["mel_bins"],
        target_rms=reference["target_rms"],
        fade=fade_of(reference, model_config["sample_rate_hz"]),
        stream=stream_rule(context.config["stream"]),
        max_padding_frac=build.max_padding_frac,
    )  # fmt: skip
    facts = facts_of(
        context, build.name, made.model, made.vocoder, denoiser=build.denoiser, precision=build.precision,
        weights_bytes=build.step_bytes + made.vocoder.num_bytes, max_batch=build.max_batch,
    )  # fmt: skip
    return F5Engine(parts, facts)


def pytorch(
    *, context: Context, name: str, precision: str, max_batch: int = 8, max_padding_frac: float = 0.1
) -> Engine:
    """Our pipeline around the rewritten step, run eagerly by PyTorch in one of the precisions of engine.precision."""
    from engine.backends.eager.denoiser import EagerDenoiser
    from engine.solver.sampler import StepSampler
    from engine.step.precision import apply_precision, weight_bytes, weight_histogram

    made = materials(context)
    prepared = apply_precision(made.step, precision, context.device)
    denoiser = EagerDenoiser(prepared, made.arch, made.tables, context.device)
    step_bytes = weight_bytes(weight_histogram(prepared.module))
    build = Build(
        name=name, denoiser="eager", precision=precision, step_bytes=step_bytes,
        max_batch=max_batch, max_padding_frac=max_padding_frac,
    )  # fmt: skip
    return assemble(context, made, StepSampler(denoiser, context.solver), build)


def upstream(*, context: Context, name: str) -> Engine:
    """The untouched f5_tts inference path (engine.upstream.peer)."""
    from engine.upstream.peer import build_upstream
    from engine.vocoders.vocos import load_vocoder

    if context.solver.grid_kind not in ("epss", "uniform"):
        raise UnsupportedEngine("upstream takes no explicit grid", "use solver.grid=epss or uniform")
    model = load_model(context.config["model"])
    vocoder = load_vocoder(context.config["vocoder"], context.device)
    num_bytes = sum(4 * tensor.numel() for tensor in model.state.values())
    facts = facts_of(
        context, name, model, vocoder, denoiser="f5_tts", precision="fp32",
        weights_bytes=num_bytes + vocoder.num_bytes, max_batch=1,
    )  # fmt: skip
    return build_upstream(context, model, vocoder.decoder, facts)
