"""engine.tensorrt and its precisions: the step as a TensorRT plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.context import Build, Context, Materials, assemble, materials, needs_dit
from engine.contract import Engine
from engine.paths import find_file
from engine.settings import CalibrationSettings

if TYPE_CHECKING:
    from pathlib import Path

    from engine.backends.tensorrt.plan import Demands
    from engine.runtimes.profiles import Profile


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
    from engine.backends.tensorrt.plan_file import checked_precision
    from engine.runtimes.profiles import profiles_of

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
    calibration: CalibrationSettings,
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
    from engine.backends.tensorrt.plan_file import INT8_PRECISIONS, checked_precision
    from engine.backends.tensorrt.qdq import layers_in_int8
    from engine.runtimes.profiles import profiles_of

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
