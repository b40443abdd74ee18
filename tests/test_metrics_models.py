"""Speaker encoders and MOS predictors: the bundled one for real, the others from small local files made here."""

import numpy as np
import pytest
import torch

from metrics.isolation import Limits
from metrics.models.predicted_mos import predictions
from metrics.models.speaker import Voices, similarities
from tests.heard import RATE_HZ, recorded

LIMITS = Limits(timeout_s=60)


def two_seconds(voice):
    return np.tile(recorded(voice), 2)


def voices(variant, prompt="slt", against="slt"):
    sides = {name: (two_seconds(name), RATE_HZ) for name in {variant, prompt, against}}
    return Voices(prompt=sides[prompt], variant=sides[variant], against=sides[against], refusal=None)


def test_the_bundled_encoder_tells_the_two_voices_apart():
    pytest.importorskip("resemblyzer")
    same, other = similarities([voices("slt"), voices("rms")], {"kind": "resemblyzer", "file": None}, LIMITS)
    assert [outcome.value for outcome in same] == pytest.approx([1.0, 0.0, 1.0], abs=1e-6)
    similarity, retention, match = other
    assert similarity.value < 0.8
    assert retention.value == pytest.approx(similarity.value - 1.0, abs=1e-6)
    assert match.value == pytest.approx(similarity.value, abs=1e-6)


def test_an_encoder_from_a_local_file(tmp_path):
    class Energy(torch.nn.Module):
        def forward(self, wave: torch.Tensor) -> torch.Tensor:
            return torch.stack([wave.abs().mean(1), wave.diff(dim=1).abs().mean(1)], dim=1)

    path = tmp_path / "encoder.pt"
    torch.jit.script(Energy()).save(str(path))
    ((similarity, retention, _),) = similarities([voices("rms")], {"kind": "wavlm", "file": str(path)}, LIMITS)
    assert 0 < similarity.value < 1
    assert retention.value == pytest.approx(similarity.value - 1.0, abs=1e-6)


@pytest.mark.parametrize("file", [None, "/nowhere/encoder.pt"])
def test_a_missing_encoder_file_is_named(file):
    ((similarity, _, _),) = similarities([voices("slt")], {"kind": "ecapa", "file": file}, LIMITS)
    assert similarity.status == "unavailable"
    assert "nothing is downloaded" in similarity.reason


def test_too_little_speech_and_no_other_side():
    short = Voices(
        prompt=(two_seconds("slt"), RATE_HZ), variant=(recorded()[:RATE_HZ // 2], RATE_HZ), against=None,
        refusal="noise_sha256 differs",
    )  # fmt: skip
    ((similarity, retention, match),) = similarities([short], {"kind": "ecapa", "file": None}, LIMITS)
    assert (similarity.status, retention.status, match.reason) == ("too_few", "not_comparable", "noise_sha256 differs")


def linear_onnx(path, num_outputs, shape):
    """A model whose outputs are its input's mean plus 1, 2, .."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    axes = list(range(1, len(shape)))
    nodes = [
        onnx.helper.make_node("ReduceMean", ["input_1"], ["mean"], axes=axes, keepdims=0),
        onnx.helper.make_node("Reshape", ["mean", "column"], ["tall"]),
        onnx.helper.make_node("Add", ["tall", "steps"], ["out"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.array([-1, 1], np.int64), "column"),
        onnx.numpy_helper.from_array(np.arange(1, num_outputs + 1, dtype=np.float32)[None], "steps"),
    ]
    graph = onnx.helper.make_graph(
        nodes, "linear",
        [onnx.helper.make_tensor_value_info("input_1", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, None)],
        constants,
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return str(path)


def test_dnsmos_maps_the_models_outputs_as_microsofts_script_does(tmp_path):
    path = linear_onnx(tmp_path / "sig_bak_ovr.onnx", 3, [1, 144160])
    silent_on_average_S = recorded() - recorded().mean()
    ((found),) = predictions([(silent_on_average_S, RATE_HZ)], "dnsmos", path, LIMITS)
    by_hand = {
        "sig": -0.08397278 + 1.22083953 + 0.0052439,
        "bak": -0.13166888 * 4 + 1.60915514 * 2 - 0.39604546,
        "ovrl": -0.06766283 * 9 + 1.11546468 * 3 + 0.04602535,
    }
    assert {name: outcome.value for name, outcome in found.items()} == pytest.approx(by_hand, abs=1e-3)


def test_p808_sees_a_hundred_and_twenty_bands(tmp_path):
    path = linear_onnx(tmp_path / "model_v8.onnx", 1, [1, 900, 120])
    (found,) = predictions([(recorded(), RATE_HZ)], "dnsmos_p808", path, LIMITS)
    assert found["p808"].status == "ok", found["p808"].reason
    assert 0.0 < found["p808"].value < 2.0  # mean of (dB re the loudest + 40) / 40 lies in -1..1, plus 1


def test_a_torchscript_predictor_and_its_failures(tmp_path):
    class Mean(torch.nn.Module):
        def forward(self, wave: torch.Tensor) -> torch.Tensor:
            return 3.0 + 0.0 * wave.mean(1)

    torch.jit.script(Mean()).save(str(tmp_path / "utmos.pt"))
    audios = [(recorded(), RATE_HZ), (np.zeros(RATE_HZ, np.float32), RATE_HZ), (recorded()[:1000], RATE_HZ)]
    good, silent, short = (found["utmos"] for found in predictions(audios, "utmos", str(tmp_path / "utmos.pt"), LIMITS))
    assert (good.value, silent.status, short.status) == (3.0, "error", "too_few")
    (unavailable,) = predictions(audios[:1], "utmos", None, LIMITS)
    assert "quality.predicted_mos.utmos" in unavailable["utmos"].reason
