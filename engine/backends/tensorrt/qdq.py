"""INT8 as TensorRT takes it (explicit quantisation): QuantizeLinear and DequantizeLinear before both operands of a
linear layer's product.

int8 with zero point 0, one scale for an activation, one per output channel for a weight, weights stored as int8, biases
in float. Our own pass, because ONNX Runtime's writes float32 scales: rounded to half afterwards they are not those that
the weights were rounded by. Here a scale is a number that the half type holds before anything is rounded by it, and a
norm's answer is quantised from float32: near a range's end bfloat16 is as coarse as half a step of int8.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.backends.onnx.quantization import named_by
from engine.contract import ConfigError, UnsupportedEngine

if TYPE_CHECKING:
    import torch

    from engine.step.dit import DiTStep
    from engine.step.inputs import Feeds

INT8_MAX = 127  # symmetric: -128 is not used
LAYERS = ("qkv", "out", "ff_in", "ff_out")
LAST = "proj_out"
SMALLEST_RANGE = 1e-6  # of a layer that saw zeros only


def layers_in_int8(depth: int, float_layers: Sequence[str]) -> tuple[str, ...]:
    """Names of the linear layers without those that a pattern keeps in float. Raises ConfigError for a pattern that
    names none, and where none is left."""
    names = [*(f"blocks.{i}.{layer}" for i in range(depth) for layer in LAYERS), LAST]
    kept = named_by(float_layers, names)
    left = tuple(name for name in names if name not in kept)
    if not left:
        raise ConfigError("engine.float_layers", list(float_layers), "leaves no layer in int8", "use engine=tensorrt")
    return left


def layer_ranges(step: DiTStep, feeds: Sequence[Feeds], layers: Sequence[str], method: str) -> dict[str, float]:
    """Layer -> the largest magnitude its input is to hold, over all `feeds` of the step (engine.backends.onnx.export's
    inputs), by minmax, or by ONNX Runtime's percentile (99.999) or entropy on histograms."""
    top: dict[str, float] = dict.fromkeys(layers, SMALLEST_RANGE)
    for found in _layer_inputs(step, feeds, layers):
        for name, values in found.items():
            top[name] = max(top[name], float(values.abs().max()))
    if method == "minmax":
        return top
    from onnxruntime.quantization.calibrate import HistogramCollector

    bins = 128 if method == "entropy" else 2048
    collector = HistogramCollector(method, True, bins, 128, 99.999, "same")
    with contextlib.redirect_stdout(sys.stderr):  # it prints, and stdout is the result's
        for found in _layer_inputs(step, feeds, layers):
            collector.collect({name: [values.float().cpu().numpy()] for name, values in found.items()})
        ends = collector.compute_collection_result()
    return {name: max(SMALLEST_RANGE, *(float(abs(end)) for end in ends[name][:2])) for name in layers}


def _layer_inputs(step: DiTStep, feeds: Sequence[Feeds], layers: Sequence[str]) -> Iterator[Mapping[str, torch.Tensor]]:
    """What every layer reads, one evaluation after the other."""
    from engine.step.examples import run_step

    found: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        return lambda _, given: found.update({name: given[0]})

    hooks = [step.get_submodule(name).register_forward_pre_hook(keep(name)) for name in layers]
    try:
        for given in feeds:
            run_step(step, {name: value.to(step.x_proj.weight.device) for name, value in given.items()})
            yield found
    finally:
        for hook in hooks:
            hook.remove()


def representable(values: np.ndarray, precision: str) -> np.ndarray:
    """The least numbers >= values (positive float32) that fp16 or bf16 holds, as float32: no range is cut short."""
    import torch

    given = torch.from_numpy(np.array(values, np.float32))
    half = given.to(torch.float16 if precision == "fp16" else torch.bfloat16)
    bits = half.view(torch.int16) + (half.float() < given).to(torch.int16)
    return np.asarray(bits.view(half.dtype).float().numpy())


def quantize(model: Any, ranges: Mapping[str, float], precision: str) -> None:
    """Puts the product of every layer in `ranges` into QDQ form, in place; precision: fp16 or bf16, of the scales.
    Raises UnsupportedEngine where the graph does not have such a product."""
    import onnx

    graph = model.graph
    products, weights = linear_products(model), {tensor.name: tensor for tensor in graph.initializer}
    missing = sorted(set(ranges) - set(products))
    if missing:
        raise UnsupportedEngine(
            f"the exported step has no product of its own for {', '.join(missing)}",
            "use the versions of constraints.txt, or engine=tensorrt",
        )
    names = {products[layer]: layer for layer in ranges}
    nodes = []
    for node in graph.node:
        layer = names.get(node.output[0])
        if layer is not None:
            weight = onnx.numpy_helper.to_array(weights[node.input[1]])
            made, constants = _pairs(node, layer, ranges[layer], weight, precision)
            nodes.extend(made)
            graph.initializer.extend(constants)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _pairs(node: Any, layer: str, magnitude: float, weight: np.ndarray, precision: str) -> tuple[list[Any], list[Any]]:
    """The nodes before a MatMul (x (..., K), weight (K, M)) and their constants; its inputs are renamed."""
    from onnx import helper, numpy_helper

    x_scale = representable(np.array(magnitude / INT8_MAX), precision)
    least = SMALLEST_RANGE / INT8_MAX
    w_scale = representable(np.maximum(np.abs(weight).max(axis=0) / INT8_MAX, least), precision)
    stored = np.clip(np.rint(weight / w_scale), -INT8_MAX, INT8_MAX).astype(np.int8)
    values = {
        "x_scale": x_scale, "x_zero": np.array(0, np.int8), "w": stored, "w_scale": w_scale,
        "w_zero": np.zeros(len(w_scale), np.int8),
    }  # fmt: skip
    constants = [numpy_helper.from_array(value, f"{layer}.{name}") for name, value in values.items()]
    of_x, of_w = [f"{layer}.x_scale", f"{layer}.x_zero"], [f"{layer}.w_scale", f"{layer}.w_zero"]
    steps: tuple[tuple[str, list[str], str, dict[str, int]], ...] = (
        ("QuantizeLinear", [node.input[0], *of_x], "x_int8", {}),
        ("DequantizeLinear", [f"{layer}.x_int8", *of_x], "x", {}),
        ("DequantizeLinear", [f"{layer}.w", *of_w], "weight", {"axis": 1}),
    )
    made = [
        helper.make_node(op, inputs, [f"{layer}.{out}"], name=f"{layer}.{out}.{op}", **given)
        for op, inputs, out, given in steps
    ]
    node.name = layer  # TensorRT's inspector names it
    node.input[0], node.input[1] = f"{layer}.x", f"{layer}.weight"
    return made, constants


def linear_products(model: Any) -> dict[str, str]:
    """Layer -> output of its MatMul with a constant weight, found by the bias that is added to it."""
    constants = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    products = {
        node.output[0]
        for node in model.graph.node
        if node.op_type == "MatMul" and constants.get(node.input[1]) == 2 and node.input[0] not in constants
    }
    found = {}
    for node in model.graph.node:
        if node.op_type == "Add":
            bias = next((name for name in node.input if constants.get(name) == 1), None)
            product = next((name for name in node.input if name in products), None)
            if bias and product:
                found[bias.removeprefix("step.").removesuffix(".bias")] = product
    return found
