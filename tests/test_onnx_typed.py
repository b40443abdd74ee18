"""The half form of the exported step: what stays float32, and that the answer does."""

from pathlib import Path
from typing import Any

import pytest
import torch

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from engine.backends.onnx.export import export_step  # noqa: E402
from engine.backends.tensorrt.check import drawn_feeds  # noqa: E402
from engine.backends.tensorrt.typed import typed  # noqa: E402
from engine.step.dit import Arch, DiTStep  # noqa: E402
from engine.step.examples import example_feeds, run_step  # noqa: E402


@pytest.fixture(scope="module")
def step() -> DiTStep:
    torch.manual_seed(0)
    return DiTStep(Arch(dim=64, depth=2, heads=2, dim_head=32, ff_mult=2), 100).eval()


@pytest.fixture(scope="module")
def exported(step: DiTStep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_step(step, tmp_path_factory.mktemp("step") / "step.onnx", masked=False)


def types_of(path: Path) -> dict[str, set[int]]:
    """Operator -> element types of its first inputs, by strict inference: a graph of mixed types fails here."""
    model = onnx.shape_inference.infer_shapes(onnx.load(str(path)), check_type=True, strict_mode=True)
    graph = model.graph
    known = {v.name: v.type.tensor_type.elem_type for v in [*graph.input, *graph.value_info, *graph.output]}
    known |= {t.name: t.data_type for t in graph.initializer}
    found: dict[str, set[int]] = {}
    for node in graph.node:
        if node.op_type != "Cast" and node.input and node.input[0] in known:
            found.setdefault(node.op_type, set()).add(known[node.input[0]])
    return found


@pytest.fixture(scope="module")
def masked(step: DiTStep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_step(step, tmp_path_factory.mktemp("masked") / "step.onnx", masked=True)


@pytest.mark.parametrize(("precision", "half"), [("fp16", 10), ("bf16", 16)])
def test_products_and_attention_are_half_and_norms_float32(
    exported: Path, masked: Path, tmp_path: Path, precision: str, half: int
) -> None:
    for source in (exported, masked):
        path = typed(source, tmp_path / "half.onnx", precision)
        types = types_of(path)
        for operator in ("MatMul", "Gemm", "Conv", "Softmax", "Gelu"):
            assert types.get(operator, {half}) == {half}, operator
        assert types["LayerNormalization"] == {onnx.TensorProto.FLOAT}
        assert path.stat().st_size < 0.7 * source.stat().st_size


def test_no_cast_stands_inside_attention(exported: Path, masked: Path, tmp_path: Path) -> None:
    """A softmax whose scores are cast on the way is not fused by TensorRT, nor one whose mask is."""
    for source in (exported, masked):
        graph = onnx.load(str(typed(source, tmp_path / "half.onnx", "fp16"))).graph
        maker: dict[str, Any] = {name: node for node in graph.node for name in node.output}
        for node in graph.node:
            if node.op_type == "Softmax":
                scores = maker[node.input[0]]
                assert scores.op_type in ("MatMul", "Mul", "Add", "Div")
                assert all(maker[name].op_type != "Cast" for name in scores.input if name in maker)


def test_the_float16_form_gives_the_steps_answer(step: DiTStep, exported: Path, tmp_path: Path) -> None:
    path = typed(exported, tmp_path / "half.onnx", "fp16")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    half = {value.name for value in session.get_inputs() if value.type == "tensor(float16)"}
    assert half == {"cos", "sin"}
    for num_frames, groups in ((37, 1), (128, 2)):
        feeds = drawn_feeds(step, groups, num_frames, masked=False)
        given = {name: (value.half() if name in half else value).numpy() for name, value in feeds.items()}
        made = torch.from_numpy(session.run(["velocity"], given)[0])
        expected = run_step(step, feeds)
        assert made.dtype == torch.float32
        assert 0 < (made - expected).norm() / expected.norm() < 0.01


def test_a_padded_batch_in_float16_gives_each_utterance_the_steps_answer(
    step: DiTStep, masked: Path, tmp_path: Path
) -> None:
    session = onnxruntime.InferenceSession(
        str(typed(masked, tmp_path / "half.onnx", "fp16")), providers=["CPUExecutionProvider"]
    )
    half = {value.name for value in session.get_inputs() if value.type == "tensor(float16)"}
    assert half == {"cos", "sin", "keys"}
    lengths = (60, 41, 30)
    feeds = example_feeds(step, 2, lengths, masked=True)
    given = {name: (value.half() if name in half else value).numpy() for name, value in feeds.items()}
    made, expected = torch.from_numpy(session.run(["velocity"], given)[0]), run_step(step, feeds)
    for i, length in enumerate(lengths):
        gap = made[:, i, :length] - expected[:, i, :length]
        assert 0 < gap.norm() / expected[:, i, :length].norm() < 0.01
