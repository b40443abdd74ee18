"""ONNX -> plan of TensorRT or TensorRT-RTX: a strongly typed network, so every tensor has the precision that the
graph states; float32 without TF32. Plans are kept by their identity, and none is used before it was held against the
oracle."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.backends.tensorrt.check import ExamplesAt, check_plan
from engine.backends.tensorrt.denoiser import PlanRunner
from engine.backends.tensorrt.plan_file import (
    PlanIdentity,
    count_fused_attention,
    count_int8_products,
    described,
    read_plan,
    write_plan,
)
from engine.backends.tensorrt.report import PlanReport, Said, listening, parsed
from engine.backends.tensorrt.runtime import RTX, load_runtime, title
from engine.cache import cache_root
from engine.contract import Proof, UnsupportedEngine
from engine.step.dit import Arch, DiTStep


@dataclass(frozen=True, eq=False, slots=True)
class Ready:
    """A plan that may be used, with what was found when it was built."""

    runner: PlanRunner
    checks: Proof
    plan_bytes: int


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Demands:
    """What a new plan is held against: the float32 step on the CPU, inputs of it by length, least counts of kernels."""

    oracle: DiTStep
    examples_at: ExamplesAt
    fused_attention: int = 0
    int8_products: int = 0


def exported(step: DiTStep, weights_sha256: str, arch: Arch, precision: str, masked: bool) -> Path:
    """The step's checked float32 graph, or its half form beside it."""
    from engine.backends.onnx.export import cached_step
    from engine.backends.tensorrt.typed import typed
    from engine.cache import cached_folder, source_sha256

    identity = {"weights": weights_sha256, "arch": repr(arch)}
    source = cached_step(identity, step, masked=masked)
    if precision == "fp32":
        return source
    parts = {
        "source": file_sha256(source),
        "precision": precision,
        "code": source_sha256("engine.backends.tensorrt.typed"),
    }
    folder = cached_folder("onnx_half", parts, lambda new: typed(source, new / "step.onnx", precision))
    return folder / "step.onnx"


def file_sha256(path: Path) -> str:
    """Of the graph and, where its weights lie beside it, of those, too."""
    digest = hashlib.sha256()
    for part in sorted(path.parent.glob(f"{path.name}*")):
        with part.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Built:
    """A new plan. report: what the builder said of it, None of TensorRT, whose inspector tells on the device."""

    plan: bytes
    report: PlanReport | None

    def counts(self) -> dict[str, int]:
        return {} if self.report is None else self.report.counts()


Start = Callable[[bytes], PlanRunner]


def plan_path(identity: PlanIdentity) -> Path:
    return cache_root() / "tensorrt" / f"{identity.key()}.plan"


def provide(onnx: Path, identity: PlanIdentity, demands: Demands, start: Start, given: Path | None) -> Ready:
    """The plan of `identity`: `given`, else from the cache, else built; checked on the device, and kept. Raises
    UnsupportedEngine."""
    path = given or plan_path(identity)
    kept = cached(path, identity) if given is None else read_plan(path, identity)
    plan, checks = kept or new_plan(onnx, identity, demands)
    if checks:  # no part of the identity: it may have been built where none were demanded
        refuse_fewer(checks, demands)
    runner = start(plan)
    if "lengths" not in checks:  # new, or built where there was no device to run it
        checks = verified(runner, identity, demands, checks)
        if given is None:
            write_plan(path, plan, identity, checks)
    return Ready(runner, checks, len(plan))


def new_plan(onnx: Path, identity: PlanIdentity, demands: Demands) -> tuple[bytes, Proof]:
    """(plan, what its builder counted in it)."""
    built = build_plan(onnx, identity, step_shapes(demands.oracle, identity))
    return built.plan, built.counts()


def kept_plan(onnx: Path, identity: PlanIdentity, demands: Demands) -> Path:
    """The plan in the cache, built where there is none: by TensorRT-RTX also without a device. What only a device shows
    is checked where it is used. Raises UnsupportedEngine."""
    path = plan_path(identity)
    kept = cached(path, identity)
    plan, checks = kept or new_plan(onnx, identity, demands)
    if checks:
        refuse_fewer(checks, demands)
    if kept is None:
        write_plan(path, plan, identity, checks)
    return path


def cached(path: Path, identity: PlanIdentity) -> tuple[bytes, Proof] | None:
    """The plan that was kept; None where there is none, or a damaged one, which is then built anew in its place."""
    if not described(path).is_file():
        return None
    try:
        return read_plan(path, identity)
    except UnsupportedEngine as damaged:
        print(f"{damaged.reason}: it is built again", file=sys.stderr)
        return None


def verified(runner: PlanRunner, identity: PlanIdentity, demands: Demands, counts: Proof) -> dict[str, Any]:
    """What the plan shows at every profile's ends, how much of its attention is fused and of its products int8. counts:
    of the builder, empty where only the inspector tells."""
    counts = counts or counted(runner.information(), demands)

    def run(feeds: Mapping[str, torch.Tensor]) -> torch.Tensor:
        num_frames = feeds["x"].shape[1]
        index = next(i for i, p in enumerate(identity.profiles) if num_frames <= p.max_frames)
        runner.use_profile(index)
        return runner({name: runner.place(name, value) for name, value in feeds.items()})

    lengths = check_plan(
        run, demands.oracle, identity.profiles, demands.examples_at, identity.precision, identity.max_batch
    )
    return {"lengths": lengths, **counts, "context_bytes": runner.context_bytes()}


def counted(engine_information: str, demands: Demands) -> dict[str, int]:
    """Raises UnsupportedEngine where the plan has fewer of a kind of kernel than demanded."""
    counts = {
        "fused_attention": count_fused_attention(engine_information),
        "int8_products": count_int8_products(engine_information),
    }
    refuse_fewer(counts, demands)
    return counts


def refuse_fewer(counts: Proof, demands: Demands) -> None:
    """counts: of a new plan, or as they stand in the description of a kept one."""
    for kind, least, what in (
        ("fused_attention", demands.fused_attention, "attention blocks are fused"),
        ("int8_products", demands.int8_products, "int8 layers are multiplied in int8"),
    ):
        found = counts.get(kind, 0)
        if not isinstance(found, int) or found < least:
            raise UnsupportedEngine(
                f"{found} of {least} {what} in the plan",
                f"use engine.needs_{kind}=false to take it as it is, or engine=cuda_graph",
            )


Shapes = Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]


def step_shapes(step: DiTStep, identity: PlanIdentity) -> list[Shapes]:
    """Per profile and input its least, tuned and greatest shape; guidance rows and batch from 1 to the plan's own."""
    dim, mel_bins = step.x_proj.weight.shape
    heads = 1 if step.arch.pe_attn_head is None else step.arch.heads

    def shapes(frames: int, groups: int, batch: int) -> dict[str, tuple[int, ...]]:
        rope = (frames, heads, step.arch.dim_head)
        found: dict[str, tuple[int, ...]] = {
            "x": (batch, frames, mel_bins), "projected": (groups, batch, frames, dim),
            "convolved": (groups, batch, dim, frames), "cos": rope, "sin": rope,
            "modulation": (step.arch.depth, 6, dim), "final": (2, dim),
        }  # fmt: skip
        if identity.max_batch > 1:
            found |= {"frames": (groups, batch, frames, 1), "keys": (groups, batch, 1, 1, frames)}
        return found

    rows: list[Shapes] = []
    for profile in identity.profiles:
        least = shapes(profile.min_frames, 1, 1)
        tuned = shapes(profile.opt_frames, identity.groups, 1)
        most = shapes(profile.max_frames, identity.groups, identity.max_batch)
        rows.append({name: (least[name], tuned[name], most[name]) for name in least})
    return rows


def build_plan(onnx: Path, identity: PlanIdentity, shapes: list[Shapes]) -> Built:
    """Takes minutes with TensorRT and a device, seconds with TensorRT-RTX and none. Raises UnsupportedEngine with the
    parser's first complaint, or where the builder refuses."""
    trt, name = load_runtime(identity.runtime), title(identity.runtime)
    said = Said()
    logger = listening(trt, said) if identity.runtime == RTX else trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        first = parser.get_error(0).desc() if parser.num_errors else "no reason given"
        raise UnsupportedEngine(f"{name} cannot read the exported step: {one_line(first)}", "use engine=cuda_graph")
    config = builder_config(trt, builder, identity, profile_shapes(shapes, network))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        why = said.errors[0] if said.errors else "its log is on stderr"
        raise UnsupportedEngine(
            f"{name} could not build the plan ({why})", "give it more engine.workspace_bytes, or use engine=cuda_graph"
        )
    return Built(plan=bytes(memoryview(plan)), report=parsed(said.messages) if identity.runtime == RTX else None)


def one_line(text: str) -> str:
    return " ".join(text.split())


def profile_shapes(shapes: list[Shapes], network: Any) -> list[Shapes]:
    """Of the inputs whose size the network leaves open, also where a profile has one size only: TensorRT wants every
    such input in every profile, and no other."""
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    # Dims has no more than a length and an index in every version
    dynamic = {given.name for given in inputs if -1 in [given.shape[i] for i in range(len(given.shape))]}
    return [{name: extents for name, extents in profile.items() if name in dynamic} for profile in shapes]


def builder_config(trt: Any, builder: Any, identity: PlanIdentity, shapes: list[Shapes]) -> Any:
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and not float32
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # names the fused kernels to the inspector and the log
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, identity.workspace_bytes)
    for inputs in shapes:
        profile = builder.create_optimization_profile()
        for name, extents in inputs.items():
            profile.set_shape(name, *(trt.Dims(list(shape)) for shape in extents))
        config.add_optimization_profile(profile)
    return config
