"""Vocos through torch.compile: the same samples at every length by one compilation, and what it counts."""

import numpy as np
import pytest
import torch

from engine.contract import ConfigError, Engine, UnsupportedEngine
from engine.step.packed import can_pack
from engine.vocoders.load import load_vocoder
from engine.vocoders.vocos import LoadedVocoder
from tests.engines import config, engine, request

TEXTS = ("That was close.", "Turn left at the bridge.", "We walk along the sea in the morning.")
# One block of either compiles in seconds
SMALL = ("model.checkpoint=random:0", "model.arch.depth=1", "solver=euler_6")
SMALL_VOCOS = ("vocoder.checkpoint=random:0", "vocoder.backbone.num_layers=1")


def compiled(*overrides: str) -> Engine:
    try:
        return engine(*overrides)
    except UnsupportedEngine as refusal:
        pytest.skip(refusal.reason)


def loaded(name: str) -> LoadedVocoder:
    try:
        return load_vocoder(config(f"vocoder={name}")["vocoder"], "cpu")
    except UnsupportedEngine as refusal:
        pytest.skip(refusal.reason)


def mel(frames: int) -> torch.Tensor:
    return torch.randn(1, 100, frames, generator=torch.Generator().manual_seed(frames)) * 2 - 4


def test_one_compilation_decodes_every_length_as_the_eager_one_does() -> None:
    ours, eager = loaded("vocos_compiled"), loaded("vocos")
    assert ours.sha256 == eager.sha256
    for frames in (9, 100, 333):
        with torch.inference_mode():
            found, expected = ours.decoder.decode(mel(frames)), eager.decoder.decode(mel(frames))
        assert found.shape == expected.shape == (1, (frames - 1) * 256)
        assert (found - expected).norm() / expected.norm() <= 1e-5
    proof = ours.decoder.proof()
    assert (proof["graphs_compiled"], proof["recompiles"]) == (1, 0)
    assert proof["compile_s"] > 0
    assert proof["compiled_runs"] == 3
    with torch.compiler.set_stance("force_eager"), pytest.raises(UnsupportedEngine, match="ran the plain function"):
        ours.decoder.decode(mel(100))


def test_an_engines_own_compilations_and_its_vocoders_are_counted_apart() -> None:
    with (
        compiled(*SMALL, "engine=compiled", "vocoder=vocos_compiled", *SMALL_VOCOS) as ours,
        engine(*SMALL, "engine=fp32", *SMALL_VOCOS) as eager,
    ):
        for text in TEXTS:
            mine, theirs = (one.synthesize([request(text)])[0].audio_S for one in (ours, eager))
            assert np.abs(mine - theirs).max() < 1e-3
            counted = ours.facts.proof["steady_counters"]
            assert counted["vocoder_compilations"] == 1
            assert counted["compilations"] <= 1, "none where this process has compiled such a step before"
        assert ours.facts.vocoder.startswith("vocos_compiled:")
        assert ours.facts.proof["vocoder"]["runtime"] == "compiled"


def test_what_the_compiler_lacks_or_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"vocoder.inductor.freezzing=True: is not a setting"):
        engine("vocoder=vocos_compiled", "+vocoder.inductor.freezzing=true")
    off = torch._dynamo.config.patch(disable=True)
    with off, pytest.raises(UnsupportedEngine, match="is switched off here") as refusal:
        engine("vocoder=vocos_compiled")
    assert "use vocoder=vocos" in refusal.value.remedy
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UnsupportedEngine, match="C\\+\\+ compiler") as refusal:
        engine("vocoder=vocos_compiled")
    assert "use vocoder=vocos" in refusal.value.remedy


@pytest.mark.skipif(not can_pack(torch.bfloat16), reason="this CPU has no bfloat16 products")
def test_narrow_products_leave_the_sound_and_are_counted() -> None:
    ours, eager = loaded("vocos_compiled_bf16"), loaded("vocos")
    with torch.inference_mode():
        found, expected = ours.decoder.decode(mel(100)), eager.decoder.decode(mel(100))
    assert 1e-5 < (found - expected).norm() / expected.norm() < 0.05
    stored = ours.decoder.proof()["weight_elements_by_dtype"]
    assert stored["bfloat16"] >= 6 * 2 * 256 * 768, "two products a block"
    assert stored["float32"] > 256 * 1026, "the head"
    assert ours.num_bytes == 4 * stored["float32"] + 2 * stored["bfloat16"] < eager.num_bytes


def test_a_precision_that_the_vocoder_has_not_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"vocoder.precision=int8: must be fp32 or bf16"):
        engine("vocoder=vocos_compiled", "vocoder.precision=int8")
    with pytest.raises(ConfigError, match=r"must be fp32 with vocoder.runtime=eager"):
        engine("vocoder=vocos", "+vocoder.precision=bf16")


def test_a_cpu_without_bfloat16_products_refuses_the_narrow_vocoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.vocoders.compiled.can_pack", lambda dtype: False)
    with pytest.raises(UnsupportedEngine, match="bfloat16 products") as refusal:
        engine("vocoder=vocos_compiled_bf16")
    assert refusal.value.remedy == "use vocoder=vocos_compiled"
