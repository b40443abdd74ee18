"""Build functions of the backends that need a compiler or a GPU; conf/engine/*.yaml name them in `_target_`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.build import Build, Context, Materials, assemble, materials
from engine.contract import Engine, UnsupportedEngine

if TYPE_CHECKING:
    from engine.denoiser.compiled import CompiledDenoiser, CompileOptions
    from engine.denoiser.eager import EagerDenoiser


def compiled(
    *,
    context: Context,
    name: str,
    precision: str,
    region: str = "step",
    shapes: str = "dynamic",
    bucket_frames: int | None = None,
    inductor: Mapping[str, Any] | None = None,
    max_batch: int = 8,
    max_padding_frac: float = 0.1,
) -> Engine:
    """The step compiled by inductor; see engine.denoiser.compiled for the keys from `region` on."""
    from engine.denoiser.compiled import CompileOptions
    from engine.sampler import StepSampler

    options = CompileOptions.of(region, shapes, bucket_frames, inductor)
    made = materials(context)
    denoiser, step_bytes = compiled_denoiser(context, made, precision, options)
    build = Build(
        name=name, denoiser="compiled", precision=precision, step_bytes=step_bytes, max_batch=max_batch,
        max_padding_frac=max_padding_frac,
    )  # fmt: skip
    return assemble(context, made, StepSampler(denoiser, context.solver), build)


def cuda_graph(
    *,
    context: Context,
    name: str,
    precision: str,
    compiled: bool = False,
    inductor: Mapping[str, Any] | None = None,
    max_graphs: int = 16,
    max_batch: int = 8,
    max_padding_frac: float = 0.1,
) -> Engine:
    """The whole solve as one CUDA graph per length and batch, around the eager or the compiled step."""
    from engine.denoiser.compiled import CompileOptions
    from engine.denoiser.cuda_graph import CudaRecorder, GraphSampler, check_capturable

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


def tensorrt(
    *,
    context: Context,
    name: str,
    precision: str,
    profiles: Sequence[Sequence[int]],
    plan: str | None = None,
    workspace_bytes: int = 1 << 32,
    needs_fused_attention: bool = True,
    max_batch: int = 1,
    max_padding_frac: float = 0.1,
) -> Engine:
    """The step as a TensorRT plan, built here and kept, or `plan`, a file built on an equal machine."""
    import copy
    from pathlib import Path

    from engine.denoiser.tensorrt_plan import TensorRTDenoiser
    from engine.plan_file import PlanIdentity, checked_precision, profiles_of
    from engine.sampler import StepSampler
    from engine.tensorrt_build import exported, file_sha256, provide, versions_here

    checked_precision(precision)
    checked_profiles = profiles_of(profiles)
    version, capability = versions_here(context.device)
    made = materials(context)
    onnx = exported(made.step, made.model.sha256, made.arch, precision, masked=max_batch > 1)
    identity = PlanIdentity(
        onnx_sha256=file_sha256(onnx), precision=precision, profiles=checked_profiles,
        groups=2 if context.solver.guided else 1, max_batch=max_batch, workspace_bytes=workspace_bytes,
        tensorrt_version=version, compute_capability=capability,
    )  # fmt: skip
    given, oracle = Path(plan) if plan else None, copy.deepcopy(made.step).eval()
    ready = provide(onnx, identity, oracle, context.device, given, needs_fused_attention and precision != "fp32")
    proof = {"tensorrt": version, "plan": identity.key(), "profiles": profiles, **ready.checks}
    denoiser = TensorRTDenoiser(ready.runner, identity, made.arch, made.tables, proof)
    build = Build(
        name=name, denoiser="tensorrt", precision=precision, step_bytes=ready.plan_bytes, max_batch=max_batch,
        max_padding_frac=max_padding_frac,
    )  # fmt: skip
    return assemble(context, made, StepSampler(denoiser, context.solver), build)


def eager_denoiser(context: Context, made: Materials, precision: str) -> tuple[EagerDenoiser, int]:
    """The denoiser and the bytes of its step's weights."""
    from engine.denoiser.eager import EagerDenoiser
    from engine.precision import apply_precision, weight_bytes, weight_histogram

    prepared = apply_precision(made.step, precision, context.device)
    step_bytes = weight_bytes(weight_histogram(prepared.module))
    return EagerDenoiser(prepared, made.arch, made.tables, context.device), step_bytes


def compiled_denoiser(
    context: Context, made: Materials, precision: str, options: CompileOptions
) -> tuple[CompiledDenoiser, int]:
    """The same with the step compiled."""
    from dataclasses import replace

    from engine.denoiser.compiled import CompiledDenoiser, compile_step
    from engine.denoiser.eager import EagerDenoiser
    from engine.precision import apply_precision, weight_bytes, weight_histogram

    if precision == "int8":
        raise UnsupportedEngine(
            "FBGEMM's quantised linears are opaque to the compiler", "use engine=int8, or engine=int8_torchao"
        )
    prepared = apply_precision(made.step, precision, context.device, packed=False)
    step_bytes = weight_bytes(weight_histogram(prepared.module))
    identity = f"{made.model.sha256} {precision} {made.arch}"
    module, counter = compile_step(made.step.to(context.device).eval(), options, context.device, identity)
    inner = EagerDenoiser(replace(prepared, module=module), made.arch, made.tables, context.device)
    return CompiledDenoiser(inner, counter, options), step_bytes
