"""`experiments.checks.gpu` as far as a machine without GPU can run it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.backends.onnx import denoiser as onnx_graph
from engine.contract import ConfigError
from experiments.checks import gpu as gpu_check
from experiments.checks import gpu_correct
from experiments.compare.settings import read_command
from experiments.settings.compose import compose_cells, compose_config
from experiments.workload.requests import load_workload
from metrics.record import to_json
from tests.engines import engine
from tests.test_report_data import FakeCell, write_sweep


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


@pytest.mark.parametrize(("reference", "candidate"), gpu_check.PAIRS)
def test_both_sides_of_a_comparison_speak_the_same_with_one_voice(
    tmp_path: Path, reference: str, candidate: str
) -> None:
    own = ["reference.target_rms=0.2", "solver=euler_7"]
    overrides = [*gpu_check.workload_overrides(tmp_path), *own]
    command = read_command([*gpu_check.compare_arguments(reference, candidate, overrides), f"out={tmp_path / 'out'}"])
    sides = {name: compose_config(side.overrides) for name, side in command.sides.items()}
    assert {name: side["engine"]["name"] for name, side in sides.items()} == {
        "reference": reference, "candidate": candidate,
    }  # fmt: skip
    for group in ("reference", "workload", "model", "vocoder", "solver", "device"):
        assert sides["reference"][group] == sides["candidate"][group]
    assert [voice["id"] for voice in sides["candidate"]["reference"]["voices"]] == ["repeated"]
    assert sides["candidate"]["reference"]["target_rms"] == 0.2
    assert (command.settings.asked.mode, command.settings.asked.pairs) == ("quick", 48)


FAST = {"cuda_graph": 0.003, "bf16": 0.01}


@pytest.mark.parametrize(
    ("equal", "rows", "codes", "max_rtf", "missing", "code"),
    [
        ([True, True], FAST, {"sweep": 0}, 0.004, (), 0),
        ([True, False], FAST, {"sweep": 0}, 0.004, (), 10),
        ([True], FAST, {"checks.gpu_correct": 10, "sweep": 0}, 0.004, (), 10),
        ([True], FAST, {"checks.gpu_correct": 14, "sweep": 0}, 0.004, (), 14),
        ([True], {"cuda_graph": 0.005}, {"sweep": 0}, 0.004, (), 10),
        ([True], {"cuda_graph": 0.005}, {"sweep": 0}, None, (), 0),
        ([True], FAST, {"sweep": 0, "bf16-cuda_graph": 1}, 0.004, (), 14),
        ([True], {"cuda_graph": None, "bf16": 0.01}, {"sweep": 0}, 0.004, (), 14),
        ([], FAST, {"sweep": 0}, 0.004, (), 14),
        ([True], FAST, {"sweep": 0}, 0.004, ("tensorrt",), 11),
        ([True], FAST, {"sweep": 14}, 0.004, ("tensorrt",), 14),
        ([False], FAST, {"sweep": 0}, 0.004, ("tensorrt",), 10),
    ],
)
def test_the_verdict(
    equal: list[bool],
    rows: dict[str, float | None],
    codes: dict[str, int],
    max_rtf: float | None,
    missing: tuple[str, ...],
    code: int,
) -> None:
    assert gpu_check.verdict(equal, rows, codes, max_rtf, missing) == code


def checked(folder: Path, monkeypatch: pytest.MonkeyPatch, sweep_code: int, *cells: FakeCell) -> int:
    """`check` where every engine of the preset has RTF 0.002 but those given; what needs a GPU is made up."""
    names = [cell.config["engine"]["name"] for cell in compose_cells([gpu_check.PRESET])]
    given = {cell.engine: cell for cell in cells}
    made = [given.get(name) or FakeCell(label=f"{name}-euler_7", rtf=0.002, scores=()) for name in names]
    skipped = [gpu_correct.Row(engine=c.engine, guidance="2", frames=None, status="skipped", reason="x") for c in cells]

    def verb(name: str, *arguments: str) -> int:
        if name == gpu_check.CORRECT:
            (folder / "correctness.json").write_text(to_json([asdict(row) for row in skipped]))
        if name == "sweep":
            write_sweep(folder / "sweep", made)
        return sweep_code if name == "sweep" else 0

    monkeypatch.setattr(gpu_check, "verb", verb)
    monkeypatch.setattr(gpu_check, "equality", lambda overrides: [{"what": "563 frames", "equal": True}])
    return gpu_check.thorough(folder, gpu_check.workload_overrides(folder), None)


NO_TENSORRT = {"state": "skipped", "reason": "TensorRT is not installed", "remedy": "pip install '.[tensorrt]'"}


def test_engines_that_were_skipped_are_not_proven_and_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = [FakeCell(label=f"{name}-euler_7", **NO_TENSORRT) for name in ("tensorrt", "tensorrt_fp32")]
    assert checked(tmp_path, monkeypatch, 0, *absent) == 11
    said = capsys.readouterr()
    assert said.err == "error: cannot tell: what ran is proven, but not tensorrt, tensorrt_fp32\n"
    assert "not proven  tensorrt: skipped (TensorRT is not installed; pip install '.[tensorrt]')" in said.out
    content = json.loads((tmp_path / "thorough.json").read_text())
    assert (content["exit_code"], list(content["unproven"])) == (11, ["tensorrt", "tensorrt_fp32"])


def test_an_engine_that_failed_or_left_no_record_is_named_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = FakeCell(label="tensorrt-euler_7", state="failed", reason="killed by signal 9", remedy="see worker.log")
    lost = FakeCell(label="onnx_cuda-euler_7", state="failed", has_record=False)
    assert checked(tmp_path, monkeypatch, 14, failed, lost) == 14
    said = capsys.readouterr().out
    assert "not proven  tensorrt: failed (killed by signal 9; see worker.log)" in said
    assert "not proven  onnx_cuda: failed (the sweep left no record of it)" in said


def test_all_engines_proven_is_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked(tmp_path, monkeypatch, 0) == 0


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


def test_an_error_of_onnx_runtimes_own_costs_that_engine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")

    def unbound(session: Any, binding: Any, device: torch.device) -> None:
        session.run_with_iobinding(session.io_binding())

    monkeypatch.setattr(onnx_graph, "run_bound", unbound)
    pocket = ["model=pocket", "vocoder=vocos", "device=cpu", "solver=euler_5"]
    overrides = [*gpu_check.workload_overrides(tmp_path), *pocket]
    rows = list(gpu_correct.correctness(["onnx", "bf16"], overrides, (60,), ("2",)))
    assert [(row.engine, row.status) for row in rows] == [("onnx", "failed"), ("bf16", "ok")]
    assert rows[0].reason
    assert gpu_correct.exit_code(rows) == 14


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


def test_its_parts_are_modules_that_there_are() -> None:
    """Each is started by `verb`, which the tests above replace."""
    import importlib.util

    for name in (gpu_check.CORRECT, "sweep", "compare"):
        assert importlib.util.find_spec(f"experiments.{name}") is not None
