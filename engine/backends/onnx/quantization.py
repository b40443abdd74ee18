"""INT8 post-training quantisation of the exported step (ONNX Runtime's tools).

Static: weights per output channel in int8, activations in uint8 on ranges seen over all steps of the grid, both
guidance rows and several sentences (AdaLN makes the ranges a function of t). Dynamic: activations per call. Attention,
norms and the first and last projections stay float32; the convolutions compute in float32 from int8 weights, for the
file's size.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.cache import cached_folder, source_sha256
from engine.contract import ConfigError, UnsupportedEngine
from engine.cpu import cpu_sha256
from engine.runtimes.onnx_package import versions
from engine.settings import CalibrationSettings, EngineConfig
from engine.weights.checkpoint import content_sha256, locate

if TYPE_CHECKING:
    from engine.runtimes.onnx_session import SessionSettings
    from engine.solver.methods import SolverSpec
    from engine.step.inputs import Feeds

MIN_SENTENCES = 4
METHODS = ("minmax", "percentile", "entropy")
# Modules that decide what a recording holds (engine.backends.onnx.build.record_feeds); a test walks one
RECORDING = (
    "engine.step.attention", "engine.step.batching", "engine.context", "engine.weights.checkpoint",
    "engine.speaking", "engine.text.chunks",
    "engine.step.conditioner", "engine.backends.eager.denoiser", "engine.backends.onnx.build", "engine.solver.fitted",
    "engine.step.tables", "engine.frontend", "engine.solver.grid", "engine.solver.guidance", "engine.step.kept",
    "engine.mel", "engine.noise", "engine.step.packed", "engine.paths", "engine.pipeline", "engine.solver.plan",
    "engine.step.precision", "engine.solver.reuse", "engine.solver.sampler", "engine.solver.methods",
    "engine.step.dit", "engine.step.inputs", "engine.step.placed", "engine.weights.vocabulary", "engine.voice.clip",
    "engine.voice.ffmpeg",
    "engine.voice.preparation", "engine.voice.recording", "engine.voice.resampling", "engine.weights.compact",
    "engine.weights.file", "engine.weights.fit", "engine.weights.shapes",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """sentences: spoken by every voice of the reference group at the solver's own steps. method: how a range is taken
    from what was seen."""

    sentences: tuple[str, ...]
    method: str = "minmax"

    def check(self) -> None:
        if len(self.sentences) < MIN_SENTENCES:
            raise ConfigError(
                "engine.calibration.sentences", f"{len(self.sentences)} sentences",
                f"at least {MIN_SENTENCES} are needed for ranges that hold for others", "add sentences",
            )  # fmt: skip
        if self.method not in METHODS:
            raise ConfigError(
                "engine.calibration.method", self.method, f"must be one of {', '.join(METHODS)}", "use minmax"
            )

    def identity(self, config: EngineConfig, solver: SolverSpec) -> dict[str, Any]:
        """What the recorded ranges depend on beside the weights."""
        import torch

        reference, model = config["reference"], config["model"]
        voices = [
            (content_sha256(locate("reference.voices", voice["audio"])), voice["text"]) for voice in reference["voices"]
        ]
        return {
            "sentences": self.sentences, "voices": voices, "prepare": dict(reference["prepare"]),
            "times": tuple(solver.evaluation_times),
            "cfg_strength": solver.cfg_strength, "solver_method": solver.method, "solver_options": solver.options(),
            "target_rms": reference["target_rms"], "vocabulary": content_sha256(locate("model.vocab", model["vocab"])),
            "mel": {key: model[key] for key in ("mel_spec_type", "mel_bins", "sample_rate_hz", "hop_samples")},
            "recorded_by": source_sha256(*RECORDING), "recorded_with": versions("torch", "torchaudio"),
            # A float32 sum's last bits are those of the processor and of how it is split over threads
            "recorded_on": {"cpu": cpu_sha256(), "threads": torch.get_num_threads()},
        }  # fmt: skip


def calibration_of(given: CalibrationSettings | None) -> Calibration | None:
    """The YAML's `calibration` key; None: dynamic."""
    return None if given is None else checked_calibration(given)


def checked_calibration(given: CalibrationSettings | None) -> Calibration:
    """The same where nothing else is built. Raises ConfigError."""
    if given is None:
        raise ConfigError("engine.calibration", None, "must be sentences and a method", "use engine=onnx_int8_dynamic")
    for key, value in given.items():
        if key not in ("sentences", "method"):
            raise ConfigError(f"engine.calibration.{key}", value, "is not known (sentences, method)", "remove it")
    plan = Calibration(sentences=tuple(given.get("sentences") or ()), method=given.get("method", "minmax"))
    plan.check()
    return plan


class FeedReader:
    """onnxruntime.quantization's reader over recorded inputs of the step."""

    def __init__(self, feeds: Sequence[Feeds]):
        self._feeds = feeds
        self._next = iter(feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        feeds = next(self._next, None)
        return None if feeds is None else {name: value.numpy() for name, value in feeds.items()}

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        while (feeds := self.get_next()) is not None:
            yield feeds

    def __len__(self) -> int:
        return len(self._feeds)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._next = iter(self._feeds[start_index:end_index])


def quantized(
    graph: Path,
    identity: Mapping[str, object],
    float_layers: Sequence[str],
    feeds: Callable[[], list[Feeds]] | None,
    method: str,
) -> Path:
    """The INT8 form of an exported step, made once: static where `feeds` gives inputs of
    it to calibrate on, else dynamic."""
    parts = {
        **identity, "graph": content_sha256(graph), "float_layers": list(float_layers), "method": method,
        "static": feeds is not None, "code": source_sha256("engine.backends.onnx.quantization"),
        "versions": versions("onnx", "onnxruntime"),
    }  # fmt: skip

    def make(folder: Path) -> None:
        excluded = [*float_nodes(graph, float_layers), *unbiased_nodes(graph)]
        if feeds is None:
            _dynamic(graph, folder / "step.onnx", excluded)
        else:
            _static(graph, folder / "step.onnx", excluded, FeedReader(feeds()), method)
        store_convolutions_in_int8(folder / "step.onnx")

    return cached_folder("onnx_int8", parts, make) / "step.onnx"


def float_nodes(graph: Path, patterns: Sequence[str]) -> list[str]:
    """Names of the Gemm nodes that stay float. Raises ConfigError for a pattern that names none."""
    return sorted(named_by(patterns, _nodes(graph, "Gemm")))


def int8_nodes(graph: Path, patterns: Sequence[str]) -> list[str]:
    """The others. Raises ConfigError also where none is left."""
    names = _nodes(graph, "Gemm")
    kept = named_by(patterns, names)
    left = [name for name in names if name not in kept]
    if not left:
        raise ConfigError("engine.float_layers", list(patterns), "leaves no layer in int8", "use engine=onnx")
    return left


def _nodes(graph: Path, op: str) -> list[str]:
    import onnx

    return [n.name for n in onnx.load(str(graph), load_external_data=False).graph.node if n.op_type == op]


def named_by(patterns: Sequence[str], names: Sequence[str]) -> set[str]:
    """The linear layers that `engine.float_layers` names. Raises ConfigError for a pattern that names none."""
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ConfigError(
                "engine.float_layers",
                pattern,
                f"names no linear layer ({', '.join(names[:5])}, ...)",
                "see blocks.*.qkv",
            )
    return {name for pattern in patterns for name in fnmatch.filter(names, pattern)}


def unbiased_nodes(graph: Path) -> list[str]:
    """The products that are no linear layer of a block: the projection of x."""
    return _nodes(graph, "MatMul")


def _static(graph: Path, out: Path, excluded: list[str], reader: FeedReader, method: str) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    methods = {
        "minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }  # fmt: skip
    quantize_static(
        str(graph), str(out), reader, quant_format=QuantFormat.QDQ, op_types_to_quantize=["Gemm"], per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_exclude=excluded,
        use_external_data_format=_large(graph), calibrate_method=methods[method],
        extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"], "WeightSymmetric": True, "DefaultTensorType": 1},
    )  # fmt: skip


def _dynamic(graph: Path, out: Path, excluded: list[str]) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        str(graph), str(out), op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8,
        nodes_to_exclude=[*excluded, *(f"{name}_MatMul" for name in excluded)], use_external_data_format=_large(graph),
        extra_options={"WeightSymmetric": True, "MatMulConstBOnly": True, "DefaultTensorType": 1},
    )  # fmt: skip


def _large(graph: Path) -> bool:
    from engine.runtimes.onnx_session import EXTERNAL_ABOVE_BYTES, file_bytes

    return file_bytes(graph) > EXTERNAL_ABOVE_BYTES


def store_convolutions_in_int8(path: Path) -> None:
    """Weights of Conv nodes -> int8 per output channel and a DequantizeLinear before the node."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(path))
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[1] in tensors:
            name, weight = node.input[1], numpy_helper.to_array(tensors[node.input[1]])
            scale = np.maximum(np.abs(weight).max(axis=(1, 2)), 1e-12).astype(np.float32) / 127
            stored = np.rint(weight / scale[:, None, None]).astype(np.int8)
            model.graph.initializer.remove(tensors[name])
            model.graph.initializer.extend(
                [
                    numpy_helper.from_array(stored, f"{name}.int8"), numpy_helper.from_array(scale, f"{name}.scale"),
                    numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{name}.zero"),
                ]
            )  # fmt: skip
            parts = [f"{name}.int8", f"{name}.scale", f"{name}.zero"]
            nodes.append(helper.make_node("DequantizeLinear", parts, [name], axis=0))
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(path), save_as_external_data=False)


def int8_products(settings: SessionSettings) -> str:
    """ "exact" or "saturating": 64 products of 255 with 127 summed by a session of these settings on this machine.

    Without VNNI, x86 CPUs add pairs of products in 16 bits (VPMADDUBSW), where 2 x 255 x 127 does not fit.
    """
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    from engine.runtimes.onnx_session import session_options

    num = 64
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])], "products",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [4, num])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [4, 16])],
        [numpy_helper.from_array(np.full((num, 16), 127, np.int8), "b")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(settings, "all"), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"a": np.full((4, num), 255, np.uint8)})
    return "exact" if bool((found == num * 255 * 127).all()) else "saturating"


def refuse_unquantized(count: int, expected: int) -> None:
    if count < expected:
        raise UnsupportedEngine(
            f"{count} linear layers run in int8, {expected} were asked for",
            "use the onnxruntime of constraints.txt, or engine=onnx",
        )
