"""Where the time of a call goes, of real engines on this CPU."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments import profile
from experiments.common.cli import run_verb
from experiments.workload.requests import load_workload
from metrics.speed.roofline import Dit
from tests.engines import config

QUICK = (
    "workload=smoke",
    "solver=uniform_4",
    "calls=1",
    "device.threads=1",
    "measure.gemm_peak=false",
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path / "locks"))


def profile_of(*overrides: str) -> dict[str, Any]:
    assert run_verb(profile.main, [*QUICK, *overrides, "out=out"]) == 0
    return dict(json.loads(Path("out/profile.json").read_text("utf-8")))


def test_the_time_of_a_pytorch_engine_is_in_its_operations(capsys: pytest.CaptureFixture[str]) -> None:
    found = profile_of("engine=fp32", "rows=2")
    operations = found["operations"]
    assert "linear" in operations[0]["name"] or "mm" in operations[0]["name"], "products come first"
    assert 0.6 < sum(one["share"] for one in operations) <= 1.001
    attention = [one for one in operations if "scaled_dot_product" in one["name"]]
    assert attention[0]["count"] == 4 * config()["model"]["arch"]["depth"], "four evaluations, one of each block"
    stages = found["timed"]["stages_ms"]
    assert sum(stages.values()) <= 1.05 * found["timed"]["call_ms"]
    assert stages["denoiser"] > stages["front end"]
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == ["record  out/profile.json", "trace   out/trace.json"]
    assert sum(line.endswith(("others", "other runtimes")) for line in said) == 2
    assert json.loads(Path("out/trace.json").read_text("utf-8"))["traceEvents"]


def test_products_are_counted_as_the_roofline_counts_them() -> None:
    found = profile_of("engine=fp32")
    model, timed = config()["model"], found["timed"]
    request = load_workload(config("workload=smoke")).requests[0]
    hz = model["sample_rate_hz"] / model["hop_samples"]
    frames = round(len(request.ref_audio_S) / request.ref_sample_rate_hz * hz) + round(timed["audio_s"] * hz) + 1
    assert timed["flop"] == 4 * Dit.of(model).evaluation_flop(frames, 2)


def test_an_evaluation_without_guidance_is_counted_with_one_row() -> None:
    guided, single = profile_of("engine=fp32"), profile_of("engine=fp32", "solver.cfg_strength=0")
    ratio = single["timed"]["flop"] / guided["timed"]["flop"]
    assert 0.5 < ratio < 0.6, "half of the blocks, and the input of both rows"


def test_audio_that_is_not_valid_has_no_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(profile, "invalid_reason", lambda *heard: "en03: silence share 1.00")
    assert run_verb(profile.main, [*QUICK, "engine=fp32", "out=out"]) == 14
    said = capsys.readouterr()
    assert (said.out, Path("out/profile.json").exists()) == ("", False)
    assert "no number, its audio is not valid: en03: silence share 1.00" in said.err


def test_what_another_runtime_does_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    found = profile_of("engine=onnx")
    assert sum(one["share"] for one in found["operations"]) < 0.4
    assert "none of them: Python, the profiler itself, other runtimes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("calls=0", "calls=0: must be a whole number from 1 to 1000"), ("rows=x", "rows=x: must be"),
        ("nvtx=true", "nvtx=true: needs a card"), ("nvtx=1", "nvtx=1: must be true or false"),
        ("call=3", "did you mean calls"), ("quality=full", "quality"),
    ],
)  # fmt: skip
def test_what_cannot_be_profiled_is_a_line(word: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(profile.main, [word]) == 2
    assert said in capsys.readouterr().err
