"""engine.cuda_graph, cuda_graph_compiled: the whole solve as one CUDA graph per length and batch; engine.cuda_call,
cuda_call_compiled: the whole call as one, for a class of lengths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.backends.compiled.build import compiled_denoiser
from engine.backends.eager.build import eager_denoiser
from engine.context import Build, Context, Materials, assemble, assemble_around, conditioner_of, materials, needs_dit
from engine.contract import Engine, UnsupportedEngine

if TYPE_CHECKING:
    from engine.backends.cuda_graph.call import Call, MaskedDenoiser
    from engine.vocoders.cuda import CudaVocos


def cuda_graph(
    *,
    context: Context,
    name: str,
    precision: str,
    compiled: bool = False,
    inductor: Mapping[str, object] | None = None,
    max_graphs: int = 16,
    max_batch: int = 8,
    max_padding_frac: float = 0.1,
) -> Engine:
    """The whole solve as one CUDA graph per length and batch, around the eager or the compiled step."""
    from engine.backends.compiled.denoiser import CompileOptions
    from engine.backends.cuda_graph.denoiser import CudaRecorder, GraphSampler, check_capturable, check_max_graphs

    check_max_graphs(max_graphs)
    check_capturable(context.solver, context.device, max_batch)
    made = materials(context)
    if compiled:
        options = CompileOptions.of("block", "dynamic", None, inductor)
        denoiser, step_bytes = compiled_denoiser(context, made, precision, options)
        sampler = GraphSampler(denoiser, context.solver, CudaRecorder(context.device), max_graphs)
    else:
        eager, step_bytes = eager_denoiser(context, made, precision)
        sampler = GraphSampler(eager, context.solver, CudaRecorder(context.device), max_graphs)
    build = Build(
        name=name, denoiser="cuda_graph over " + ("compiled" if compiled else "eager"), precision=precision,
        step_bytes=step_bytes, max_batch=max_batch, max_padding_frac=max_padding_frac,
    )  # fmt: skip
    return assemble(context, made, sampler, build)


def cuda_call(
    *,
    context: Context,
    name: str,
    precision: str,
    compiled: bool = False,
    inductor: Mapping[str, object] | None = None,
    max_graphs: int = 32,
    max_batch: int = 8,
) -> Engine:
    """The whole call as one CUDA graph a class of lengths: conditioning, solve, vocoder, loudness and both copies."""
    from engine.backends.cuda_graph.denoiser import check_capturable
    from engine.backends.cuda_graph.speaker import GraphSpeaker, Limits
    from engine.runtimes.cuda_graphs import CudaRecorder, check_max_graphs

    needs_dit(context, name)
    check_max_graphs(max_graphs)
    check_capturable(context.solver, context.device, max_batch)
    if context.solver.guidance.kind == "cfg_zero_star":
        raise UnsupportedEngine(
            "CFG-Zero* reads the utterances' lengths, and here a graph serves a class of them",
            "use engine=cuda_graph engine.max_batch=1 with it",
        )
    made = materials(context)
    vocoder = captured_vocoder(made, name)
    denoiser, step_bytes = masked_denoiser(context, made, precision, inductor if compiled else None, compiled)
    config = context.config["model"]
    limits = Limits(
        max_batch=max_batch, max_graphs=max_graphs, mel_bins=config["mel_bins"], hop=config["hop_samples"]
    )  # fmt: skip
    call = call_of(context, made, denoiser, vocoder)
    speaker = GraphSpeaker(call, CudaRecorder(context.device), limits, context.device, context.clock, vocoder)
    build = Build(
        name=name, denoiser="one cuda_graph a call over " + ("compiled" if compiled else "eager"), precision=precision,
        step_bytes=step_bytes, max_batch=max_batch,
    )  # fmt: skip
    return assemble_around(context, made, speaker, build)


def captured_vocoder(made: Materials, name: str) -> CudaVocos:
    """Raises UnsupportedEngine for a vocoder that cannot stand in a graph."""
    from engine.vocoders.cuda import CudaVocos

    decoder = made.vocoder.decoder
    if not isinstance(decoder, CudaVocos):
        raise UnsupportedEngine(
            f"{name} captures the vocoder with the rest of a call, and vocoder={made.vocoder.name} cannot be captured",
            "use vocoder=vocos_cuda, or vocoder.runtime=cuda with another Vocos",
        )
    return decoder


def masked_denoiser(
    context: Context, made: Materials, precision: str, inductor: Mapping[str, object] | None, compiled: bool
) -> tuple[MaskedDenoiser, int]:
    from engine.backends.compiled.denoiser import CompileOptions

    if compiled:
        return compiled_denoiser(context, made, precision, CompileOptions.of("block", "dynamic", None, inductor))
    return eager_denoiser(context, made, precision)


def call_of(context: Context, made: Materials, denoiser: MaskedDenoiser, vocoder: CudaVocos) -> Call:
    from engine.backends.cuda_graph.call import Call
    from engine.step.masked import MaskedConditioner

    conditioner = MaskedConditioner(conditioner_of(context, made))
    return Call(conditioner=conditioner, denoiser=denoiser, solver=context.solver, form=vocoder.form)
