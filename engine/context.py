"""What every build function works with: the context it gets, the materials it loads, the pipeline it assembles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.clock import Clock
from engine.contract import ConfigError, Engine, EngineFacts, UnsupportedEngine
from engine.mel import mel_transform
from engine.settings import EngineConfig, ReferenceSettings
from engine.weights.checkpoint import LoadedModel, load_model

if TYPE_CHECKING:
    from engine.postprocess import Fade
    from engine.solver.methods import SolverSpec
    from engine.solver.sampler import Sampler
    from engine.speaking import Speaker
    from engine.step.conditioner import Conditioner
    from engine.step.dit import Arch, DiTStep
    from engine.step.tables import Tables
    from engine.step.unett import Step
    from engine.vocoders.vocos import LoadedVocoder


PACKAGES = ("torch", "torchaudio", "vocos", "numpy")


@dataclass(frozen=True, eq=False, slots=True)
class Context:
    """What every build function gets: the whole resolved configuration, the checked solver, the clock."""

    config: EngineConfig
    solver: SolverSpec
    clock: Clock

    @property
    def device(self) -> str:
        return str(self.config["device"]["kind"])


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
        student=dict(context.config["model"].get("student") or {}),
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
    from engine.step.dit import Arch, DiTStep, modulation_tables, time_embeddings
    from engine.step.tables import Tables
    from engine.step.unett import UNetTArch, UNetTStep
    from engine.vocoders.load import load_vocoder

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


def fade_of(reference: ReferenceSettings, rate_hz: int) -> Fade:
    """The `reference` group's cross-fade. Raises ConfigError for a kind that does not exist."""
    from engine.postprocess import FADES, Fade

    kind = reference.get("cross_fade", "linear")
    if kind not in FADES:
        raise ConfigError("reference.cross_fade", kind, f"must be one of {', '.join(FADES)}", "upstream's is linear")
    return Fade(int(reference["cross_fade_s"] * rate_hz), kind)


def assemble(context: Context, made: Materials, sampler: Sampler, build: Build) -> Engine:
    """The pipeline around a sampler."""
    from engine.speaking import StagedSpeaker

    speaker = StagedSpeaker(
        conditioner=conditioner_of(context, made), sampler=sampler, solver=context.solver,
        vocoder=made.vocoder.decoder, clock=context.clock, device=context.device, max_batch=build.max_batch,
        max_padding_frac=build.max_padding_frac,
    )  # fmt: skip
    return assemble_around(context, made, speaker, build)


def conditioner_of(context: Context, made: Materials) -> Conditioner:
    from engine.step.conditioner import Conditioner

    return Conditioner(made.arch, context.config["model"]["mel_bins"], made.model.state, context.device)


def assemble_around(context: Context, made: Materials, speaker: Speaker, build: Build) -> Engine:
    """The pipeline around what speaks."""
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
        speaker=speaker,
        solver=context.solver,
        clock=context.clock,
        mel_bins=model_config["mel_bins"],
        target_rms=reference["target_rms"],
        fade=fade_of(reference, model_config["sample_rate_hz"]),
        stream=stream_rule(context.config["stream"]),
    )  # fmt: skip
    facts = facts_of(
        context, build.name, made.model, made.vocoder, denoiser=build.denoiser, precision=build.precision,
        weights_bytes=build.step_bytes + made.vocoder.num_bytes, max_batch=build.max_batch,
    )  # fmt: skip
    return F5Engine(parts, facts)
