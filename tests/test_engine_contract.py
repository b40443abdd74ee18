"""One contract for every conf/engine/*.yaml: a new YAML is tested by existing."""

import subprocess
import sys

import numpy as np
import pytest

from engine.backends.eager import build as eager_build
from engine.build import build_engine
from engine.clock import HostClock
from engine.contract import Engine, UnsupportedEngine
from engine.families import f5tts
from engine.families.family import family_of_target
from tests.engines import ROOT, config, engine, request

PRESETS = sorted(path.stem for path in (ROOT / "conf" / "engine").glob("*.yaml"))
# Other families have a test of their own: tests/test_kokoro.py
ENGINES = [name for name in PRESETS if family_of_target(config(f"engine={name}")["engine"]["_target_"]) is f5tts]
TEXT = "That was close."
SOLVER = "solver=euler_6"  # one for all: a graph that is calibrated for a solver is calibrated once
# Euler's are counted by the contract below; six evaluations of a midpoint are no other path than fourteen
# In nats of log-mel from float32 at the same noise and grid, by the first word of the precision. On an AVX512 CPU it is
# 1e-6 for float32 elsewhere, 0.002 for fp16, 0.010 for amp, 0.017 for bf16, 0.03 to 0.07 for int8; a velocity of 1.01
# times the right one ends 0.029 to 0.035 away, so that only int8 can hide it
NEAR = {"fp32": 1e-3, "fp16": 0.005, "amp": 0.025, "bf16": 0.03, "int8": 0.15}
SAME_LOOP = ("fp16", "onnx_int8")  # as bf16 and onnx; the graph of the last is calibrated for every solver
COUNTED = [(name, "midpoint_7", 14) for name in ENGINES if name not in SAME_LOOP] + [("fp32", "midpoint_nfe6", 6)]


def built(name: str, *overrides: str) -> Engine:
    # One block compiled for all takes a tenth of the time; tests/test_compiled.py has the whole step as one graph
    quick = ("engine.region=block",) if "region" in config(f"engine={name}")["engine"] else ()
    try:
        return engine(f"engine={name}", *quick, *overrides)
    except UnsupportedEngine as refusal:
        if not (refusal.reason and refusal.remedy):
            pytest.fail("a refusal must say why, and what to do instead")
        pytest.skip(f"{name} is not supported here: {refusal.reason}")


@pytest.mark.parametrize("name", ENGINES)
def test_engine_keeps_the_contract(name: str) -> None:
    asks = request(TEXT, utterance_id="a"), request(TEXT, voice="rms", utterance_id="b")
    with built(name, SOLVER) as ours:
        facts = ours.facts
        assert facts.name == name
        assert (facts.steps, facts.evals_per_step) == (6, 1)
        assert facts.time_grid[0] == 0.0
        assert facts.weights_bytes > 1_000_000
        first, second = ours.synthesize(asks[:1])[0], ours.synthesize(asks[1:])[0]
        assert (first.utterance_id, second.utterance_id) == ("a", "b")
        with pytest.raises(ValueError, match="requests in a batch"):
            ours.synthesize(list(asks) * facts.max_batch)
        again = ours.synthesize(asks[:1])[0]
        assert ours.facts.proof["num_evals"] == 18, "three calls of six evaluations, counted while running"
    for result in (first, second):
        assert result.audio_S.dtype == np.float32
        assert result.audio_S.ndim == 1
        assert result.sample_rate_hz == 24000
        assert result.mel_ND.shape == (7 * len(TEXT), 100)
        samples = (len(result.mel_ND) - 1) * 256
        assert len(result.audio_S) == samples, f"audio has {len(result.audio_S)} samples, the mel says {samples}"
        assert np.isfinite(result.audio_S).all()
        assert result.num_evals == 6
    assert np.array_equal(first.audio_S, again.audio_S), "the same request twice is bit-identical on a CPU"
    assert first.noise_sha256 != second.noise_sha256


@pytest.mark.parametrize(("name", "solver", "num_evals"), COUNTED)
def test_evaluations_are_counted_not_copied_from_the_setting(name: str, solver: str, num_evals: int) -> None:
    with built(name, f"solver={solver}") as ours:
        assert ours.synthesize([request(TEXT)])[0].num_evals == num_evals


@pytest.mark.parametrize("name", ENGINES)
def test_engine_stays_near_the_oracle(name: str) -> None:
    """Same noise, same grid: what precision costs, in nats of log-mel."""
    ask = request("Turn left at the bridge.")
    with built(name, SOLVER) as variant, engine("engine=fp32", SOLVER) as oracle:
        difference = variant.synthesize([ask])[0].mel_ND - oracle.synthesize([ask])[0].mel_ND
        precision, stored = variant.facts.precision, variant.facts.proof.get("weight_elements_by_dtype")
    away, allowed = float(np.abs(difference).mean()), NEAR[precision.partition("_")[0]]
    if away > allowed:
        pytest.fail(f"{name} says {precision} and is {away:.2g} nats of log-mel from float32, allowed are {allowed}")
    if name == "fp32":
        assert np.abs(difference).max() == 0.0
    assert stored, "the proof counts the weights by what they are stored as (weight_elements_by_dtype)"


@pytest.mark.parametrize(("name", "most"), [("fp32", "float32"), ("bf16", "bfloat16"), ("fp16", "float16")])
def test_an_engine_whose_weights_are_not_what_it_says_is_not_built(
    name: str, most: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"bf16": "fp32", "fp32": "int8", "fp16": "bf16"}[name]
    real = eager_build.Build
    monkeypatch.setattr(eager_build, "Build", lambda **asked: real(**{**asked, "precision": told}))
    with pytest.raises(ValueError, match=f"engine {name} says precision {told}, and .* weights are {most}"):
        engine(f"engine={name}")


def test_int8_is_made_of_quantised_products() -> None:
    with built("int8") as ours, built("fp32") as full:
        assert (ours.facts.proof["quantized_linears"], full.facts.proof["quantized_linears"]) == (24, 0)


def test_int8_weights_take_less_than_a_third_of_float32s() -> None:
    with built("int8") as small, engine("engine=fp32") as full:
        vocoder_bytes = 4 * sum(p.numel() for p in full._parts.speaker.vocoder.module.parameters())
        assert small.facts.weights_bytes - vocoder_bytes < 0.34 * (full.facts.weights_bytes - vocoder_bytes)


def test_noise_is_the_requests_and_global_generators_are_untouched() -> None:
    import torch

    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with engine() as ours, engine("engine=upstream") as peer:
        torch.manual_seed(7)
        ours.synthesize([request(TEXT)])
        peer.synthesize([request(TEXT)])
        assert torch.equal(torch.rand(3), expected)


def test_upstream_refuses_grids_it_cannot_take() -> None:
    for overrides, says in [
        (("solver.grid=uniform",), "always takes the epss grid"),
        (("solver.grid=[0.0,0.5,1.0]", "solver.steps=null"), "no explicit grid"),
        (("solver.method=heun",), "heun"),
    ]:
        with pytest.raises(UnsupportedEngine, match=says):
            build_engine(config("engine=upstream", *overrides), HostClock())


def test_the_contract_and_the_grid_need_no_torch() -> None:
    code = "import sys, engine.contract, engine.solver.grid; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
