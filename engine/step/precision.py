"""Precision passes over the step: module -> module, and how it is then called.

The time grid, RoPE angles and the time embedding are float32 or better in every variant, because they are tables
(engine.step.dit); upstream computes all three in the model's dtype.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from engine.contract import ConfigError, UnsupportedEngine
from engine.step.attention import bfloat16_on_cpu
from engine.step.packed import PackedConv, PackedLinear, can_pack, pack
from engine.step.unett import Step

BFLOAT16_FROM = (8, 0)  # compute capability
PRECISIONS = ("fp32", "amp", "bf16", "fp16", "int8", "int8_torchao")


def tf32_allowed() -> bool:
    """Whether torch may multiply or convolve float32 in TF32 on a CUDA device."""
    return bool(torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)


@dataclass(frozen=True, eq=False, slots=True)
class PreparedStep:
    """A step in its precision: `dtype` is that of its inputs and tables, `autocast` the autocast dtype or None."""

    module: nn.Module
    dtype: torch.dtype
    autocast: torch.dtype | None


def apply_precision(
    step: Step, precision: str, device: str, packed: bool = True, compiled: bool = False
) -> PreparedStep:
    """packed: weights laid out for oneDNN on a CPU; compiled: the step will be, which int8_torchao needs. Raises
    UnsupportedEngine where the device cannot run it."""
    on_cpu = device == "cpu"
    is_packed = on_cpu and packed
    if precision == "fp32":
        return PreparedStep(pack_where_possible(step, torch.float32, is_packed, compiled), torch.float32, None)
    if precision == "amp":
        return PreparedStep(step, torch.float32, torch.bfloat16 if on_cpu else torch.float16)
    if precision in ("bf16", "int8_torchao") and not on_cpu:
        refuse_without_bfloat16(device)
    if precision == "bf16":
        step = step.to(torch.bfloat16)
        if on_cpu:
            attend_in_bfloat16(step)
        return PreparedStep(pack_where_possible(step, torch.bfloat16, is_packed, compiled), torch.bfloat16, None)
    if precision == "fp16":
        return PreparedStep(step.to(torch.float16), torch.float16, None)
    if precision == "int8":
        if not on_cpu:
            raise UnsupportedEngine("int8 is built for the CPU only", "use engine=fp16 on CUDA")
        return PreparedStep(quantize_linears(step), torch.float32, None)
    if precision == "int8_torchao":
        return PreparedStep(torchao_int8(step.to(torch.bfloat16), on_cpu, compiled), torch.bfloat16, None)
    raise ConfigError("engine.precision", precision, f"must be one of {', '.join(PRECISIONS)}", "use engine=fp32")


def refuse_without_bfloat16(device: str) -> None:
    """Raises UnsupportedEngine for a card whose tensor cores know no bfloat16: PyTorch would run it by other means."""
    capability = torch.cuda.get_device_capability(device)
    if capability < BFLOAT16_FROM:
        card, (major, minor) = torch.cuda.get_device_name(device), capability
        raise UnsupportedEngine(
            f"bfloat16 needs compute capability 8.0 and {card} has {major}.{minor}", "use engine=fp16, or amp"
        )


def pack_where_possible(step: Step, dtype: torch.dtype, wanted: bool, compiled: bool) -> Step:
    """The same products from packed weights; `packed_linears` in the proof says whether."""
    return pack(step, compiled) if wanted and can_pack(dtype) else step


def attend_in_bfloat16(step: Step) -> None:
    for block in step.blocks:
        block.attend = bfloat16_on_cpu()


def has_int8() -> bool:
    """Whether this build of torch has the int8 products of x86 CPUs."""
    return "x86" in torch.backends.quantized.supported_engines


def quantize_linears(step: Step) -> Step:
    """Dynamic int8: weights per output channel after training, activations per call; blocks only, since the first and
    last projections are the sensitive parts and cost little."""
    if not has_int8():
        raise UnsupportedEngine(
            f"this build of torch has no x86 int8 kernels ({torch.backends.quantized.supported_engines})",
            "use engine=bf16, or a torch build for x86 with FBGEMM and oneDNN",
        )
    for block in step.blocks:
        quantize_inside(block)
    return step


def quantize_inside(module: nn.Module) -> nn.Module:
    """The linear layers below `module` in dynamic int8, in place."""
    import warnings

    torch.backends.quantized.engine = "x86"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.ao moves to torchao, which needs compile to gain
        torch.ao.quantization.quantize_dynamic(module, {nn.Linear}, dtype=torch.qint8, inplace=True)
    return module


def torchao_int8(step: Step, on_cpu: bool, compiled: bool) -> Step:
    """The blocks' linear layers as torchao's dynamic int8 (activations per token, weights per channel), everything else
    bfloat16. Only a compiler makes it faster than bfloat16 (sayakpaul/diffusers-torchao issue 44)."""
    if not compiled:
        raise UnsupportedEngine("torchao's int8 gains nothing without a compiler", "use engine=int8_torchao")
    try:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    except ImportError as absent:
        raise UnsupportedEngine(
            f"torchao is not installed ({absent})", "pip install '.[torchao]', or use engine=int8 on a CPU"
        ) from absent
    if on_cpu:
        attend_in_bfloat16(step)
    quantize_(step.blocks, Int8DynamicActivationInt8WeightConfig())
    return step


def weight_histogram(module: nn.Module) -> Mapping[str, int]:
    """Stored weight elements per dtype, quantised linears included: shows what the precision pass really did."""
    counts: Counter[str] = Counter()
    for parameter in module.parameters():
        stored = torchao_data(parameter)
        counts[str((parameter if stored is None else stored).dtype).removeprefix("torch.")] += parameter.numel()
    for child in module.modules():
        if isinstance(child, torch.ao.nn.quantized.dynamic.Linear):
            counts["qint8"] += child.weight().numel()
        if isinstance(child, PackedLinear | PackedConv):
            counts[str(child.dtype).removeprefix("torch.")] += child.num_weights
    return dict(counts)


def torchao_data(parameter: torch.Tensor) -> torch.Tensor | None:
    """The int8 values behind a tensor that torchao has quantised; its own dtype is that of the answers."""
    return getattr(parameter, "qdata", None)


def count_packed(module: nn.Module) -> int:
    return sum(isinstance(child, PackedLinear) for child in module.modules())


def count_quantized(module: nn.Module) -> int:
    own = sum(isinstance(child, torch.ao.nn.quantized.dynamic.Linear) for child in module.modules())
    return own + sum(torchao_data(parameter) is not None for parameter in module.parameters())


def weight_bytes(histogram: Mapping[str, int]) -> int:
    size = {"float32": 4, "bfloat16": 2, "float16": 2, "qint8": 1, "int8": 1, "float8_e4m3fn": 1}
    return sum(count * size[dtype] for dtype, count in histogram.items())
