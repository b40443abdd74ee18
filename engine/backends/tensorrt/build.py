"""engine.tensorrt and engine.tensorrt_rtx_*, in every precision: the step as a plan of TensorRT or TensorRT-RTX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.backends.tensorrt.settings import PlanSettings
from engine.context import Build, Context, assemble, materials, needs_dit
from engine.contract import Engine
from engine.paths import find_file
from engine.settings import CalibrationSettings

if TYPE_CHECKING:
    from engine.backends.tensorrt.denoiser import PlanRunner
    from engine.backends.tensorrt.plan_file import PlanIdentity


def tensorrt(
    *,
    context: Context,
    name: str,
    precision: str,
    profiles: Sequence[Sequence[int]],
    runtime: str = "tensorrt",
    plan: str | None = None,
    workspace_bytes: int = 1 << 32,
    needs_fused_attention: bool = True,
    max_batch: int = 1,
    max_padding_frac: float = 0.1,
    specialise: str | None = None,
    cuda_graph: bool | None = None,
) -> Engine:
    """The step as a plan, built here and kept, or `plan`, a file built on an equal machine. runtime: tensorrt or
    tensorrt_rtx; specialise and cuda_graph belong to the latter."""
    asked = PlanSettings(
        name=name, precision=precision, profiles=profiles, runtime=runtime, plan=plan, workspace_bytes=workspace_bytes,
        needs_fused_attention=needs_fused_attention, max_batch=max_batch, max_padding_frac=max_padding_frac,
        specialise=specialise, cuda_graph=cuda_graph,
    )  # fmt: skip
    return _planned(context, asked)


def tensorrt_int8(
    *,
    context: Context,
    name: str,
    precision: str,
    profiles: Sequence[Sequence[int]],
    calibration: CalibrationSettings,
    float_layers: Sequence[str] = (),
    runtime: str = "tensorrt",
    plan: str | None = None,
    workspace_bytes: int = 1 << 32,
    needs_fused_attention: bool = True,
    needs_int8_products: bool = True,
    max_batch: int = 1,
    max_padding_frac: float = 0.1,
    specialise: str | None = None,
    cuda_graph: bool | None = None,
) -> Engine:
    """The same with its linear layers in static INT8, calibrated as engine=onnx_int8; see
    engine.backends.tensorrt.qdq."""
    from engine.backends.onnx.quantization import checked_calibration

    checked_calibration(calibration)  # null would be a plan without INT8
    asked = PlanSettings(
        name=name, precision=precision, profiles=profiles, runtime=runtime, plan=plan, workspace_bytes=workspace_bytes,
        needs_fused_attention=needs_fused_attention, max_batch=max_batch, max_padding_frac=max_padding_frac,
        specialise=specialise, cuda_graph=cuda_graph, calibration=calibration, float_layers=float_layers,
        needs_int8_products=needs_int8_products,
    )  # fmt: skip
    return _planned(context, asked)


def _planned(context: Context, asked: PlanSettings) -> Engine:
    """The engine around the plan, refused before anything is loaded where it cannot be had."""
    from engine.backends.tensorrt.denoiser import TensorRTDenoiser
    from engine.backends.tensorrt.graph import checked_layers, identity_of, step_graph
    from engine.backends.tensorrt.plan import provide
    from engine.backends.tensorrt.runtime import versions_here
    from engine.solver.sampler import StepSampler

    needs_dit(context, asked.name)
    checked_layers(context, asked)
    here = versions_here(context.device, asked.runtime)
    made = materials(context)
    graph = step_graph(context, made, asked)
    identity = identity_of(context, graph.onnx, asked, here)

    def start(plan: bytes) -> PlanRunner:
        return _started(plan, context.device, asked, identity)

    given = find_file(asked.plan) if asked.plan else None
    ready = provide(graph.onnx, identity, graph.demands, start, given)
    profiles = [[profile.min_frames, profile.opt_frames, profile.max_frames] for profile in asked.ranges]
    own = {} if asked.specialise is None else {"specialise": asked.specialise, "cuda_graph": asked.cuda_graph}
    proof = {asked.runtime: here[0], "plan": identity.key(), "profiles": profiles, **own, **ready.checks}
    denoiser = TensorRTDenoiser(ready.runner, identity, made.arch, made.tables, proof)
    build = Build(
        name=asked.name, denoiser=asked.runtime, precision=asked.precision.partition("_")[0],
        step_bytes=ready.plan_bytes, max_batch=asked.max_batch, max_padding_frac=asked.max_padding_frac,
    )  # fmt: skip
    return assemble(context, made, StepSampler(denoiser, context.solver), build)


def _started(plan: bytes, device: str, asked: PlanSettings, identity: PlanIdentity) -> PlanRunner:
    from engine.backends.tensorrt.denoiser import PlanRunner
    from engine.backends.tensorrt.plan import plan_path
    from engine.backends.tensorrt.rtx import RtxSettings
    from engine.backends.tensorrt.runtime import load_runtime

    rtx = None
    if asked.specialise is not None and asked.cuda_graph is not None:
        kernels = plan_path(identity).with_suffix(".kernels")
        rtx = RtxSettings(specialise=asked.specialise, cuda_graph=asked.cuda_graph, kernels=kernels)
    return PlanRunner(plan, device, load_runtime(asked.runtime), rtx)
