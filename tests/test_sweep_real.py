"""The pocket model through everything: two engines, their reference, scores, report; nothing is faked."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from experiments.common.cli import run_verb
from experiments.sweep.__main__ import main
from metrics.record import load_record

pytestmark = pytest.mark.slow


def test_a_small_sweep_of_the_pocket_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path / "locks"))
    argv = [
        "engine=fp32,int8", "solver=euler_6", "workload.select=[en04]", "measure.rounds=2", "tracking=none", "out=out",
    ]  # fmt: skip
    assert run_verb(main, argv) == 0
    assert json.loads(Path("out/sweep.json").read_text())["status"] == "done"
    records = {name: load_record(Path(f"out/cells/{name}-euler_6/result.json")) for name in ("fp32", "int8")}
    for record in records.values():
        assert record.facts is not None
        proof = record.facts["proof"]  # the warm-up ends when it is steady, so the calls are not known beforehand
        assert proof["num_evals"] == 6 * proof["calls"]
        assert proof["calls"] >= len(record.trials) > 2
        assert [score.value for score in record.scores_of("audio_valid")] == [1.0]
        assert [score.value for score in record.scores_of("audio_repeats_identical")] == [1.0]
        assert {trial.num_evals for trial in record.trials} == {6}
        assert all(trial.audio_s > 0.3 and trial.calibration_s for trial in record.trials)
        assert record.scores_of("snr_vs_reference_db")[0].value is not None
    audio_S, rate_hz = soundfile.read("out/cells/fp32-euler_6/audio/en04.wav", dtype="float32")
    assert rate_hz == 24000
    assert np.sqrt(np.mean(audio_S**2)) > 0.01
    oracle = records["int8"].scores_of("log_mel_mae_vs_oracle")[0].value
    assert oracle is not None
    assert oracle < 0.1
    assert "int8-euler_6" in capfd.readouterr().out
    assert Path("out/report.md").is_file()
