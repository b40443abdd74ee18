"""`experiments.gpu_check` as far as a machine without GPU can run it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.contract import ConfigError
from experiments import gpu_check, gpu_correct
from experiments.compose import compose_cells, compose_config
from experiments.workload import load_workload
from tests.engines import engine


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_a_gpu_it_ends_with_12_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main([f"out={tmp_path / 'x'}"]) == 12
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "needs a CUDA device" in said.err
    assert not (tmp_path / "x").exists()


def test_options_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ConfigError, match="--fast"):
        gpu_check.main(["--fast"])


def test_the_workload_is_five_seconds_of_reference_and_ten_generated(tmp_path: Path) -> None:
    overrides = gpu_check.workload_overrides(tmp_path)
    (ask,) = load_workload(compose_config(overrides)).requests
    assert len(ask.ref_audio_S) / ask.ref_sample_rate_hz == 5.0
    pocket = ["model=pocket", "vocoder=vocos", "device=cpu", "solver=euler_6"]
    with engine(*overrides, *pocket) as ours:
        result = ours.synthesize([ask])[0]
    assert len(result.audio_S) / result.sample_rate_hz == pytest.approx(10.0, abs=0.05)
    assert result.num_chunks == 1
    assert np.isfinite(result.audio_S).all()


def test_every_cell_composes_with_the_workload(tmp_path: Path) -> None:
    cells = compose_cells(["experiment=gpu_check", *gpu_check.workload_overrides(tmp_path)])
    names = {cell.config["engine"]["name"] for cell in cells}
    assert {"upstream", "bf16", "cuda_graph", "cuda_graph_compiled"} <= names
    assert {cell.config["device"]["kind"] for cell in cells} == {"cuda:0"}
    assert {name for pair in gpu_check.PAIRS for name in pair} <= names


FAST = {"cuda_graph": 0.003, "bf16": 0.01}


@pytest.mark.parametrize(
    ("equal", "rows", "codes", "max_rtf", "code"),
    [
        ([True, True], FAST, {"sweep": 0}, 0.004, 0),
        ([True, False], FAST, {"sweep": 0}, 0.004, 10),
        ([True], FAST, {"gpu_correct": 10, "sweep": 0}, 0.004, 10),
        ([True], FAST, {"gpu_correct": 14, "sweep": 0}, 0.004, 14),
        ([True], {"cuda_graph": 0.005}, {"sweep": 0}, 0.004, 10),
        ([True], {"cuda_graph": 0.005}, {"sweep": 0}, None, 0),
        ([True], FAST, {"sweep": 0, "bf16-cuda_graph": 1}, 0.004, 14),
        ([True], {"cuda_graph": None, "bf16": 0.01}, {"sweep": 0}, 0.004, 14),
        ([], FAST, {"sweep": 0}, 0.004, 14),
    ],
)
def test_the_verdict(
    equal: list[bool], rows: dict[str, float | None], codes: dict[str, int], max_rtf: float | None, code: int
) -> None:
    assert gpu_check.verdict(equal, rows, codes, max_rtf) == code


def test_engines_that_are_right_are_near_float32_and_what_is_not_here_is_skipped(tmp_path: Path) -> None:
    pocket = ["model=pocket", "vocoder=vocos", "device=cpu", "solver=euler_5"]
    overrides = [*gpu_check.workload_overrides(tmp_path), *pocket]
    rows = list(gpu_correct.correctness(["cuda_graph", "onnx", "bf16"], overrides, (60,), ("2",)))
    assert [(row.engine, row.guidance, row.frames, row.status) for row in rows] == [
        ("cuda_graph", "2", None, "skipped"), ("onnx", "2", 60, "ok"), ("bf16", "2", 60, "ok"),
    ]  # fmt: skip
    assert all(row.error and row.error > 1e-4 for row in rows if row.engine == "bf16")
    assert all("CUDA" in str(row) for row in rows if row.status == "skipped")
    assert gpu_correct.exit_code(rows) == 0


MEL = np.linspace(-4, 1, 600, dtype=np.float32).reshape(6, 100)


@pytest.mark.parametrize(
    ("mel", "precision", "status"),
    [
        (MEL, "fp32", "ok"), (MEL * 1.01, "fp32", "wrong"), (MEL * 1.01, "bf16", "ok"), (MEL * 1.1, "fp16", "wrong"),
        (MEL * 1.1, "int8_torchao", "ok"), (MEL * 0, "int8", "wrong"), (MEL[::-1], "int8", "wrong"),
        (MEL[:5], "fp32", "wrong"), (MEL * np.float32("nan"), "int8", "wrong"),
    ],
)  # fmt: skip
def test_a_mel_is_judged_by_its_precision(mel: np.ndarray, precision: str, status: str) -> None:
    assert gpu_correct.judged(mel, MEL, gpu_correct.allowed_for(precision))[0] == status


@pytest.mark.parametrize(
    ("statuses", "code"), [(["ok", "wrong", "failed"], 10), (["ok", "failed"], 14), (["skipped"], 14), (["ok"], 0)]
)
def test_one_wrong_engine_decides(statuses: list[gpu_correct.Status], code: int) -> None:
    rows = [gpu_correct.Row(engine="e", guidance="2", frames=9, status=status) for status in statuses]
    assert gpu_correct.exit_code(rows) == code
