"""The GPU check within its budget, rehearsed on the CPU with pocket: real processes, real engines, no card."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from engine.contract import ConfigError
from experiments.checks import gpu as gpu_check
from experiments.checks.card import quick, steps, wheels
from experiments.checks.card.steps import Budget, Found, Row, Step, plan, row_of, take
from experiments.settings.compose import compose_cells
from metrics.record import to_json

POCKET = ["model=pocket", "vocoder=vocos", "device=cpu", "measure.gemm_peak=false"]


def overrides_for(folder: Path) -> list[str]:
    return [*gpu_check.workload_overrides(folder), *POCKET]


def test_the_most_telling_comes_first_and_what_takes_longest_last() -> None:
    cells = compose_cells([quick.PRESET])
    engines = {str(c.config["engine"]["name"]): quick.own_overrides(c.overrides, ()) for c in cells}
    order = [(step.engine, step.guidance) for step in plan(engines)]
    assert order[:6] == [
        ("peaks", "2"), ("fp32", "2"), ("bf16", "2"), ("cuda_graph", "2"), ("cuda_graph_compiled", "2"),
        ("cuda_call_compiled", "2"),
    ]  # fmt: skip
    assert order[-5:] == [("int8_torchao", "2"), ("upstream", "2"), ("fp32", "0"), ("bf16", "0"), ("cuda_graph", "0")]
    assert {name for name, _ in order[1:]} == engines.keys()
    assert engines["cuda_call"] == ("+vocoder.runtime=cuda",)
    assert engines["bf16"] == ()
    assert Step(engine="int8_torchao").limit_s < Step(engine="bf16").limit_s


def test_one_build_serves_correctness_and_timing_and_everything_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check, "REFERENCE_S", 1.0)
    monkeypatch.setattr(steps, "LIMITS_S", {})  # the limits are a card's
    monkeypatch.setattr(steps, "LIMIT_S", 600.0)
    found = Found(budget_s=None)
    few = (90, 96, 100)  # no fewer than there are letters
    taken = [Step(engine=name, rounds_s=0.1, frames=few) for name in ("fp32", "bf16", "cuda_graph")]
    take(tmp_path, overrides_for(tmp_path), taken, Budget(None), found)
    said = capsys.readouterr().out
    rows = {row.engine: row for row in found.rows}
    assert [(name, row.status) for name, row in rows.items()] == [
        ("fp32", "timed"), ("bf16", "timed"), ("cuda_graph", "skipped"),
    ]  # fmt: skip
    assert rows["fp32"].error == 0
    assert rows["bf16"].error is not None and 1e-4 < rows["bf16"].error < 5e-2  # noqa: PT018
    assert rows["bf16"].frames == rows["fp32"].frames == 100
    assert all(rows[name].repeats_equal and rows[name].rtf_ratio for name in ("fp32", "bf16"))
    assert "needs a CUDA device" in str(rows["cuda_graph"].reason)
    assert "skipped     cuda_graph" in said
    content = json.loads((tmp_path / "gpu_check.json").read_text())
    assert [row["engine"] for row in content["rows"]] == ["fp32", "bf16", "cuda_graph"]
    assert list(content["unproven"]) == ["cuda_graph"]
    assert quick.quick_verdict(found) == 11


def test_an_engine_that_goes_on_too_long_is_ended_and_the_next_one_has_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "LIMITS_S", {"fp32": 5.0})
    monkeypatch.setattr(steps, "FEWEST_S", 1.0)
    found = Found(budget_s=600)
    take(tmp_path, overrides_for(tmp_path), [Step(engine="fp32", rounds_s=500.0)], Budget(600), found)
    assert found.rows[0].status in ("stopped", "timed")
    assert found.unproven().get("fp32", "stopped").startswith("stopped")


def test_what_the_budget_did_not_reach_is_said(tmp_path: Path) -> None:
    clock = iter([0.0, *[400.0] * 100])
    found = Found(budget_s=360.0)
    engines: dict[str, tuple[str, ...]] = {"bf16": (), "cuda_graph": ()}
    take(tmp_path, [], plan(engines), Budget(360.0, lambda: next(clock)), found)
    assert {row.status for row in found.rows} == {"not reached"}
    assert found.unproven()["cuda_graph"] == "not reached (gpu_check.budget_s=360 was spent)"
    assert quick.quick_verdict(found) == 11
    assert json.loads((tmp_path / "gpu_check.json").read_text())["spent_s"] == 400.0


def left_by(folder: Path, engine: str, mel: np.ndarray, **told: object) -> None:
    """What a child leaves."""
    (folder / f"{engine}-2").mkdir()
    np.savez(folder / f"{engine}-2" / "0-0.npz", mel_ND=mel, audio_S=mel[:, 0])
    content = {"status": "timed", "precision": "bf16", "cases": ["280 frames"], "repeats_equal": True, **told}
    (folder / f"{engine}-2.json").write_text(to_json(content))


MEL = np.linspace(-4, 1, 600, dtype=np.float32).reshape(6, 100)


def test_a_wrong_mel_an_unequal_replay_and_an_unequal_loop_are_findings(tmp_path: Path) -> None:
    left_by(tmp_path, "fp32", MEL)
    left_by(tmp_path, "bf16", MEL * np.float32(1.001), walls_s=[0.1, 0.2, 0.3], audio_s=10.0)
    left_by(tmp_path, "cuda_graph", MEL * np.float32(1.002), repeats_equal=False)
    left_by(tmp_path, "fp16", MEL * np.float32(2))
    rows = [row_of(tmp_path, Step(engine=name), None) for name in ("bf16", "cuda_graph", "fp16")]
    assert [row.status for row in rows] == ["timed", "wrong", "wrong"]
    assert rows[0].rtf_ratio == pytest.approx(0.02)
    assert steps.equality(tmp_path, "2") == [
        {"what": "case 0, guidance 2", "equal": False}, {"what": "replayed, guidance 2", "equal": False},
    ]  # fmt: skip
    assert quick.quick_verdict(Found(budget_s=1, rows=rows, equality=[{"equal": True}])) == 10


@pytest.mark.parametrize(
    ("status", "rtf", "equal", "code"),
    [
        ("timed", 0.003, [True], 0), ("timed", 0.005, [True], 10), ("timed", 0.003, [False], 10),
        ("failed", None, [True], 14), ("stopped", None, [True], 11), ("skipped", None, [True], 11),
        ("timed", 0.003, [], 11), ("wrong", 0.003, [True], 10),
    ],
)  # fmt: skip
def test_the_quick_verdict(status: str, rtf: float | None, equal: Sequence[bool], code: int) -> None:
    row = Row(engine="cuda_graph", guidance="2", status=status, rtf_ratio=rtf)
    found = Found(budget_s=1, max_rtf=0.004, rows=[row], equality=[{"equal": each} for each in equal])
    assert quick.quick_verdict(found) == code


def test_the_budget_is_a_setting() -> None:
    assert gpu_check.asked_budget([]) == 360
    assert gpu_check.asked_budget(["gpu_check.budget_s=90"]) == 90
    assert gpu_check.asked_budget(["gpu_check.budget_s=null"]) is None
    with pytest.raises(ConfigError, match=r"gpu_check.budget_s=0: must be a number above 0, or null; use 360"):
        gpu_check.asked_budget(["gpu_check.budget_s=0"])
    with pytest.raises(ConfigError, match=r"gpu_check.budget"):
        gpu_check.asked_rtf(["gpu_check.budget=3"])


def test_wheels_for_a_bare_machine_are_gathered_told_and_kept_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def pip(arguments: Sequence[str]) -> int:
        asked.append(list(arguments))
        for name in [word for word in arguments if word in wheels.LACKING]:
            (tmp_path / f"{name}-1-py3-none-any.whl").write_bytes(b"x" * 1000)
        return 0

    found = wheels.gather(tmp_path, pip)
    assert len(found) == len(wheels.LACKING)
    assert all("--no-deps" in words for words in asked)
    assert "--no-index --no-deps" in wheels.told(tmp_path, found)
    assert (tmp_path / "wheels.txt").read_text().split() == list(wheels.LACKING)
    monkeypatch.setattr(wheels, "MOST_BYTES", 5000)
    with pytest.raises(ConfigError, match="begin with an empty folder"):
        wheels.gather(tmp_path, pip)
    with pytest.raises(ConfigError, match="pip download ended with 1"):
        wheels.gather(tmp_path, lambda arguments: 1)
    with pytest.raises(ConfigError, match="must be one folder"):
        gpu_check.main(["--wheels"])
