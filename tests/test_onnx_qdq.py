"""INT8 for TensorRT as far as no TensorRT is needed: the graph's form, its answer in ONNX Runtime, what is refused."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import engine.backends.tensorrt.calibrated as calibrating
from engine.backends.onnx.quantization import checked_calibration
from engine.backends.tensorrt.calibrated import Int8Form, int8_graph
from engine.backends.tensorrt.check import check_plan
from engine.backends.tensorrt.denoiser import TensorRTDenoiser
from engine.backends.tensorrt.plan import exported
from engine.backends.tensorrt.plan_file import PlanIdentity
from engine.backends.tensorrt.qdq import layer_ranges, layers_in_int8, quantize
from engine.backends.tensorrt.typed import to_half
from engine.clock import HostClock
from engine.context import Build, Context, Materials, assemble, materials
from engine.contract import UnsupportedEngine
from engine.runtimes.profiles import profiles_of
from engine.solver.methods import solver_spec
from engine.solver.sampler import StepSampler
from engine.step.examples import run_step
from engine.step.inputs import Feeds
from tests.engines import config, engine, request

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

# Relative L2 of a step against float32 on recorded inputs: 0.007 to 0.016 found; a plan's check allows 0.1
MEASURED = 0.04
SENTENCES = ["Turn left.", "That was close.", "Now?", "Look at the sea!"]  # short: recording takes most of the time
HALVES = {"fp16": 10, "bf16": 16}


@pytest.fixture(scope="module")
def made() -> tuple[Context, Materials]:
    composed = config("engine=tensorrt_int8", "solver=euler_6")
    composed["reference"]["voices"] = composed["reference"]["voices"][:1]
    context = Context(composed, solver_spec(composed["solver"]), HostClock())
    return context, materials(context)


@pytest.fixture(scope="module")
def float32(made: tuple[Context, Materials]) -> Path:
    _, parts = made
    return exported(parts.step, parts.model.sha256, parts.arch, "fp32", masked=False)


def form_of(context: Context, *float_layers: str, masked: bool = False) -> Int8Form:
    calibration, depth = context.config["engine"]["calibration"], context.config["model"]["arch"]["depth"]
    return Int8Form(
        precision="int8_fp16", layers=layers_in_int8(depth, float_layers), masked=masked,
        calibration=checked_calibration({**calibration, "sentences": SENTENCES}),
    )  # fmt: skip


def quantized(path: Path, layers: tuple[str, ...], precision: str) -> Any:
    """The graph with made-up ranges: its form does not depend on them."""
    model = onnx.load(str(path))
    quantize(model, {layer: 3.0 + i for i, layer in enumerate(layers)}, precision)
    to_half(model, precision)
    return model


def constants_of(model: Any) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def as_float(tensor: Any) -> np.ndarray:
    return np.asarray(onnx.numpy_helper.to_array(tensor)).astype(np.float32)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_every_linear_layer_has_the_form_that_tensorrt_takes(
    made: tuple[Context, Materials], float32: Path, precision: str
) -> None:
    _, parts = made
    layers = layers_in_int8(parts.arch.depth, ["proj_out"])
    assert len(layers) == 4 * parts.arch.depth == 24
    model = quantized(float32, layers, precision)
    onnx.checker.check_model(model, full_check=True)
    graph, constants, half = model.graph, constants_of(model), HALVES[precision]
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    types = {v.name: v.type.tensor_type.elem_type for v in [*inferred.input, *inferred.value_info, *inferred.output]}
    maker = {name: node for node in graph.node for name in node.output}
    reader = {name: node for node in graph.node for name in node.input}
    for i, layer in enumerate(layers):
        product = next(node for node in graph.node if node.name == layer)
        assert product.op_type == "MatMul"
        x, w = (maker[name] for name in product.input)
        assert (x.op_type, w.op_type) == ("DequantizeLinear", "DequantizeLinear")
        rounded = maker[x.input[0]]
        assert rounded.op_type == "QuantizeLinear"
        for node in (rounded, x):
            scale, zero = constants[node.input[1]], constants[node.input[2]]
            assert (list(scale.dims), list(zero.dims)) == ([], []), "one scale for the activation"
            assert zero.data_type == onnx.TensorProto.INT8
            assert as_float(zero) == 0
            assert (3.0 + i) / 127 <= as_float(scale) <= (3.0 + i) / 127 * 1.01
        assert as_float(constants[rounded.input[1]]) == as_float(constants[x.input[1]]), "rounded in neither of the two"
        assert constants[rounded.input[1]].data_type == types[rounded.input[0]]
        assert types[x.input[0]] == onnx.TensorProto.INT8
        assert constants[x.input[1]].data_type == constants[w.input[1]].data_type == half
        assert types[x.output[0]] == types[w.output[0]] == types[product.output[0]] == half
        stored, scale, zeros = (as_float(constants[name]) for name in w.input)
        weight = parts.step.get_submodule(layer).weight.detach().numpy().T  # (K, M), as MatMul has it
        assert constants[w.input[0]].data_type == constants[w.input[2]].data_type == onnx.TensorProto.INT8
        assert [a.i for a in w.attribute if a.name == "axis"] == [1], "the output channels"
        assert scale.shape == zeros.shape == (weight.shape[1],)
        assert not zeros.any()
        assert np.abs(stored).max(axis=0).min() >= 126, "every channel uses its own range"
        assert np.abs(stored).max() <= 127
        assert np.abs(stored * scale - weight).max(axis=0) == pytest.approx(0, abs=float(scale.max()) * 0.5001)
        added = reader[product.output[0]]
        assert added.op_type == "Add"
        bias = next(constants[name] for name in added.input if name in constants)
        assert bias.data_type == half
    operators = [node.op_type for node in graph.node]
    assert operators.count("QuantizeLinear") == 24
    assert operators.count("DequantizeLinear") == 48


def test_norms_are_quantised_from_float32_and_what_is_half_from_half(
    made: tuple[Context, Materials], float32: Path
) -> None:
    model = quantized(float32, layers_in_int8(made[1].arch.depth, ["proj_out"]), "bf16")
    maker = {name: node.op_type for node in model.graph.node for name in node.output}
    before = {node.input[0]: maker[node.input[0]] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert sorted(before.values()) == ["Gelu"] * 6 + ["LayerNormalization"] * 12 + ["Reshape"] * 6


def test_float_layers_keep_their_weights(made: tuple[Context, Materials], float32: Path) -> None:
    layers = layers_in_int8(made[1].arch.depth, ["proj_out", "blocks.*.ff_out", "blocks.0.*"])
    model = quantized(float32, layers, "fp16")
    constants = constants_of(model)
    whole = [
        constants[node.input[1]].data_type
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in constants
    ]
    assert len(layers) == 15
    assert whole == [onnx.TensorProto.FLOAT16] * (2 + 9), "x's projection, the last layer, and those named"
    assert sum(node.op_type == "QuantizeLinear" for node in model.graph.node) == 15


Examples = Callable[[int], list[Feeds]]


@pytest.fixture(scope="module")
def calibrated(made: tuple[Context, Materials]) -> tuple[Path, Examples]:
    path, examples_at = int8_graph(*made, form_of(made[0], "proj_out"))
    return path, lambda num_frames: list(examples_at(num_frames))


def runner(path: Path) -> Callable[[Mapping[str, torch.Tensor]], torch.Tensor]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    half = {value.name for value in session.get_inputs() if value.type == "tensor(float16)"}
    assert half - {"keys"} == {"cos", "sin"}

    def run(feeds: Mapping[str, torch.Tensor]) -> torch.Tensor:
        placed = {name: (value.half() if name in half else value).numpy() for name, value in feeds.items()}
        return torch.from_numpy(session.run(["velocity"], placed)[0])

    return run


@pytest.mark.parametrize("frames", [33, 150, 401])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_calibrated_graph_gives_the_float_steps_answer(
    made: tuple[Context, Materials], calibrated: tuple[Path, Examples], frames: int, groups: int
) -> None:
    """Three lengths, guidance on and off, at the first, a middle and the last evaluation of a sentence."""
    path, examples_at = calibrated
    run, errors = runner(path), []
    for given_ in examples_at(frames):
        feeds = {n: v[:groups] if n in ("projected", "convolved") else v for n, v in given_.items()}
        found, expected = run(feeds), run_step(made[1].step, feeds)
        assert found.shape == expected.shape == (groups, 1, frames, 100)
        errors.append(float((found - expected).norm() / expected.norm()))
    assert len(errors) == 3
    assert 1e-3 < max(errors) < MEASURED


class GraphAsPlan:
    """What engine.backends.tensorrt.denoiser.PlanRunner offers, by ONNX Runtime."""

    def __init__(self, path: Path):
        self._run, self.enqueues, self.profiles = runner(path), 0, []

    def use_profile(self, index: int) -> None:
        self.profiles.append(index)

    def place(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.contiguous()

    def __call__(self, feeds: Mapping[str, torch.Tensor]) -> torch.Tensor:
        self.enqueues += 1
        return self._run(feeds)


@pytest.mark.parametrize("strength", [2.0, 0.0])
def test_a_sentence_through_the_plans_denoiser_stays_near_the_oracle(
    made: tuple[Context, Materials], calibrated: tuple[Path, Examples], strength: float
) -> None:
    """The engine contract's bound, which is skipped where there is no TensorRT: all of it but TensorRT itself."""
    solver, (context, parts) = ("solver=euler_6", f"solver.cfg_strength={strength}"), made
    identity = PlanIdentity(
        onnx_sha256="", precision="int8_fp16", profiles=profiles_of([[64, 100, 150], [151, 300, 2048]]), max_batch=1,
        groups=2 if strength else 1, workspace_bytes=0, tensorrt_version="", compute_capability="",
    )  # fmt: skip
    context = Context(context.config, solver_spec(config(*solver)["solver"]), HostClock())
    plan = GraphAsPlan(calibrated[0])
    denoiser = TensorRTDenoiser(plan, identity, parts.arch, parts.tables, {"plan": "none"})
    build = Build(name="tensorrt_int8", denoiser="tensorrt", precision="int8", step_bytes=0, max_batch=1)
    ask = request("Turn left at the bridge.")
    with assemble(context, parts, StepSampler(denoiser, context.solver), build) as ours:
        mine = ours.synthesize([ask])[0]
        proof = ours.facts.proof
    with engine("engine=fp32", *solver) as oracle:
        difference = np.abs(mine.mel_ND - oracle.synthesize([ask])[0].mel_ND).mean()
    assert (proof["num_evals"], proof["tensorrt_enqueues"], plan.profiles) == (6, 6, [1])
    assert 1e-4 < difference < 0.1, "nats of log-mel; the contract allows 0.15"


def test_the_bfloat16_form_gives_it_too_by_the_definition_of_onnx(
    made: tuple[Context, Materials], calibrated: tuple[Path, Examples], float32: Path
) -> None:
    """ONNX Runtime has no bfloat16 kernels on a CPU; onnx's own evaluator has."""
    import ml_dtypes
    from onnx.reference import ReferenceEvaluator

    step, feeds = made[1].step, calibrated[1](33)[1]
    model = onnx.load(str(float32))
    quantize(model, layer_ranges(step, [feeds], layers_in_int8(made[1].arch.depth, ["proj_out"]), "minmax"), "bf16")
    to_half(model, "bf16")
    placed = {name: value.numpy() for name, value in feeds.items()}
    placed |= {name: placed[name].astype(ml_dtypes.bfloat16) for name in ("cos", "sin")}
    (found,) = ReferenceEvaluator(model).run(None, placed)
    expected = run_step(step, feeds)
    assert 1e-3 < (torch.from_numpy(found) - expected).norm() / expected.norm() < MEASURED


def test_the_plans_check_takes_it_on_recorded_inputs_and_not_a_wrong_one(
    made: tuple[Context, Materials], calibrated: tuple[Path, Examples], tmp_path: Path
) -> None:
    path, examples_at = calibrated
    profiles = profiles_of([[64, 100, 200]])
    rows = check_plan(runner(path), made[1].step, profiles, examples_at, "int8_fp16")
    assert list(rows) == ["64", "100", "200"]
    model = onnx.load(str(path))
    scale = next(t for t in model.graph.initializer if t.name == "blocks.2.ff_in.x_scale")
    scale.CopyFrom(onnx.numpy_helper.from_array(as_float(scale) / 8, scale.name))
    onnx.save(model, str(tmp_path / "clipped.onnx"))
    with pytest.raises(UnsupportedEngine, match=r"the built plan is wrong at 64 frames: relative error 0\.[2-9]"):
        check_plan(runner(tmp_path / "clipped.onnx"), made[1].step, profiles, examples_at, "int8_fp16")


def test_a_form_is_made_once_and_any_other_anew(
    made: tuple[Context, Materials], calibrated: tuple[Path, Examples], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise LookupError

    monkeypatch.setattr(calibrating, "_make", refuse)
    context, parts = made
    form = form_of(context, "proj_out")
    assert int8_graph(context, parts, form)[0] == calibrated[0]
    said = form.calibration
    others = (
        form_of(context, "proj_out", "blocks.*.ff_out"), replace(form, precision="int8_bf16"),
        replace(form, calibration=replace(said, method="entropy")),
        replace(form, calibration=replace(said, sentences=(*said.sentences, "One more."))),
    )  # fmt: skip
    for other in others:
        with pytest.raises(LookupError):
            int8_graph(context, parts, other)
    for solver in (["solver=euler_16"], ["solver=euler_6", "solver.guidance_interval=[0,0.5]"]):
        other_path = Context(context.config, solver_spec(config(*solver)["solver"]), HostClock())
        with pytest.raises(LookupError):
            int8_graph(other_path, parts, form)


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_other_methods_cut_the_range_and_print_nothing_as_a_result(
    made: tuple[Context, Materials], calibrated: tuple[Path, Examples], method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    step, feeds = made[1].step, calibrated[1](150)
    whole = layer_ranges(step, feeds, ("blocks.0.qkv", "blocks.5.ff_out"), "minmax")
    cut = layer_ranges(step, feeds, ("blocks.0.qkv", "blocks.5.ff_out"), method)
    assert all(0 < cut[layer] <= whole[layer] * 1.001 for layer in whole)
    assert capsys.readouterr().out == ""
