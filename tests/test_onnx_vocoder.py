"""Vocos through ONNX Runtime: the same samples, and the inverse STFT in real numbers equals torch's."""

import numpy as np
import pytest
import torch

from engine.contract import ConfigError
from engine.vocoders.load import load_vocoder
from engine.vocoders.onnx import check_decoder
from engine.vocoders.real import RealISTFT
from tests.engines import config, engine, request

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("frames", [4, 33, 200])
@pytest.mark.parametrize(("size", "hop"), [(1024, 256), (400, 100)])
def test_the_inverse_stft_in_real_numbers_equals_torchs(frames: int, size: int, hop: int) -> None:
    generator = torch.Generator().manual_seed(frames)
    window = torch.hann_window(size)
    magnitude = torch.rand(2, size // 2 + 1, frames, generator=generator)
    phase = torch.randn(2, size // 2 + 1, frames, generator=generator) * 9
    expected = torch.istft(torch.polar(magnitude, phase), size, hop, size, window, center=True)
    found = RealISTFT(window, hop)(magnitude, phase)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 2e-6


@pytest.mark.parametrize("names", [("vocos", "vocos_onnx"), ("vocos_random", None)], ids=["pocket", "full-size"])
def test_the_vocoder_equals_the_eager_one_at_three_lengths(names: tuple[str, str | None]) -> None:
    eager = load_vocoder(config(f"vocoder={names[0]}")["vocoder"], "cpu")
    ours = load_vocoder({**config(f"vocoder={names[1] or names[0]}")["vocoder"], "runtime": "onnx"}, "cpu")
    assert ours.sha256 == eager.sha256
    for frames in (9, 100, 333):
        assert check_decoder(eager.decoder.module, ours.decoder, frames) <= 1e-4 * (1 if names[1] else 100)


def test_an_engine_speaks_through_it_and_its_facts_say_so() -> None:
    ask = request("That was close.")
    with engine("vocoder=vocos_onnx") as ours, engine() as eager:
        assert ours.facts.vocoder.startswith("vocos_onnx:")
        mine, theirs = ours.synthesize([ask])[0].audio_S, eager.synthesize([ask])[0].audio_S
        proof = ours.facts.proof["vocoder"]
        assert eager.facts.proof["vocoder"]["runtime"] == "eager"
    assert (proof["runtime"], proof["runs"]) == ("onnx", 1)
    assert list(proof["nodes_by_provider"]) == ["CPUExecutionProvider"]
    assert sum(proof["nodes_by_op"].values()) == proof["nodes_by_provider"]["CPUExecutionProvider"] > 40
    assert np.abs(mine - theirs).max() <= 1e-4
    assert np.abs(theirs).max() > 0.01


def test_an_unknown_runtime_is_a_setting() -> None:
    with pytest.raises(ConfigError, match=r"vocoder.runtime=tvm: must be eager or compiled or onnx or cuda"):
        engine("+vocoder.runtime=tvm")
