"""Passes over an exported graph that ONNX Runtime has no fusion for: linear layers as one Gemm on all rows, Mish by one
exponential. The export's check runs after them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

MISH_CLIP = 20.0  # above it x * tanh(softplus(x)) equals x in float32, and e^2x is still finite


def for_onnxruntime(model: Any) -> Any:
    """The model with every pass applied, in place."""
    _rewrite(model, _mish)
    linears = _Linears(model)
    _rewrite(model, linears.gemm, linears.absorbed)
    return model


def _rewrite(model: Any, replace: Any, skip: frozenset[str] = frozenset()) -> None:
    """Every node -> the nodes `replace(model, node)` gives for it; those whose first output is in `skip` go."""
    nodes = [node for node in model.graph.node if node.output[0] not in skip]
    new = [made for node in nodes for made in replace(model, node)]
    del model.graph.node[:]
    model.graph.node.extend(new)


def add_constant(model: Any, name: str, value: np.ndarray) -> str:
    from onnx import numpy_helper

    if all(tensor.name != name for tensor in model.graph.initializer):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def _mish(model: Any, node: Any) -> list[Any]:
    """mish(x) = x * w / (w + 2) with w = e^x (e^x + 2); ONNX Runtime's softplus is slow."""
    from onnx import helper

    if node.op_type != "Mish":
        return [node]
    (x,), (y,) = node.input, node.output
    clip = add_constant(model, "mish.clip", np.array(MISH_CLIP, np.float32))
    two = add_constant(model, "mish.two", np.array(2, np.float32))
    steps = (
        ("Min", [x, clip], "m"), ("Exp", [f"{y}.m"], "e"), ("Add", [f"{y}.e", two], "e2"),
        ("Mul", [f"{y}.e", f"{y}.e2"], "w"), ("Add", [f"{y}.w", two], "w2"), ("Div", [f"{y}.w", f"{y}.w2"], "t"),
    )  # fmt: skip
    made = [helper.make_node(op, inputs, [f"{y}.{out}"]) for op, inputs, out in steps]
    return [*made, helper.make_node("Mul", [x, f"{y}.t"], [y])]


class _Linears:
    """MatMul of (R, N, K) with a constant and Add of a constant bias -> Gemm over (R * N, K), named as the layer."""

    def __init__(self, model: Any):
        self._constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
        uses = Counter(name for node in model.graph.node for name in node.input)
        self._bias: dict[str, tuple[str, str]] = {}  # MatMul's output -> bias, Add's output
        products = {
            node.output[0]
            for node in model.graph.node
            if node.op_type == "MatMul" and len(self._constants.get(node.input[1], ())) == 2
        }
        for node in model.graph.node:
            if node.op_type != "Add":
                continue
            product = next((name for name in node.input if name in products and uses[name] == 1), None)
            bias = next((name for name in node.input if len(self._constants.get(name, ())) == 1), None)
            if product and bias:
                self._bias[product] = (bias, node.output[0])
        self.absorbed = frozenset(output for _, output in self._bias.values())

    def gemm(self, model: Any, node: Any) -> list[Any]:
        from onnx import helper

        if node.output[0] not in self._bias:
            return [node]
        bias, y = self._bias[node.output[0]]
        x, weight = node.input
        width_in, width_out = self._constants[weight]
        flat = add_constant(model, f"rows_of_{width_in}", np.array([-1, width_in], dtype=np.int64))
        out = add_constant(model, f"width_{width_out}", np.array([width_out], dtype=np.int64))
        return [
            helper.make_node("Reshape", [x, flat], [f"{y}.in"]),
            helper.make_node(
                "Gemm", [f"{y}.in", weight, bias], [f"{y}.out"], name=bias.removeprefix("step.").removesuffix(".bias")
            ),
            helper.make_node("Shape", [x], [f"{y}.rows"], start=0, end=2),
            helper.make_node("Concat", [f"{y}.rows", out], [f"{y}.shape"], axis=0),
            helper.make_node("Reshape", [f"{y}.out", f"{y}.shape"], [y]),
        ]
