"""INT8 for TensorRT at its edges: utterances padded in one batch, scales that a half type holds, settings refused."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.backends.onnx.export import export_step
from engine.backends.tensorrt.check import drawn_feeds
from engine.backends.tensorrt.qdq import layer_ranges, layers_in_int8, quantize, representable
from engine.backends.tensorrt.typed import to_half
from engine.contract import ConfigError
from engine.step.dit import Arch, DiTStep
from engine.step.examples import example_feeds
from tests.engines import engine
from tests.test_onnx_qdq import onnx, runner


def test_a_padded_utterance_gives_what_it_gives_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    step = DiTStep(Arch(dim=64, depth=2, heads=2, dim_head=32, ff_mult=2), 100).eval()
    source = export_step(step, tmp_path / "step.onnx", masked=True)
    layers = layers_in_int8(2, ["proj_out"])
    model = onnx.load(str(source))
    quantize(model, layer_ranges(step, [drawn_feeds(step, 2, 60, masked=True)], layers, "minmax"), "fp16")
    to_half(model, "fp16")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(tmp_path / "int8.onnx"))
    run, lengths = runner(tmp_path / "int8.onnx"), (60, 41, 30)
    padded = example_feeds(step, 2, lengths, masked=True)
    together = run(padded)
    for i, length in enumerate(lengths):
        one = slice(i, i + 1)
        alone = run(
            {
                **padded, "x": padded["x"][one, :length], "projected": padded["projected"][:, one, :length],
                "convolved": padded["convolved"][:, one, :, :length], "cos": padded["cos"][:length],
                "sin": padded["sin"][:length], "frames": padded["frames"][:, one, :length],
                "keys": padded["keys"][:, one, ..., :length],
            }
        )  # fmt: skip
        assert (together[:, one, :length] - alone).norm() / alone.norm() < 0.01, "half and int8 round otherwise at most"


@given(st.floats(1e-7, 6e4), st.sampled_from(["fp16", "bf16"]))
def test_a_scale_is_the_least_that_the_half_type_holds(value: float, precision: str) -> None:
    given_ = np.float32(value)
    found = representable(np.array([given_]), precision)
    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    held = torch.from_numpy(found).to(kind)
    assert held.float().numpy() == found
    below = (held.view(torch.int16) - 1).view(kind).float().numpy()
    assert below < given_ <= found


def test_bad_settings_are_refused_before_tensorrt_is_asked_for() -> None:
    for override, says in (
        ("engine.calibration.sentences=[one,two]", "2 sentences: at least 4 are needed"),
        ("engine.calibration.method=best", "engine.calibration.method=best: must be one of minmax"),
        ("engine.calibration=null", "engine.calibration"),
        ("engine.float_layers=[blocks.*.conv]", "names no linear layer"),
        ("engine.float_layers=['*']", "leaves no layer in int8"),
        ("engine.precision=bf16", "engine.precision=bf16: must be one of int8_fp16, int8_bf16"),
    ):
        with pytest.raises(ConfigError, match=re.escape(says)):
            engine("engine=tensorrt_int8", override)
