"""A TensorRT engine's step as files: the graph, the plan where it can be built here, and the command that builds the
same one elsewhere."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.backends.tensorrt.graph import checked_layers, identity_of, step_graph
from engine.backends.tensorrt.plan import Shapes, kept_plan, step_shapes
from engine.backends.tensorrt.plan_file import PlanIdentity, described, write_described
from engine.backends.tensorrt.runtime import RTX, built_for
from engine.backends.tensorrt.settings import PlanSettings
from engine.build import engine_arguments
from engine.context import Context, materials, needs_dit
from engine.contract import UnsupportedEngine

TARGETS = "engine.backends.tensorrt.build."


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """plan: None where it cannot be built here, for `reason`. command: trtexec's, None for TensorRT-RTX."""

    onnx: Path
    plan: Path | None
    command: Path | None
    reason: str | None


def export_plan(context: Context, folder: Path) -> Exported:
    """Writes step.onnx, step.plan and trtexec.sh into `folder`. Raises UnsupportedEngine where the engine has no plan,
    or TensorRT-RTX is not installed; a plan that TensorRT itself cannot build here is left to the command."""
    target = str(context.config["engine"]["_target_"])
    if not target.startswith(TARGETS):
        name = context.config["engine"].get("name")
        raise UnsupportedEngine(f"engine={name} has no plan to export", "use engine=tensorrt_fp16 or another tensorrt*")
    asked = PlanSettings(**engine_arguments(context.config["engine"]))
    needs_dit(context, asked.name)
    checked_layers(context, asked)
    made_for, reason = _made_for(context, asked)
    made = materials(context)
    graph = step_graph(context, made, asked)
    identity = identity_of(context, graph.onnx, asked, made_for)
    folder.mkdir(parents=True, exist_ok=True)
    onnx = _copied(graph.onnx, folder)
    path = folder / "step.plan"
    command = None if asked.runtime == RTX else folder / "trtexec.sh"
    if command is not None:
        command.write_text(trtexec(onnx, identity, step_shapes(graph.demands.oracle, identity)), "utf-8")
    if reason is not None:
        path.unlink(missing_ok=True)  # of an export before, and not of this graph
        write_described(path, identity)
        return Exported(onnx=onnx, plan=None, command=command, reason=reason)
    kept = kept_plan(graph.onnx, identity, graph.demands)
    for source, target_path in ((kept, path), (described(kept), described(path))):
        shutil.copyfile(source, target_path)
    return Exported(onnx=onnx, plan=path, command=command, reason=None)


def _made_for(context: Context, asked: PlanSettings) -> tuple[tuple[str, str], str | None]:
    """Version and capability, and why no plan can be built here, if none can."""
    try:
        return built_for(asked.runtime, context.device), None
    except UnsupportedEngine as absent:
        if asked.runtime == RTX:
            raise
        return ("", ""), f"{absent.reason}: trtexec.sh builds it there"


def _copied(onnx: Path, folder: Path) -> Path:
    """The graph, and its weights where they lie beside it."""
    for part in sorted(onnx.parent.glob(f"{onnx.name}*")):
        shutil.copyfile(part, folder / part.name)
    return folder / onnx.name


def trtexec(onnx: Path, identity: PlanIdentity, shapes: Sequence[Shapes]) -> str:
    """A script that builds step.plan in its own folder: strongly typed, without TF32, with every profile and the
    workspace of `identity`; timings of kernels are kept for the next build."""
    dynamic = _dynamic_inputs(onnx)
    words = [
        "trtexec", f"--onnx={onnx.name}", "--stronglyTyped", "--noTF32", "--saveEngine=step.plan",
        "--timingCacheFile=step.timing", "--profilingVerbosity=detailed", "--skipInference",
        f"--memPoolSize=workspace:{identity.workspace_bytes >> 20}",
    ]  # fmt: skip
    for index, profile in enumerate(shapes):
        words.append(f"--profile={index}")
        for place, flag in enumerate(("--minShapes", "--optShapes", "--maxShapes")):
            said = (f"{name}:{'x'.join(map(str, profile[name][place]))}" for name in profile if name in dynamic)
            words.append(f"{flag}={','.join(said)}")
    lines = " \\\n  ".join(shlex.quote(word) for word in words)
    return f'#!/bin/sh\n# On the machine that runs the plan, with its TensorRT\ncd "$(dirname "$0")" && \\\n{lines}\n'


def _dynamic_inputs(path: Path) -> set[str]:
    import onnx

    graph: Any = onnx.load(str(path), load_external_data=False).graph
    return {each.name for each in graph.input if any(dim.dim_param for dim in each.type.tensor_type.shape.dim)}
