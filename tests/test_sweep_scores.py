"""A sweep that goes on scores only what has no scores, or scores of something that is no longer there."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from experiments.measuring import running as running_module
from experiments.measuring.running import score
from experiments.scoring import ingredients as scored
from experiments.scoring.ingredients import is_scored
from experiments.settings.compose import compose_cells
from experiments.sweep import running as sweeping
from experiments.sweep.running import new_sweep, resumed_sweep, run_sweep
from metrics.record import load_record, save_record

FAKE = (sys.executable, "-m", "tests.fakes")
SMALL = (
    "workload=smoke", "measure.rounds=1", "measure.warmup_rounds=0", "measure.calibration=none",
    "measure.gemm_peak=false", "quality.metrics=[snr,log_mel]", "tracking=none", "out=out",
)  # fmt: skip
FP32, BF16 = Path("out/cells/fp32-euler_7"), Path("out/cells/bf16-euler_7")
REFERENCE = Path("out/reference")

Resume = Callable[[], list[str]]


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a sweep of two cells, its reference beside them, has come to its end; only looked at."""
    folder = tmp_path_factory.mktemp("complete")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("F5BENCH_STATE_DIR", str(folder / "locks"))
        made = new_sweep(compose_cells([*SMALL, "engine=fp32,bf16"]))
        made.command = FAKE
        assert run_sweep(made) == 0
    return folder


@pytest.fixture
def resume(complete: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resume:
    """Goes on with a copy of the complete sweep: what the cells that it scored are called."""
    shutil.copytree(complete, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path / "locks"))
    started: list[str] = []

    def counted(folder: Path, *rest: object) -> object:
        started.append(folder.name.partition("-")[0])
        return running_module.start_scoring(folder, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(sweeping, "start_scoring", counted)

    def again() -> list[str]:
        started.clear()
        resumed = resumed_sweep(Path("out"))
        resumed.command = FAKE
        assert run_sweep(resumed) == 0
        return list(started)

    return again


def test_a_complete_sweep_is_not_scored_again(resume: Resume, capfd: pytest.CaptureFixture[str]) -> None:
    before = [(folder / "result.json").read_bytes() for folder in (FP32, BF16)]
    capfd.readouterr()
    assert resume() == []
    assert "scoring 0 variants, 2 are scored already" in capfd.readouterr().err
    assert [(folder / "result.json").read_bytes() for folder in (FP32, BF16)] == before


def test_a_missing_score_is_made_and_no_other(resume: Resume) -> None:
    whole = load_record(BF16 / "result.json")
    assert whole.scores_of("snr_vs_reference_db")
    kept = tuple(one for one in whole.scores if (one.metric, one.utterance_id) != ("snr_vs_reference_db", "en03"))
    assert len(kept) == len(whole.scores) - 1
    save_record(replace(whole, scores=kept), BF16 / "result.json")
    assert resume() == ["bf16"]
    assert load_record(BF16 / "result.json") == whole
    (FP32 / "scored.json").unlink()  # as where the scoring itself had failed
    assert resume() == ["fp32"]
    assert is_scored(FP32, REFERENCE, None)


def test_a_reference_that_was_altered_heals_and_is_said_to_have(
    resume: Resume, capfd: pytest.CaptureFixture[str]
) -> None:
    wav = next((REFERENCE / "audio").iterdir())
    before = wav.read_bytes()
    audio_S, rate_hz = soundfile.read(wav, dtype="float32")
    soundfile.write(wav, 0.5 * audio_S, rate_hz, subtype="FLOAT")
    assert resume() == [], "it is again what the scores were made of"
    assert wav.read_bytes() == before
    assert f"{REFERENCE} is damaged (audio/{wav.name})" in capfd.readouterr().err


def test_another_reference_is_compared_with_again(resume: Resume) -> None:
    wav = next((REFERENCE / "audio").iterdir())
    assert is_scored(BF16, REFERENCE, FP32)
    audio_S, rate_hz = soundfile.read(wav, dtype="float32")
    soundfile.write(wav, 0.5 * audio_S, rate_hz, subtype="FLOAT")
    assert not is_scored(BF16, REFERENCE, FP32)


def test_a_file_written_again_with_the_same_bytes_is_the_same_file(resume: Resume) -> None:
    for path in [*REFERENCE.rglob("*.*"), *FP32.rglob("*.*")]:
        path.write_bytes(path.read_bytes())
    assert resume() == []


def test_an_oracle_that_sounds_otherwise_is_compared_with_again(resume: Resume) -> None:
    assert is_scored(BF16, REFERENCE, FP32)
    assert not is_scored(BF16, REFERENCE, None), "another question than the one that was answered"
    wav = next((FP32 / "audio").iterdir())
    wav.write_bytes(wav.read_bytes()[:-4] + b"\0\0\0\0")
    assert not is_scored(BF16, REFERENCE, FP32)


@pytest.mark.parametrize("part", ["scoring_hash", "_recipes"])
def test_other_means_make_other_scores(resume: Resume, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    assert is_scored(BF16, REFERENCE, FP32)
    monkeypatch.setattr(scored, part, lambda *given: "changed")
    assert not is_scored(BF16, REFERENCE, FP32)


@pytest.mark.parametrize("content", ["", "[]", '{"run": NaN}'])
def test_a_damaged_note_is_no_note(resume: Resume, content: str) -> None:
    (BF16 / "scored.json").write_text(content)
    assert not is_scored(BF16, REFERENCE, FP32)
    assert score(BF16, REFERENCE, FP32)
    assert is_scored(BF16, REFERENCE, FP32)
    assert set(json.loads((BF16 / "scored.json").read_text())) == {
        "run", "reference", "oracle", "floors", "means", "scores",
    }  # fmt: skip
