"""engine.onnx and its precisions and providers: the step by ONNX Runtime."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

import torch

from engine.backends.onnx.denoiser import Graphs, OnnxDenoiser, no_padding
from engine.backends.onnx.export import cached_step
from engine.context import Build, Context, Materials, assemble, materials, needs_dit
from engine.contract import Engine
from engine.runtimes.onnx_profiles import Planned, planned_of
from engine.runtimes.onnx_session import SessionSettings, file_bytes
from engine.settings import CalibrationSettings, OnnxSession
from engine.solver.sampler import StepSampler
from engine.step.examples import example_feeds
from engine.step.inputs import Feeds, StepInputs
from engine.weights.checkpoint import locate


def settings_of(context: Context, session: OnnxSession | None, provider: str) -> SessionSettings:
    """The YAML's `provider` and `session` keys -> checked settings."""
    from engine.contract import ConfigError

    given: OnnxSession = session or {}
    own = ("spinning", "arena", "execution_mode", "optimization", "exact_int8")
    for key, value in given.items():
        if key not in own:
            raise ConfigError(f"engine.session.{key}", value, f"is not known ({', '.join(own)})", "remove it")
    threads = context.config["device"]["threads"] or torch.get_num_threads()
    settings = SessionSettings(provider=provider, device=context.device, threads=threads, **given)
    settings.check()
    return settings


def weights_identity(context: Context, made: Materials) -> dict[str, Any]:
    """What names the step's weights on this machine: their hash (or seed), and the shapes that were read from them."""
    model = context.config["model"]
    return {"weights": made.model.sha256, "arch": model["arch"], "mel_bins": model["mel_bins"]}


def step_graphs(context: Context, made: Materials, padded: bool, fused: bool = True) -> Graphs:
    """The graphs, exported and checked where this machine has not done so yet; masks only where utterances of unequal
    lengths may share a solve. fused: with ONNX Runtime's own operators, which TensorRT does not know."""
    identity = weights_identity(context, made)
    forms = (False, True) if padded else (False,)
    return {masked: cached_step(identity, made.dit, masked=masked, fused=fused) for masked in forms}


def onnx(
    *, context: Context, name: str, provider: str = "cpu", session: OnnxSession | None = None,
    max_batch: int = 8, max_padding_frac: float = 0.1, profiles: Sequence[Sequence[int]] | None = None,
) -> Engine:  # fmt: skip
    """Our pipeline around the exported step in float32. profiles: as of engine=tensorrt, with provider=tensorrt only.

    Raises ConfigError for profiles that are missing there, or given elsewhere."""
    needs_dit(context, name)
    planned = planned_of(provider, profiles, max_batch)
    settings = settings_of(context, session, provider)
    made = materials(context)
    graphs = step_graphs(context, made, max_padding_frac > 0, fused=provider != "tensorrt")
    return _engine(context, made, graphs, settings, _Build(name, "fp32", max_batch, max_padding_frac, planned))


def onnx_int8(
    *, context: Context, name: str, session: OnnxSession | None = None, float_layers: Sequence[str] = (),
    calibration: CalibrationSettings | None = None, max_batch: int = 8, max_padding_frac: float = 0.1,
) -> Engine:  # fmt: skip
    """The exported step with INT8 linear layers: static where `calibration` (sentences, method) is given, else dynamic.

    CPU only: the quantised operators have no CUDA kernels. Raises ConfigError for a calibration set too small, and for
    patterns that leave no layer in int8."""
    from engine.backends.onnx.quantization import calibration_of, int8_nodes, quantized, refuse_unquantized

    needs_dit(context, name)
    settings, plan = settings_of(context, session, "cpu"), calibration_of(calibration)
    made = materials(context)
    exported, identity = step_graphs(context, made, max_padding_frac > 0), weights_identity(context, made)
    if plan:
        identity |= plan.identity(context.config, context.solver)
    in_int8 = int8_nodes(exported[False], float_layers)
    recorded = _recorded_once(context, made, plan.sentences) if plan else None
    graphs = {}
    for masked, graph in exported.items():
        feeds = _with_masks(recorded) if recorded and masked else recorded
        graphs[masked] = quantized(graph, identity, float_layers, feeds, plan.method if plan else "dynamic")
    engine = _engine(context, made, graphs, settings, _Build(name, "int8", max_batch, max_padding_frac))
    refuse_unquantized(cast(int, engine.facts.proof["quantized_linears"]), len(in_int8))
    return engine


def _recorded_once(context: Context, made: Materials, sentences: Sequence[str]) -> Callable[[], list[Feeds]]:
    """The recording both forms of the graph are calibrated on, made when the first one needs it."""

    @cache
    def recorded() -> list[Feeds]:
        speaking = replace(made, step=copy.deepcopy(made.step))  # recording lays its step out anew
        return record_feeds(context, speaking, sentences)

    return recorded


def _with_masks(recorded: Callable[[], list[Feeds]]) -> Callable[[], list[Feeds]]:
    return lambda: [{**feeds, **no_padding(feeds)} for feeds in recorded()]


def record_feeds(context: Context, made: Materials, sentences: Sequence[str]) -> list[Feeds]:
    """Every input of the step while the eager engine speaks the sentences with every voice: all evaluations of the
    solver, conditional and unconditional rows. Changes `made.step`: give a copy."""
    from engine.backends.eager.denoiser import EagerDenoiser
    from engine.contract import SynthesisRequest
    from engine.step.precision import apply_precision
    from engine.voice.clip import load_clip, prepare_settings

    feeds: list[Feeds] = []

    def keep(_: Any, given: tuple[StepInputs]) -> None:
        inputs = given[0].grouped().feeds()
        feeds.append({name: tensor.to("cpu", copy=True) for name, tensor in inputs.items()})

    device = context.device
    denoiser = EagerDenoiser(apply_precision(made.step, "fp32", device), made.arch, made.tables, device)
    build = Build(name="calibration", denoiser="eager", precision="fp32", step_bytes=0, max_batch=1)
    hook = made.step.register_forward_pre_hook(keep)
    try:
        engine = assemble(context, made, StepSampler(denoiser, context.solver), build)
        settings = prepare_settings(context.config["reference"]["prepare"])
        for voice in context.config["reference"]["voices"]:
            path = locate("reference.voices", voice["audio"])
            clip = load_clip(path, voice["text"], voice.get("cut_text"), settings)
            for i, text in enumerate(sentences):
                ask = SynthesisRequest(
                    utterance_id=f"calibration{i}", text=text, ref_audio_S=clip.audio_S,
                    ref_sample_rate_hz=clip.rate_hz, ref_text=clip.text,
                )  # fmt: skip
                engine.synthesize([ask])
    finally:
        hook.remove()
    return feeds


@dataclass(frozen=True, slots=True)
class _Build:
    name: str
    precision: str
    max_batch: int
    max_padding_frac: float
    planned: Planned | None = None


def _engine(context: Context, made: Materials, graphs: Graphs, settings: SessionSettings, asked: _Build) -> Engine:
    example = example_feeds(made.dit, 2, (asked.planned.profile.min_frames if asked.planned else 64,), False)
    denoiser = OnnxDenoiser(graphs, settings, made.arch, made.tables, example, asked.planned)
    build = Build(
        name=asked.name, denoiser="onnx_graph", precision=asked.precision, step_bytes=file_bytes(graphs[False]),
        max_batch=asked.max_batch, max_padding_frac=asked.max_padding_frac,
    )  # fmt: skip
    return assemble(context, made, StepSampler(denoiser, context.solver), build)
