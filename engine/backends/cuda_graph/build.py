"""engine.cuda_graph, cuda_graph_compiled: the whole solve as one CUDA graph per length and batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.backends.compiled.build import compiled_denoiser
from engine.backends.eager.build import eager_denoiser
from engine.context import Build, Context, assemble, materials
from engine.contract import Engine

if TYPE_CHECKING:
    pass


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
