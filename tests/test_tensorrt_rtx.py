"""Plans built by NVIDIA's own parser and builder, without a GPU: what is in them, what is refused, what is kept."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
trt = pytest.importorskip("tensorrt_rtx_bindings")

from engine.backends.tensorrt import plan as planning  # noqa: E402
from engine.backends.tensorrt.plan import Built, build_plan, exported, step_shapes  # noqa: E402
from engine.backends.tensorrt.plan_file import PlanIdentity, described, read_plan  # noqa: E402
from engine.backends.tensorrt.qdq import layers_in_int8, quantize  # noqa: E402
from engine.backends.tensorrt.report import PlanReport  # noqa: E402
from engine.backends.tensorrt.rtx import refuse_invalid  # noqa: E402
from engine.backends.tensorrt.typed import to_half  # noqa: E402
from engine.clock import HostClock  # noqa: E402
from engine.context import Context, Materials, materials  # noqa: E402
from engine.contract import UnsupportedEngine  # noqa: E402
from engine.runtimes.profiles import profiles_of  # noqa: E402
from engine.solver.methods import solver_spec  # noqa: E402
from experiments import export  # noqa: E402
from experiments.common.cli import run_verb  # noqa: E402
from tests.engines import WIDE, config  # noqa: E402

MODELS = {"pocket": (), "wide": WIDE}
# The presets' two profiles where it is asked after them; elsewhere one, which takes half the time
BOTH, ONE = [[64, 563, 750], [751, 1406, 2048]], [[64, 1406, 2048]]
TWO_PROFILES = [("pocket", "bf16", False), ("pocket", "int8_fp16", True)]
TYPES = {"fp32": "Float", "fp16": "Half", "bf16": "BFloat16", "int8_fp16": "Half"}
BATCH = 3


@cache
def made(model: str) -> Materials:
    composed = config("engine=tensorrt_rtx_bf16", "solver=euler_6", *MODELS[model])
    return materials(Context(composed, solver_spec(composed["solver"]), HostClock()))


def graph(model: str, precision: str, masked: bool, folder: Path) -> Path:
    """The step as the engines export it; INT8 with made-up ranges, on which its form does not depend."""
    parts = made(model)
    source = exported(
        parts.dit, parts.model.sha256, parts.arch, "fp32" if precision == "int8_fp16" else precision, masked
    )
    if precision != "int8_fp16":
        return source
    loaded = onnx.load(str(source))
    quantize(loaded, dict.fromkeys(layers_in_int8(parts.arch.depth, ["proj_out"]), 4.0), "fp16")
    to_half(loaded, "fp16")
    onnx.save(loaded, str(folder / "int8.onnx"))
    return folder / "int8.onnx"


def ranges(*key: object) -> list[list[int]]:
    return BOTH if key in TWO_PROFILES else ONE


def identity_of(model: str, precision: str, masked: bool) -> PlanIdentity:
    return PlanIdentity(
        onnx_sha256="a" * 64, precision=precision, profiles=profiles_of(ranges(model, precision, masked)), groups=2,
        max_batch=BATCH if masked else 1, workspace_bytes=1 << 32, tensorrt_version=trt.__version__,
        compute_capability="8.0 and later", runtime="tensorrt_rtx",
    )  # fmt: skip


KEPT: dict[tuple[str, str, bool], Built] = {}


def built(model: str, precision: str, masked: bool, folder: Path) -> tuple[Built, PlanReport]:
    key = (model, precision, masked)
    if key not in KEPT:
        identity = identity_of(*key)
        KEPT[key] = build_plan(graph(*key, folder), identity, step_shapes(made(model).dit, identity))
    report = KEPT[key].report
    assert report is not None
    return KEPT[key], report


@pytest.mark.parametrize("masked", [False, True], ids=["alone", "batch"])
@pytest.mark.parametrize("precision", list(TYPES))
@pytest.mark.parametrize("model", list(MODELS))
def test_a_plan_has_the_types_that_the_graph_states(model: str, precision: str, masked: bool, tmp_path: Path) -> None:
    _, report = built(model, precision, masked, tmp_path)
    depth, kind = made(model).arch.depth, TYPES[precision]
    assert {layer.profile for layer in report.layers} == set(range(len(ranges(model, precision, masked))))
    for profile in range(len(ranges(model, precision, masked))):
        products = [layer for layer in report.of(profile) if layer.is_product]
        assert len(products) == 4 * depth + 4, "four a block, x's, the last one, two convolutions"
        int8 = [layer for layer in products if "Int8" in layer.weights]
        assert len(int8) == (4 * depth if precision == "int8_fp16" else 0)
        assert {(layer.inputs, layer.weights, layer.outputs) for layer in int8} <= {(("Int8",), ("Int8",), (kind,))}
        others = [layer for layer in products if layer not in int8]
        assert {each for layer in others for each in layer.weights} == {kind}
        assert all(kind in layer.inputs for layer in others)
    assert report.counts() == {
        "fused_attention": 0 if precision == "fp32" else depth,
        "int8_products": 4 * depth if precision == "int8_fp16" else 0,
    }
    types = {name: tensor.kind for name, tensor in report.tensors.items()}
    tables = {"cos", "sin", *(("keys",) if masked else ())}
    assert {name for name, found in types.items() if found != "Float"} == (tables if precision != "fp32" else set())
    assert {types[name] for name in tables} == {kind}


@pytest.mark.parametrize(("model", "precision", "masked"), TWO_PROFILES)
def test_a_plan_has_the_profiles_that_were_asked_for(model: str, precision: str, masked: bool, tmp_path: Path) -> None:
    _, report = built(model, precision, masked, tmp_path)
    asked = step_shapes(made(model).dit, identity_of(model, precision, masked))
    inputs = {name: tensor for name, tensor in report.tensors.items() if tensor.mode == "Input"}
    assert set(inputs) == set(asked[0])
    for name, tensor in inputs.items():
        assert list(tensor.profiles) == [shapes[name] for shapes in asked], name
    assert report.tensors["velocity"].mode == "Output"
    most = max(shapes["x"][2] for shapes in asked)
    assert most == (BATCH if masked else 1, 2048, 100)


def test_half_types_and_int8_make_a_plan_smaller(tmp_path: Path) -> None:
    size = {precision: len(built("wide", precision, False, tmp_path)[0].plan) for precision in TYPES}
    assert size["fp16"] < 0.6 * size["fp32"]
    assert size["bf16"] < 0.6 * size["fp32"]
    assert size["int8_fp16"] < 0.75 * size["fp16"]


def broken(path: Path, target: Path, operator: str) -> Path:
    """The graph with one float32 operand where its operator's other one is half."""
    model = onnx.load(str(path))
    casts = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Cast"}
    node = next(n for n in model.graph.node if n.op_type == operator and n.input[0] in casts)
    node.input[0] = casts[node.input[0]]
    onnx.save(model, str(target))
    return target


@pytest.mark.parametrize("operator", ["MatMul", "Conv"])
def test_a_graph_whose_types_do_not_fit_is_refused(operator: str, tmp_path: Path) -> None:
    path = broken(graph("pocket", "fp16", False, tmp_path), tmp_path / "broken.onnx", operator)
    identity = identity_of("pocket", "fp16", False)
    with pytest.raises(UnsupportedEngine, match=r"TensorRT-RTX (cannot read|could not build)") as refusal:
        build_plan(path, identity, step_shapes(made("pocket").dit, identity))
    assert "\n" not in refusal.value.reason
    assert refusal.value.remedy


def test_profiles_that_the_graph_cannot_have_are_refused(tmp_path: Path) -> None:
    identity = identity_of("pocket", "fp16", False)
    shapes = [{**dict(each), "cos": ((1, 1, 2),) * 3} for each in step_shapes(made("pocket").dit, identity)]
    with pytest.raises(UnsupportedEngine, match=r"TensorRT-RTX could not build the plan \(.*profile"):
        build_plan(graph("pocket", "fp16", False, tmp_path), identity, shapes)


def test_what_is_no_plan_is_refused_by_the_runtime_itself(tmp_path: Path) -> None:
    runtime = trt.Runtime(trt.Logger(trt.Logger.INTERNAL_ERROR))
    plan = built("pocket", "bf16", False, tmp_path)[0].plan
    for given in (b"", plan[:20], b"ONNX" + plan[4:]):
        with pytest.raises(UnsupportedEngine, match="it is no plan of TensorRT-RTX, or a damaged one") as refusal:
            refuse_invalid(trt, runtime, given)
        assert "engine.plan=null" in refusal.value.remedy


def exported_by(*words: str) -> int:
    return run_verb(export.main, list(words))


def test_an_export_is_the_graph_the_plan_and_its_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exported twice, the plan is built once: it is in the cache by its identity."""
    plans = []

    def counted(onnx: Path, identity: PlanIdentity, shapes: Any) -> Built:
        plans.append(identity)
        return built("pocket", "bf16", False, tmp_path)[0]

    monkeypatch.setattr(planning, "build_plan", counted)
    monkeypatch.setattr(planning, "cache_root", lambda: tmp_path / "cache")
    words = ("engine=tensorrt_rtx_bf16", "solver=euler_6")
    for name in ("one", "two"):
        assert exported_by(*words, f"out={tmp_path / name}") == 0
    assert len(plans) == 1
    assert capsys.readouterr().out.count("plan  ") == 2
    one = tmp_path / "one"
    assert sorted(path.name for path in one.iterdir()) == ["step.onnx", "step.plan", "step.plan.json"]
    plan, checks = read_plan(one / "step.plan", plans[0])
    assert plan == (tmp_path / "two" / "step.plan").read_bytes()
    assert checks == {"fused_attention": 6, "int8_products": 0}
    assert (plans[0].runtime, plans[0].compute_capability) == ("tensorrt_rtx", "8.0 and later")
    assert exported_by(*words, "solver.cfg_strength=0", f"out={tmp_path / 'three'}") == 0
    assert len(plans) == 2, "without guidance it is another plan"
    assert exported_by(*words, "engine.needs_fused_attention=true", f"out={tmp_path / 'four'}") == 0
    with pytest.raises(UnsupportedEngine, match=r"tensorrt_version .*, here 2.0"):
        read_plan(one / "step.plan", PlanIdentity(**{**_fields(plans[0]), "tensorrt_version": "2.0"}))
    (one / "step.plan").write_bytes(plan[:-1])
    with pytest.raises(UnsupportedEngine, match=r"is not the file that step\.plan\.json"):
        read_plan(one / "step.plan", plans[0])


def _fields(identity: PlanIdentity) -> dict[str, Any]:
    return {name: getattr(identity, name) for name in PlanIdentity.__dataclass_fields__}


def test_an_export_for_tensorrt_is_the_graph_and_the_command_that_builds_it_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exported_by("engine=tensorrt_fp16", "engine.max_batch=2", "solver=euler_6", f"out={tmp_path}") == 0
    assert "no plan: " in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step.onnx", "step.plan.json", "trtexec.sh"]
    onnx.checker.check_model(str(tmp_path / "step.onnx"))
    said = (tmp_path / "trtexec.sh").read_text("utf-8")
    words = said.split()
    assert {"--stronglyTyped", "--noTF32", "--timingCacheFile=step.timing", "--saveEngine=step.plan"} <= set(words)
    assert "--memPoolSize=workspace:4096" in words
    assert (
        said.index("--profile=0") < said.index("x:1x563x100") < said.index("--profile=1") < said.index("x:2x2048x100")
    )
    shapes = [word.partition("=")[2] for word in words if word.startswith("--maxShapes")]
    named = {part.partition(":")[0] for part in shapes[0].split(",")}
    assert named == {"x", "projected", "convolved", "cos", "sin", "frames", "keys"}, "modulation and final are fixed"
    assert json.loads(described(tmp_path / "step.plan").read_text("utf-8"))["plan_sha256"] is None


def test_an_engine_without_a_plan_cannot_be_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exported_by("engine=fp32", f"out={tmp_path / 'x'}") == 14
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "engine=fp32 has no plan to export" in said
