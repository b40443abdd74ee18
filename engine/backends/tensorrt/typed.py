"""A float32 step graph -> the same graph with its products in float16 or bfloat16 and float32 islands.

In half: matrix products, convolutions, and what stands between two of them (RoPE, softmax, GELU, layout), so that a
compiler finds attention in one type; an island around RoPE or softmax costs every fused attention kernel
(stable-audio-3 issue 79). In float32: norms, AdaLN scales and gates, the residual sum, Mish, all inputs and outputs but
the RoPE tables and the mask of keys: where float16 overflows (NVIDIA/TensorRT-Model-Connect PR 657).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.runtimes.onnx_package import required

PRODUCTS = {"MatMul", "Gemm", "Conv", "DequantizeLinear"}  # the last stands before a product's operand
BETWEEN = {
    "Softmax", "Gelu", "Mul", "Add", "Sub", "Neg", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Concat", "Split",
    "Slice", "Expand", "Gather", "Identity", "Flatten", "Tile", "QuantizeLinear",
}  # fmt: skip
# Inputs of these operators that are positions or shapes, never values of the step
SHAPE_INPUTS = {
    "Reshape": 1, "Unsqueeze": 1, "Squeeze": 1, "Split": 1, "Slice": 1, "Expand": 1, "Gather": 1, "Tile": 1,
}  # fmt: skip
TABLES = ("cos", "sin", "keys")  # keys: 0 and -inf, which every half type holds


class HalfTyper:
    """One pass over a graph in topological order. A value may exist in float32, in half, or in both."""

    def __init__(self, model: Any, half: int):
        import onnx

        self._onnx, self._graph, self._half = onnx, model.graph, half
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._floats = self._float_values(model)
        self._in_half: dict[str, str] = {}
        self._only_half: set[str] = set()
        self._nodes: list[Any] = []
        self._halved: dict[str, Any] = {}
        self.num_half_nodes = 0

    def _float_values(self, model: Any) -> set[str]:
        """Names of every float32 value: what may be cast at all."""
        onnx = self._onnx
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=False, data_prop=False).graph
        typed = [*inferred.input, *inferred.value_info, *inferred.output]
        known = {v.name for v in typed if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
        return known | {t.name for t in self._weights.values() if t.data_type == onnx.TensorProto.FLOAT}

    def run(self) -> None:
        for value in self._graph.input:
            if value.name in TABLES:
                value.type.tensor_type.elem_type = self._half
                self._in_half[value.name] = value.name
                self._only_half.add(value.name)
        for node in list(self._graph.node):
            self._place(node)
        for value in self._graph.output:
            self._need_float(value.name)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        self._drop_unused_weights()
        del self._graph.value_info[:]

    def _place(self, node: Any) -> None:
        values = [i for i, name in enumerate(node.input) if name in self._floats and self._is_value(node, i)]
        between = node.op_type in BETWEEN and values and all(self._has_half(node.input[i]) for i in values)
        moving = any(node.input[i] in self._in_half for i in values)
        if node.op_type in PRODUCTS or (between and moving):
            for i in values:
                node.input[i] = self._need_half(node.input[i])
            self.num_half_nodes += 1
            for name in node.output:
                if name in self._floats:  # int8 is neither
                    self._in_half[name] = name
                    self._only_half.add(name)
        else:
            for i, name in enumerate(node.input):
                if name in self._only_half:
                    node.input[i] = self._need_float(name)
        self._nodes.append(node)

    def _is_value(self, node: Any, position: int) -> bool:
        return position < SHAPE_INPUTS.get(node.op_type, len(node.input))

    def _has_half(self, name: str) -> bool:
        return name in self._in_half or name in self._weights

    def _need_half(self, name: str) -> str:
        if name not in self._in_half:
            if name in self._weights:
                self._in_half[name] = self._halved_weight(name)
            else:
                self._in_half[name] = f"{name}__half"
                self._cast(name, self._in_half[name], self._half)
        return self._in_half[name]

    def _need_float(self, name: str) -> str:
        """The float32 form of a value that was made in half: an output keeps its name."""
        if name not in self._only_half:
            return name
        if name in {value.name for value in self._graph.output}:
            self._rename(name, f"{name}__half")
            self._cast(f"{name}__half", name, self._onnx.TensorProto.FLOAT)
            self._only_half.discard(name)
            return name
        wide = f"{name}__float"
        if all(wide not in node.output for node in self._nodes):
            self._cast(name, wide, self._onnx.TensorProto.FLOAT)
        return wide

    def _rename(self, old: str, new: str) -> None:
        for node in self._nodes:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    if name == old:
                        names[i] = new
        self._in_half[old] = new

    def _cast(self, source: str, target: str, kind: int) -> None:
        self._nodes.append(self._onnx.helper.make_node("Cast", [source], [target], to=kind, name=f"cast_{target}"))

    def _halved_weight(self, name: str) -> str:
        import torch

        onnx = self._onnx
        dtype = torch.float16 if self._half == onnx.TensorProto.FLOAT16 else torch.bfloat16
        # Through torch, which rounds to nearest even; numpy has no bfloat16
        values = torch.from_numpy(onnx.numpy_helper.to_array(self._weights[name]).copy()).to(dtype).contiguous()
        raw = values.view(torch.int16).numpy().tobytes()
        new = f"{name}__half"
        self._halved[new] = onnx.helper.make_tensor(new, self._half, list(values.shape), raw, raw=True)
        return new

    def _drop_unused_weights(self) -> None:
        used = {name for node in self._nodes for name in node.input}
        kept = [tensor for name, tensor in self._weights.items() if name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend([*kept, *self._halved.values()])


def typed(source: Path, target: Path, precision: str) -> Path:
    """Writes `source` (float32) as a fp16 or bf16 graph. Raises UnsupportedEngine where onnx is missing."""
    onnx = required("onnx")
    model = onnx.load(str(source))
    to_half(model, precision)
    onnx.checker.check_model(model)
    onnx.save(model, str(target))
    return target


def to_half(model: Any, precision: str) -> None:
    """The float32 model with its products in fp16 or bf16, in place."""
    import onnx

    typer = HalfTyper(model, onnx.TensorProto.FLOAT16 if precision == "fp16" else onnx.TensorProto.BFLOAT16)
    typer.run()
    if precision == "bf16":
        # The first whose convolution knows bfloat16; nothing else in the graph differs from the exported opset
        for opset in model.opset_import:
            opset.version = 22 if opset.domain in ("", "ai.onnx") else opset.version
