"""The graph that a plan is built from, and what the plan is held against: the same for an engine and for an export."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

from engine.backends.onnx.quantization import checked_calibration
from engine.backends.tensorrt.calibrated import Int8Form, int8_graph
from engine.backends.tensorrt.check import drawn_feeds
from engine.backends.tensorrt.plan import Demands, exported, file_sha256
from engine.backends.tensorrt.plan_file import PlanIdentity
from engine.backends.tensorrt.qdq import layers_in_int8
from engine.backends.tensorrt.settings import PlanSettings
from engine.context import Context, Materials


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Graph:
    """onnx: the file, its weights beside it where they are large."""

    onnx: Path
    demands: Demands


def checked_layers(context: Context, asked: PlanSettings) -> tuple[str, ...]:
    """Layers to be in INT8, none for the other precisions. Raises ConfigError; loads nothing."""
    if asked.calibration is None:
        return ()
    checked_calibration(asked.calibration)
    return layers_in_int8(context.config["model"]["arch"]["depth"], asked.float_layers)


def step_graph(context: Context, made: Materials, asked: PlanSettings) -> Graph:
    """Exported, checked and kept. Raises UnsupportedEngine."""
    oracle, layers = copy.deepcopy(made.dit).eval(), checked_layers(context, asked)
    fused = made.arch.depth if asked.needs_fused_attention and asked.precision != "fp32" else 0
    if asked.calibration is None:
        onnx = exported(made.dit, made.model.sha256, made.arch, asked.precision, masked=asked.masked)
        groups = guidance_rows(context)
        return Graph(
            onnx=onnx,
            demands=Demands(
                oracle=oracle, examples_at=lambda num_frames: [drawn_feeds(oracle, groups, num_frames, asked.masked)],
                fused_attention=fused,
            ),
        )  # fmt: skip
    form = Int8Form(
        precision=asked.precision,
        layers=layers,
        calibration=checked_calibration(asked.calibration),
        masked=asked.masked,
    )
    onnx, examples_at = int8_graph(context, made, form)
    products = len(layers) if asked.needs_int8_products else 0
    demands = Demands(oracle=oracle, examples_at=examples_at, fused_attention=fused, int8_products=products)
    return Graph(onnx=onnx, demands=demands)


def guidance_rows(context: Context) -> int:
    return 2 if context.solver.guided else 1


def identity_of(context: Context, onnx: Path, asked: PlanSettings, made_for: tuple[str, str]) -> PlanIdentity:
    """made_for: the runtime's version and the compute capability."""
    version, capability = made_for
    return PlanIdentity(
        onnx_sha256=file_sha256(onnx), precision=asked.precision, profiles=asked.ranges, groups=guidance_rows(context),
        max_batch=asked.max_batch, workspace_bytes=asked.workspace_bytes, tensorrt_version=version,
        compute_capability=capability, runtime=asked.runtime,
    )  # fmt: skip
