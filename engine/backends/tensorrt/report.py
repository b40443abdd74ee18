"""What TensorRT-RTX's builder says of the plan that it made, as it builds: layers with the types of their operands,
inputs and outputs with the shapes of every profile. It is what the engine inspector tells, and needs no device.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.backends.tensorrt.plan_file import FUSED_ATTENTION
from engine.contract import UnsupportedEngine

HEAD = "Layers:"  # first line of the message, which is the builder's last but few
LAYER = re.compile(
    r"^Name: (?P<name>.+?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], Constants: \[(?P<constants>.*?)\], "
    r"Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<tactic>.*?), StreamId"
)
TENSOR = re.compile(r"^ *Name: (?P<name>.+?), IOMode: (?P<mode>\w+), DataType: (?P<kind>\w+), ")
SHAPES = re.compile(r"MinShape: \[([\d,]+)\], OptShape: \[([\d,]+)\], MaxShape: \[([\d,]+)\]")
PROFILE = re.compile(r"_myl(\d+)(?:_|$)")

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One kernel of one profile. inputs, weights, outputs: their types, as the builder calls them (Half, BFloat16,
    Float, Int8, ...), weights without single numbers; kind: kgen, gemm, runtime_fusion, correlation, ..."""

    name: str
    kind: str
    profile: int
    inputs: tuple[str, ...]
    weights: tuple[str, ...]
    outputs: tuple[str, ...]
    tactic: str

    @property
    def is_product(self) -> bool:
        """A matrix product or a convolution with weights."""
        return self.kind in ("gemm", "runtime_fusion", "correlation") and bool(self.weights)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """An input or output. profiles: least, tuned and greatest shape for each; none of an output's are said."""

    mode: str
    kind: str
    profiles: tuple[tuple[Shape, Shape, Shape], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanReport:
    layers: tuple[Layer, ...]
    tensors: Mapping[str, Tensor]

    def counts(self) -> dict[str, int]:
        """What a plan is held against, of the profile that has least of it: fused attention, and products of int8 by
        int8 (which kernel computes them is chosen on the device)."""
        profiles = sorted({layer.profile for layer in self.layers})
        return {
            "fused_attention": min((sum(map(_is_fused, self.of(i))) for i in profiles), default=0),
            "int8_products": min((sum(map(_is_int8, self.of(i))) for i in profiles), default=0),
        }

    def of(self, profile: int) -> list[Layer]:
        return [layer for layer in self.layers if layer.profile == profile]


def _is_fused(layer: Layer) -> bool:
    return any(word in f"{layer.name} {layer.tactic}".lower() for word in FUSED_ATTENTION)


def _is_int8(layer: Layer) -> bool:
    return layer.is_product and layer.inputs[:1] == ("Int8",) and layer.weights[:1] == ("Int8",)


def parsed(said: Sequence[str]) -> PlanReport:
    """Of the builder's messages. Raises UnsupportedEngine where it did not describe its plan."""
    text = next((message for message in reversed(said) if message.startswith(HEAD)), "")
    lines = text.splitlines()
    layers = tuple(_layers(lines))
    found = [(match, line) for line in lines if (match := TENSOR.match(line))]
    if not layers or not found:
        raise UnsupportedEngine(
            "TensorRT-RTX built a plan and did not say what is in it", "use the versions of constraints.txt"
        )
    tensors = {
        match["name"]: Tensor(mode=match["mode"], kind=match["kind"], profiles=_profiles(line)) for match, line in found
    }
    return PlanReport(layers=layers, tensors=tensors)


def _layers(lines: Sequence[str]) -> Iterator[Layer]:
    for line in lines:
        match = LAYER.match(line)
        if match:
            profile = PROFILE.search(match["name"])
            yield Layer(
                name=match["name"], kind=match["kind"], profile=int(profile[1]) if profile else 0,
                inputs=_types(match["inputs"]), weights=_types(match["constants"], arrays=True),
                outputs=_types(match["outputs"]), tactic=match["tactic"],
            )  # fmt: skip


def _types(operands: str, arrays: bool = False) -> tuple[str, ...]:
    """arrays: without those of one element."""
    found = re.findall(r"Dimensions: \[([-\d,]*)\].*?Datatype: (\w+)", operands)
    return tuple(kind for dimensions, kind in found if not arrays or set(dimensions) - set("1,"))


def _profiles(line: str) -> tuple[tuple[Shape, Shape, Shape], ...]:
    def shape(text: str) -> Shape:
        return tuple(map(int, text.split(",")))

    return tuple((shape(least), shape(tuned), shape(most)) for least, tuned, most in SHAPES.findall(line))


@dataclass(slots=True)
class Said:
    """What a builder has said so far, and what of it was an error."""

    messages: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def listening(trt: Any, said: Said) -> Any:
    """A logger that keeps every message, and shows warnings on stderr; errors are for the refusal."""
    base: Any = trt.ILogger
    worst = trt.ILogger.Severity

    class Listening(base):
        def __init__(self) -> None:
            base.__init__(self)  # the binding asks for its own constructor by name

        def log(self, severity: Any, message: str) -> None:
            said.messages.append(message)
            if severity.value <= worst.ERROR.value:
                said.errors.append(" ".join(message.split()))
            elif severity == worst.WARNING:
                print(f"TensorRT-RTX: {message}", file=sys.stderr)

    return Listening()
