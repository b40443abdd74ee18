"""engine.compiled, compiled_bf16, int8_torchao: the step compiled by torch.compile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.context import Build, Context, Materials, assemble, materials
from engine.contract import Engine, UnsupportedEngine

if TYPE_CHECKING:
    from engine.backends.compiled.denoiser import CompiledDenoiser, CompileOptions


def compiled(
    *,
    context: Context,
    name: str,
    precision: str,
    region: str = "step",
    shapes: str = "dynamic",
    bucket_frames: int | None = None,
    inductor: Mapping[str, object] | None = None,
    max_batch: int = 8,
    max_padding_frac: float = 0.1,
) -> Engine:
    """The step compiled by inductor; see engine.backends.compiled.denoiser for the keys from `region` on."""
    from engine.backends.compiled.denoiser import CompileOptions
    from engine.solver.sampler import StepSampler

    options = CompileOptions.of(region, shapes, bucket_frames, inductor)
    made = materials(context)
    denoiser, step_bytes = compiled_denoiser(context, made, precision, options)
    build = Build(
        name=name, denoiser="compiled", precision=precision, step_bytes=step_bytes, max_batch=max_batch,
        max_padding_frac=max_padding_frac,
    )  # fmt: skip
    return assemble(context, made, StepSampler(denoiser, context.solver), build)


def compiled_denoiser(
    context: Context, made: Materials, precision: str, options: CompileOptions
) -> tuple[CompiledDenoiser, int]:
    """The same with the step compiled."""
    from dataclasses import replace

    from engine.backends.compiled.denoiser import CompiledDenoiser, compile_step
    from engine.backends.eager.denoiser import EagerDenoiser
    from engine.step.precision import apply_precision, weight_bytes, weight_histogram

    if precision == "int8":
        raise UnsupportedEngine(
            "FBGEMM's quantised linears are opaque to the compiler", "use engine=int8, or engine=int8_torchao"
        )
    prepared = apply_precision(made.step, precision, context.device, compiled=True)
    step_bytes = weight_bytes(weight_histogram(prepared.module))
    identity = f"{made.model.sha256} {precision} {made.arch}"
    module, counter = compile_step(made.step.to(context.device).eval(), options, context.device, identity)
    inner = EagerDenoiser(replace(prepared, module=module), made.arch, made.tables, context.device)
    return CompiledDenoiser(inner, counter, options), step_bytes
