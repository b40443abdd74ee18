"""`experiments.gpu_check` as far as a machine without GPU can run it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.contract import ConfigError
from experiments import gpu_check
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
