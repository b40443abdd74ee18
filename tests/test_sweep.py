"""Many variants: one that fails is a row, an interrupted sweep goes on where it stopped."""

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.common.journal import read_journal
from experiments.scoring.sides import oracle_of
from experiments.settings.compose import compose_cells
from experiments.sweep.cells import Sweep
from experiments.sweep.ledger import load_ledger
from experiments.sweep.running import new_sweep, resumed_sweep, run_sweep
from metrics.record import RecordError, load_record

FAKE = (sys.executable, "-m", "tests.fakes")
SMALL = (
    "workload=smoke", "measure.rounds=1", "measure.warmup_rounds=0", "measure.calibration=none",
    "measure.gemm_peak=false", "quality.metrics=[snr,log_mel]", "tracking=none",
)  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path / "locks"))
    return tmp_path


def sweep(*overrides: str) -> Sweep:
    made = new_sweep(compose_cells([*SMALL, "out=out", *overrides]))
    made.command = FAKE
    return made


def states(folder: Path) -> dict[str, str]:
    content = json.loads((folder / "sweep.json").read_text())
    return {cell["label"]: cell["state"] for cell in content["cells"]}


def content(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "sweep.json").read_text()))


def test_a_variant_that_fails_does_not_end_the_sweep(elsewhere: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = sweep("engine=fp16,int8,amp,fp32,bf16")
    assert states(Path("out")) == dict.fromkeys(states(Path("out")), "pending")
    assert run_sweep(made) == 14
    assert states(Path("out")) == {
        "fp16-euler_7": "skipped", "int8-euler_7": "failed", "amp-euler_7": "failed", "fp32-euler_7": "ok",
        "bf16-euler_7": "ok",
    }  # fmt: skip
    written = content(Path("out"))
    assert (written["status"], written["reference"]) == ("done", "reference")
    assert written["finished"]
    assert [cell["reason"] for cell in written["cells"]][:3] == [
        "fp16 has no kernels here", "RuntimeError: the quantiser fell over",
        "killed by signal 9 (SIGKILL); trials kept: 1",
    ]  # fmt: skip
    bf16 = load_record(Path("out/cells/bf16-euler_7/result.json"))
    for metric in ("snr_vs_reference_db", "snr_vs_oracle_db"):
        assert [score.value for score in bf16.scores_of(metric)] == pytest.approx([60.0, 60.0], abs=0.1)
    assert not load_record(Path("out/cells/fp32-euler_7/result.json")).scores_of("snr_vs_oracle_db")
    assert (elsewhere / "out" / "report.md").is_file()
    captured = capfd.readouterr()
    assert "bf16-euler_7" in captured.out
    assert "[5/5] bf16-euler_7: ok" in captured.err


def test_a_cell_of_the_sweep_is_its_reference(elsewhere: Path) -> None:
    assert run_sweep(sweep("engine=fp32,bf16", "solver=euler_32")) == 0
    assert content(Path("out"))["reference"] == "cells/fp32-euler_32"
    assert not Path("out/reference").exists()
    bf16 = load_record(Path("out/cells/bf16-euler_32/result.json"))
    assert bf16.scores_of("snr_vs_reference_db")[0].value == pytest.approx(60.0, abs=0.1)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as at a terminal: a shell that starts the tests in the background has them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_leaves_a_sweep_that_goes_on(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    made = sweep("engine=fp32,bf16,upstream")
    monkeypatch.setenv("FAKE_BF16", "interrupt")
    assert run_sweep(made) == 130
    assert "python -m experiments.sweep resume=out" in capfd.readouterr().err.splitlines()[-1]
    assert content(Path("out"))["status"] == "interrupted"
    assert list(states(Path("out")).values()) == ["ok", "pending", "pending"]
    assert len(read_journal(Path("out/cells/bf16-euler_7/journal.jsonl")).trials) == 1
    first = load_record(Path("out/cells/fp32-euler_7/result.json"))

    monkeypatch.delenv("FAKE_BF16")
    resumed = resumed_sweep(Path("out"))
    resumed.command = FAKE
    assert run_sweep(resumed) == 0
    assert list(states(Path("out")).values()) == ["ok", "ok", "ok"]
    again = load_record(Path("out/cells/fp32-euler_7/result.json"))
    assert (again.run_id, again.trials) == (first.run_id, first.trials)
    assert Path("out/cells/bf16-euler_7/journal.1.jsonl").is_file()
    assert again.scores_of("snr_vs_reference_db")


def test_a_resumed_sweep_tries_what_failed_again_and_leaves_what_was_skipped(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_sweep(sweep("engine=fp16,int8")) == 14
    skipped = Path("out/cells/fp16-euler_7/result.json").read_bytes()
    monkeypatch.setenv("FAKE_INT8", "")
    resumed = resumed_sweep(Path("out"))
    resumed.command = FAKE
    assert run_sweep(resumed) == 0
    assert states(Path("out")) == {"fp16-euler_7": "skipped", "int8-euler_7": "ok"}
    assert Path("out/cells/fp16-euler_7/result.json").read_bytes() == skipped


def test_fail_fast_leaves_the_rest_for_later(elsewhere: Path) -> None:
    assert run_sweep(sweep("engine=int8,fp32", "sweep.fail_fast=true")) == 14
    assert states(Path("out")) == {"int8-euler_7": "failed", "fp32-euler_7": "pending"}
    assert content(Path("out"))["status"] == "interrupted"


def test_nothing_supported_is_a_failure(elsewhere: Path) -> None:
    assert run_sweep(sweep("engine=fp16", "solver=euler_6,euler_7")) == 14


def test_settings_differ_by_cell_and_references_with_them(elsewhere: Path) -> None:
    assert run_sweep(sweep("engine=bf16", "seed=0,1")) == 0
    for seed in (0, 1):
        record = load_record(Path(f"out/cells/bf16-euler_7-seed={seed}/result.json"))
        assert record.config["seed"] == seed
        assert record.scores_of("snr_vs_reference_db")[0].value == pytest.approx(60.0, abs=0.1)
    assert content(Path("out"))["reference"] == "reference"
    assert Path("out/reference-2/result.json").is_file()


def test_the_oracle_of_a_cell_is_float32_on_its_own_grid() -> None:
    cells = compose_cells(["engine=fp32,bf16", "solver=euler_6,euler_7"])
    oracles = [oracle_of(cells, cell) for cell in cells]
    assert [oracle.label if oracle else None for oracle in oracles] == [None, None, "fp32-euler_6", "fp32-euler_7"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [("{", "not a sweep file"), ('{"schema_version": 9}', "another schema version"), ("[]", "another schema version"),
     ('{"schema_version": 1, "cells": [{}]}', "damaged sweep file")],
)  # fmt: skip
def test_a_damaged_sweep_file_is_named(damage: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(damage)
    with pytest.raises(RecordError, match=message):
        load_ledger(tmp_path)
