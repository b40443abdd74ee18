"""engine.fp32, bf16, fp16, amp, int8: the rewritten step run eagerly by PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.context import Build, Context, Materials, assemble, materials
from engine.contract import Engine

if TYPE_CHECKING:
    from engine.backends.eager.denoiser import EagerDenoiser


def eager_denoiser(context: Context, made: Materials, precision: str) -> tuple[EagerDenoiser, int]:
    """The denoiser and the bytes of its step's weights."""
    from engine.backends.eager.denoiser import EagerDenoiser
    from engine.step.precision import apply_precision, weight_bytes, weight_histogram

    prepared = apply_precision(made.step, precision, context.device)
    step_bytes = weight_bytes(weight_histogram(prepared.module))
    return EagerDenoiser(prepared, made.arch, made.tables, context.device), step_bytes


def pytorch(
    *, context: Context, name: str, precision: str, max_batch: int = 8, max_padding_frac: float = 0.1
) -> Engine:
    """Our pipeline around the rewritten step, run eagerly by PyTorch in one of the precisions of
    engine.step.precision."""
    from engine.solver.sampler import StepSampler

    made = materials(context)
    denoiser, step_bytes = eager_denoiser(context, made, precision)
    build = Build(
        name=name, denoiser="eager", precision=precision, step_bytes=step_bytes,
        max_batch=max_batch, max_padding_frac=max_padding_frac,
    )  # fmt: skip
    return assemble(context, made, StepSampler(denoiser, context.solver), build)
