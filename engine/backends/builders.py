"""Build functions of the backends that need a compiler or a GPU; conf/engine/*.yaml name them in `_target_`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.build import Build, Context, Materials, assemble, materials, needs_dit
from engine.contract import ConfigError, Engine, UnsupportedEngine
from engine.paths import find_file

if TYPE_CHECKING:
    from pathlib import Path

    from engine.backends.compiled.denoiser import CompiledDenoiser, CompileOptions
    from engine.backends.eager.denoiser import EagerDenoiser
    from engine.backends.tensorrt.plan import Demands
    from engine.backends.tensorrt.plan_file import Profile


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


def tiles(*, context: Context, name: str, precision: str, max_batch: int = 8, max_padding_frac: float = 0.1) -> Engine:
    """The step as one function of our own in tiles (AMX) of bfloat16, or with its linear layers in int8; see
    engine.backends.tiles.denoiser."""
    from engine.backends.tiles.denoiser import TilesDenoiser, TileWeights, refuse_shapes
    from engine.native.library import NEEDED_FOR_INT8, refuse_cpu
    from engine.native.library import compiled as native
    from engine.solver.sampler import StepSampler
    from engine.step.dit import Arch

    needs_dit(context, name)
    if context.device != "cpu":
        raise UnsupportedEngine(f"{name} is built for CPUs", "use device=cpu, or engine=compiled_bf16")
    if precision not in ("bf16", "int8"):
        raise ConfigError("engine.precision", precision, "must be bf16 or int8 in tiles", "use engine=tiles_bf16")
    refuse_shapes(Arch.of(context.config["model"]["arch"]), precision == "int8")
    functions = native()
    if precision == "int8":
        refuse_cpu(NEEDED_FOR_INT8)
    made = materials(context)
    weights = TileWeights(made.dit, int8=precision == "int8")
    build = Build(
        name=name, denoiser="tiles", precision=precision, step_bytes=weights.num_bytes(), max_batch=max_batch,
        max_padding_frac=max_padding_frac,
    )  # fmt: skip
    return assemble(
        context, made, StepSampler(TilesDenoiser(functions, weights, made.arch, made.tables), context.solver), build
    )


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

    from engine.backends.tensorrt.check import drawn_feeds
    from engine.backends.tensorrt.plan import Demands, exported, versions_here
    from engine.backends.tensorrt.plan_file import checked_precision, profiles_of

    needs_dit(context, name)
    checked_precision(precision)
    asked = _PlanSettings(name, precision, profiles_of(profiles), plan, workspace_bytes, max_batch, max_padding_frac)
    versions_here(context.device)
    made = materials(context)
    onnx = exported(made.dit, made.model.sha256, made.arch, precision, masked=max_batch > 1)
    oracle, groups = copy.deepcopy(made.dit).eval(), _groups(context)
    demands = Demands(
        oracle=oracle, examples_at=lambda num_frames: [drawn_feeds(oracle, groups, num_frames, max_batch > 1)],
        fused_attention=made.arch.depth if needs_fused_attention and precision != "fp32" else 0,
    )  # fmt: skip
    return _planned(context, made, onnx, demands, asked)


def tensorrt_int8(
    *,
    context: Context,
    name: str,
    precision: str,
    profiles: Sequence[Sequence[int]],
    calibration: Mapping[str, Any],
    float_layers: Sequence[str] = (),
    plan: str | None = None,
    workspace_bytes: int = 1 << 32,
    needs_fused_attention: bool = True,
    needs_int8_products: bool = True,
    max_batch: int = 1,
    max_padding_frac: float = 0.1,
) -> Engine:
    """The same with its linear layers in static INT8, calibrated as engine=onnx_int8; see
    engine.backends.tensorrt.qdq."""
    import copy

    from engine.backends.onnx.quantization import checked_calibration
    from engine.backends.tensorrt.calibrated import Int8Form, int8_graph
    from engine.backends.tensorrt.plan import Demands, versions_here
    from engine.backends.tensorrt.plan_file import INT8_PRECISIONS, checked_precision, profiles_of
    from engine.backends.tensorrt.qdq import layers_in_int8

    needs_dit(context, name)
    checked_precision(precision, INT8_PRECISIONS)
    asked = _PlanSettings(name, precision, profiles_of(profiles), plan, workspace_bytes, max_batch, max_padding_frac)
    sentences = checked_calibration(calibration)
    layers = layers_in_int8(context.config["model"]["arch"]["depth"], float_layers)
    versions_here(context.device)
    made = materials(context)
    form = Int8Form(precision=precision, layers=layers, calibration=sentences, masked=max_batch > 1)
    oracle = copy.deepcopy(made.dit).eval()
    onnx, examples_at = int8_graph(context, made, form)
    demands = Demands(
        oracle=oracle, examples_at=examples_at, fused_attention=made.arch.depth if needs_fused_attention else 0,
        int8_products=len(layers) if needs_int8_products else 0,
    )  # fmt: skip
    return _planned(context, made, onnx, demands, asked)


@dataclass(frozen=True, slots=True)
class _PlanSettings:
    """Keys that every TensorRT engine has, checked."""

    name: str
    precision: str
    profiles: tuple[Profile, ...]
    plan: str | None
    workspace_bytes: int
    max_batch: int
    max_padding_frac: float


def _groups(context: Context) -> int:
    return 2 if context.solver.guided else 1


def _planned(context: Context, made: Materials, onnx: Path, demands: Demands, asked: _PlanSettings) -> Engine:
    """The engine around the plan of `onnx`."""

    from engine.backends.tensorrt.denoiser import TensorRTDenoiser
    from engine.backends.tensorrt.plan import file_sha256, provide, versions_here
    from engine.backends.tensorrt.plan_file import PlanIdentity
    from engine.solver.sampler import StepSampler

    version, capability = versions_here(context.device)
    identity = PlanIdentity(
        onnx_sha256=file_sha256(onnx), precision=asked.precision, profiles=asked.profiles, groups=_groups(context),
        max_batch=asked.max_batch, workspace_bytes=asked.workspace_bytes, tensorrt_version=version,
        compute_capability=capability,
    )  # fmt: skip
    ready = provide(onnx, identity, demands, context.device, find_file(asked.plan) if asked.plan else None)
    profiles = [[profile.min_frames, profile.opt_frames, profile.max_frames] for profile in asked.profiles]
    proof = {"tensorrt": version, "plan": identity.key(), "profiles": profiles, **ready.checks}
    denoiser = TensorRTDenoiser(ready.runner, identity, made.arch, made.tables, proof)
    build = Build(
        name=asked.name, denoiser="tensorrt", precision=asked.precision.partition("_")[0], step_bytes=ready.plan_bytes,
        max_batch=asked.max_batch, max_padding_frac=asked.max_padding_frac,
    )  # fmt: skip
    return assemble(context, made, StepSampler(denoiser, context.solver), build)


def eager_denoiser(context: Context, made: Materials, precision: str) -> tuple[EagerDenoiser, int]:
    """The denoiser and the bytes of its step's weights."""
    from engine.backends.eager.denoiser import EagerDenoiser
    from engine.step.precision import apply_precision, weight_bytes, weight_histogram

    prepared = apply_precision(made.step, precision, context.device)
    step_bytes = weight_bytes(weight_histogram(prepared.module))
    return EagerDenoiser(prepared, made.arch, made.tables, context.device), step_bytes


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
