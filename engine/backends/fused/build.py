"""engine.fused_bf16, fused_fp16, fused_int8, fused_fp8: the step as a few Triton kernels, the whole solve captured
around them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from typing import TYPE_CHECKING

from engine.cache import cache_root
from engine.context import Build, Context, Materials, assemble, materials, needs_dit
from engine.contract import ConfigError, Engine, UnsupportedEngine

if TYPE_CHECKING:
    from engine.backends.fused.denoiser import FusedDenoiser

# In eight bits the blocks' linear layers multiply, everything else is of the type named last
PRECISIONS = ("bf16", "fp16", "int8_bf16", "int8_fp16", "fp8_bf16", "fp8_fp16")
FIRST_CAPABILITY = (8, 0)  # bfloat16 in tensor cores, loads that do not wait
FIRST_FP8 = (8, 9)  # e4m3 in tensor cores
INSTEAD = "use engine=cuda_graph"


def fused(
    *, context: Context, name: str, precision: str, max_graphs: int = 16, max_batch: int = 8,
    max_padding_frac: float = 0.1,
) -> Engine:  # fmt: skip
    """The step as kernels of our own, in a half type or with linear layers in eight bits (weights quantised here,
    activations per call), captured as one CUDA graph per length and batch."""
    from engine.backends.cuda_graph.denoiser import CudaRecorder, GraphSampler, check_capturable, check_max_graphs

    needs_dit(context, name)
    if precision not in PRECISIONS:
        raise ConfigError(
            "engine.precision", precision, f"must be one of {', '.join(PRECISIONS)} here", "use engine=fused_bf16"
        )
    check_max_graphs(max_graphs)
    refuse_here(context.device, name, precision)
    check_capturable(context.solver, context.device, max_batch)
    from engine.backends.fused.step import refuse_arch  # Triton is known to be here
    from engine.step.dit import Arch

    refuse_arch(Arch.of(context.config["model"]["arch"]), eight_bits="_" in precision)
    made = materials(context)
    denoiser, step_bytes = fused_denoiser(context, made, precision)
    build = Build(
        name=name, denoiser="cuda_graph over fused", precision=precision, step_bytes=step_bytes, max_batch=max_batch,
        max_padding_frac=max_padding_frac,
    )  # fmt: skip
    return assemble(
        context, made, GraphSampler(denoiser, context.solver, CudaRecorder(context.device), max_graphs), build
    )


def refuse_here(device: str, name: str, precision: str) -> None:
    """Raises UnsupportedEngine without CUDA, Triton, a card that is new enough, or what Triton's launcher needs."""
    if device == "cpu":
        raise UnsupportedEngine(
            f"{name} is made of CUDA kernels and device.kind is cpu", "use device=cuda, or engine=compiled_bf16 here"
        )
    if importlib.util.find_spec("triton") is None:
        raise UnsupportedEngine(
            f"{name} is written in Triton, which is not installed",
            f"pip install triton, in the version that this torch names, or {INSTEAD}",
        )
    import torch

    capability, card = torch.cuda.get_device_capability(device), torch.cuda.get_device_name(device)
    has = f"{card} has {capability[0]}.{capability[1]}"
    if capability < FIRST_CAPABILITY:
        raise UnsupportedEngine(f"{name} needs compute capability 8.0 and {has}", INSTEAD)
    if precision.startswith("fp8") and capability < FIRST_FP8:
        raise UnsupportedEngine(
            f"{name} multiplies FP8 (e4m3), which needs compute capability 8.9, and {has}", "use engine=fused_int8"
        )
    if not any(shutil.which(compiler) for compiler in (os.environ.get("CC") or "gcc", "gcc", "clang")):
        raise UnsupportedEngine(
            "Triton compiles what launches a kernel and finds no C compiler", f"apt-get install g++ or {INSTEAD}"
        )


def fused_denoiser(context: Context, made: Materials, precision: str) -> tuple[FusedDenoiser, int]:
    """The denoiser and the bytes of its step's weights."""
    os.environ.setdefault("TRITON_CACHE_DIR", str(cache_root() / "triton"))
    import torch

    from engine.backends.eager.denoiser import EagerDenoiser
    from engine.backends.fused.choose import Choices, Widths
    from engine.backends.fused.denoiser import FusedDenoiser
    from engine.backends.fused.eight_bits import PRECISIONS as TYPES
    from engine.backends.fused.launch import fitting_tiles
    from engine.backends.fused.step import FusedStep
    from engine.step.precision import PreparedStep, weight_bytes, weight_histogram

    dtype, form = TYPES[precision]
    card = torch.cuda.get_device_properties(context.device)
    widths = Widths(
        dim=made.arch.dim, heads=made.arch.heads, hidden=int(made.arch.dim * made.arch.ff_mult), dtype=dtype,
        device=context.device, form=form,
    )  # fmt: skip
    versions = {name: importlib.metadata.version(name) for name in ("torch", "triton")}
    identity = {"device": card.name, "cuda": torch.version.cuda, "precision": precision, **versions}
    identity |= {"dim": widths.dim, "heads": widths.heads, "hidden": widths.hidden}
    choices = Choices(widths, fitting_tiles(card.shared_memory_per_block_optin, form is not None), identity)
    step = FusedStep(made.dit, choices.of, dtype, form)
    step_bytes = weight_bytes(weight_histogram(step))
    inner = EagerDenoiser(PreparedStep(step, dtype, None), made.arch, made.tables, context.device)
    return FusedDenoiser(inner, step, choices), step_bytes
