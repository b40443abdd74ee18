"""The int8 graph of Kokoro with its weights in float32 again: what its own dynamic quantisation costs, and a float
reference of the very same weights.

ONNX Runtime's dynamic quantiser wrote ConvInteger, MatMulInteger and DynamicQuantizeLSTM around every float product.
Each is put back as the float operator, with the weights (quantised - zero point) * scale; activations are then not
rounded at all. What its rounding did to the weights stays: this is not the model before it was quantised.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from engine.contract import UnsupportedEngine
from engine.runtimes.onnx_package import required

LSTM_ATTRIBUTES = ("direction", "hidden_size", "input_forget")


def dequantised(source: Path, target: Path) -> None:
    """Raises UnsupportedEngine for a graph that was quantised in another way."""
    onnx = required("onnx")
    model = onnx.load(str(source))
    graph = Graph(model.graph)
    graph.put_back()
    graph.finish()
    onnx.save(model, str(target))


class Graph:
    """An onnx GraphProto with its producers and consumers looked up by name."""

    def __init__(self, graph: Any):
        self._graph = graph
        self._nodes = list(graph.node)
        self._in_place_of: dict[int, Any] = {}  # by the identity of the node before
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._producers = {name: node for node in self._nodes for name in node.output}
        self._consumers: dict[str, list[Any]] = {}
        for node in self._nodes:
            for name in node.input:
                self._consumers.setdefault(name, []).append(node)

    def put_back(self) -> None:
        """Every integer product and LSTM as its float operator. Raises UnsupportedEngine."""
        for node in self._nodes:
            if node.op_type in ("ConvInteger", "MatMulInteger"):
                self._put_back_product(node)
            elif node.op_type == "DynamicQuantizeLSTM":
                self._put_back_lstm(node)

    def _put_back_product(self, node: Any) -> None:
        """Integer product [-> Add of a bias in its unit] -> Cast -> Mul by both scales becomes Conv or MatMul."""
        onnx = required("onnx")
        quantised = self._producers[node.input[0]]
        after, bias = self._only_consumer(node), None
        if after.op_type == "Add":
            bias = self._float_behind(next(name for name in after.input if name not in node.output))
            after = self._only_consumer(after)
        scaled = self._only_consumer(after)
        if (quantised.op_type, after.op_type, scaled.op_type) != ("DynamicQuantizeLinear", "Cast", "Mul"):
            raise _unknown(node)
        by = self._producers[next(name for name in scaled.input if name not in after.output)]
        scale = self._constant(next(name for name in by.input if name in self._constants))
        zero = self._constant(node.input[3]) if len(node.input) > 3 else np.zeros(())
        weights = self._add_constant(f"{node.input[1]}.float32", _weights(self._constant(node.input[1]), zero, scale))
        inputs = [quantised.input[0], weights, *([bias] if bias is not None else [])]
        kind = node.op_type.removesuffix("Integer")
        made = onnx.helper.make_node(kind, inputs, list(scaled.output), name=f"{node.name}.float32")
        made.attribute.extend(node.attribute)
        self._in_place_of[id(scaled)] = made

    def _put_back_lstm(self, node: Any) -> None:
        """The same inputs, with W and R as ONNX's LSTM takes them: (directions, 4 * hidden, size)."""
        onnx = required("onnx")
        named = list(node.input)
        inputs = named[:8]
        for place, scale, zero in ((1, 8, 9), (2, 10, 11)):
            scales, zeros = (self._constant(named[at])[:, None, None] for at in (scale, zero))
            values = _weights(self._constant(named[place]), zeros, scales).transpose(0, 2, 1)
            inputs[place] = self._add_constant(f"{named[place]}.float32", np.ascontiguousarray(values))
        made = onnx.helper.make_node("LSTM", inputs, list(node.output), name=f"{node.name}.float32")
        made.attribute.extend(one for one in node.attribute if one.name in LSTM_ATTRIBUTES)
        self._in_place_of[id(node)] = made

    def finish(self) -> None:
        """Writes the nodes back, without those, and the constants, that no output hangs on."""
        nodes = [self._in_place_of.get(id(node), node) for node in self._nodes]
        producers = {name: node for node in nodes for name in node.output}
        waiting, used = [one.name for one in self._graph.output], set()
        while waiting:
            name = waiting.pop()
            if name not in used:
                used.add(name)
                waiting += producers[name].input if name in producers else ()
        kept = [node for node in nodes if used & set(node.output)]
        constants = [tensor for tensor in self._graph.initializer if tensor.name in used]
        for field, entries in ((self._graph.node, kept), (self._graph.initializer, constants)):
            copies = [type(entry).FromString(entry.SerializeToString()) for entry in entries]
            del field[:]
            field.extend(copies)

    def _only_consumer(self, node: Any) -> Any:
        found = self._consumers.get(node.output[0], [])
        if len(found) != 1:
            raise _unknown(node)
        return found[0]

    def _float_behind(self, name: str) -> str:
        """The float constant that a bias was rounded from."""
        return next(self._floats_behind(name))

    def _floats_behind(self, name: str) -> Iterator[str]:
        if name in self._constants:
            if self._constants[name].data_type == 1 and len(self._constants[name].dims) == 1:
                yield name
        elif name in self._producers:
            for source in self._producers[name].input[:1]:
                yield from self._floats_behind(source)

    def _constant(self, name: str) -> np.ndarray:
        return np.asarray(required("onnx").numpy_helper.to_array(self._constants[name]))

    def _add_constant(self, name: str, values: np.ndarray) -> str:
        if name not in self._constants:
            tensor = required("onnx").numpy_helper.from_array(values, name)
            self._graph.initializer.append(tensor)
            self._constants[name] = self._graph.initializer[-1]
        return name


def _weights(quantised: np.ndarray, zero: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return ((quantised.astype(np.float32) - zero.astype(np.float32)) * scale).astype(np.float32)


def _unknown(node: Any) -> UnsupportedEngine:
    return UnsupportedEngine(
        f"{node.op_type} {node.name} stands in no form that ONNX Runtime's dynamic quantisation has",
        "use the float file of Kokoro as model.checkpoint, or engine=kokoro",
    )
