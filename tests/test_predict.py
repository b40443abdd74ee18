"""f5bench predict: bounds by hand, the errors against what was measured, and a form that nothing takes for a result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.contract import ConfigError
from experiments.common.cli import EXIT_OK, EXIT_USAGE, run_verb
from experiments.predict import ENGINES, H200, ORIN, Predictor, main, precision_of, read_asked
from metrics.record import RecordError, load_run
from metrics.speed.bound import DEVICES, KINDS, Peaks, Task, evaluation_bound, rtf_bound
from metrics.speed.roofline import Dit
from reports.data.source import load_source
from tests.engines import config

FULL = Dit(dim=1024, depth=22, inner=1024, hidden=2048, mel_bins=100)
TASK = Task(dit=FULL, num_frames=1406, rows=2, num_evals=7, generated_s=10.0)
SLOW_MEMORY = Peaks(title="x", fp32=1e15, half=1e15, int8=1e15, bytes_per_s=1e9, source="made up")


def test_the_bound_is_the_arithmetic_over_the_peak() -> None:
    """1.42 TFLOP an evaluation of 1406 frames, guided; an int8 engine's attention stays in half precision."""
    orin = DEVICES["agx_orin_64gb"]
    flop = FULL.evaluation_flop(1406, 2)
    assert flop == pytest.approx(1.42e12, rel=0.01)
    assert evaluation_bound(TASK, "fp16", orin).seconds == pytest.approx(flop / 42.6e12)
    products = 2 * 1406 * 2 * 22 * 8 * 1024**2
    assert evaluation_bound(TASK, "int8_fp16", orin).seconds == pytest.approx(
        products / 85.2e12 + (flop - products) / 42.6e12
    )
    assert rtf_bound(TASK, "fp32", orin) == pytest.approx(7 * flop / 5.32e12 / 10)


def test_where_memory_is_slow_the_traffic_bounds() -> None:
    bound = evaluation_bound(TASK, "fp16", SLOW_MEMORY)
    assert (bound.by, bound.seconds) == ("traffic", pytest.approx(FULL.evaluation_bytes(1406, 2, 2) / 1e9))


@pytest.mark.parametrize("device", DEVICES)
def test_tensor_cores_make_twice_as_much_in_half_the_bits(device: str) -> None:
    peaks = DEVICES[device]
    assert peaks.int8 == pytest.approx(2 * peaks.half, rel=0.01)
    assert 8 * peaks.fp32 <= 1.01 * peaks.half


def test_every_engine_of_the_table_has_a_preset_and_a_precision_that_is_counted() -> None:
    assert {precision_of(engine) for engine in ENGINES} <= set(KINDS)
    for engine in ("onnx_cuda", "tensorrt_int8"):
        assert precision_of(engine) == config(f"engine={engine}")["engine"].get("precision", "fp32")


def test_fp8_is_foretold_only_where_tensor_cores_have_it_and_at_int8s_rate() -> None:
    orin, h200 = (
        {row["engine"]: row["bound_rtf"] for row in Predictor(read_asked([f"device={name}"])).rows()}
        for name in ("agx_orin_64gb", "h200")
    )
    assert set(h200) == set(ENGINES)
    assert set(h200) - set(orin) == {"fused_fp8"}
    assert h200["fused_fp8"] == h200["fused_int8"] < h200["fused_bf16"]


def test_no_figure_beats_its_bound_and_the_orin_is_foretold_within_a_quarter() -> None:
    rows = Predictor(read_asked(["device=agx_orin_64gb"])).checks()
    assert all(0 < row["bound_share"] < 1 for row in rows)
    errors = [row["error_frac"] for row in rows[-len(ORIN) :]]
    assert all(abs(error) < 0.25 for error in errors), errors
    assert all(abs(error) < 0.06 for error in errors[1:]), "those with locked clocks"


def test_an_engine_that_had_not_run_would_be_foretold_by_the_others_and_badly() -> None:
    """Which is why those without a row of their own have a bound alone."""
    rows = {row["what"]: row for row in Predictor(read_asked(["device=agx_orin_64gb"])).checks()[: len(H200)]}
    shares = sorted(row["bound_share"] for what, row in rows.items() if what != "fp32 on an H200")
    fp32 = rows["fp32 on an H200"]
    assert fp32["likely_rtf"] == pytest.approx(fp32["bound_rtf"] / shares[3])
    assert fp32["error_frac"] == pytest.approx(fp32["bound_share"] / shares[3] - 1)
    assert max(abs(row["error_frac"]) for row in rows.values()) > 1


def test_what_is_printed_says_that_it_was_not_measured_and_its_file_is_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb(main, ["device=agx_orin_64gb", "solver=euler_16", f"out={tmp_path}"]) == EXIT_OK
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("PREDICTED, not measured: Jetson AGX Orin 64 GB")
    assert "16 evaluations" in said[1]
    content = json.loads((tmp_path / "prediction.json").read_text())
    assert content["kind"] == "prediction"
    row = next(row for row in content["rows"] if row["engine"] == "tensorrt_fp16")
    assert row["bound_rtf"] == pytest.approx(0.0232 * 16 / 7, rel=0.01)
    assert row["likely_rtf"] is None, "it has not run on the card that shares are taken from"
    for load in (load_run, load_source):
        with pytest.raises(RecordError):
            load(tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], r"device"),
        (["device=agx_orin"], r"must be one of agx_orin_64gb"),
        (["device=h200", "generated_s=0"], r"generated_s"),
        (["device=h200", "engine=fp16"], r"engine"),
        (["device=h200", "generated=10"], r"generated"),
    ],
)
def test_what_it_does_not_know_it_refuses(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_asked(words)
    assert run_verb(main, words) == EXIT_USAGE
