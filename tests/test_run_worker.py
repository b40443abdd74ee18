"""What a worker leaves, in this process: files, record and journal that agree."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from experiments.common.journal import read_journal
from experiments.measuring import worker
from experiments.measuring.job import JobSpec, new_job, read_job, write_job
from metrics.record import RecordError, load_record
from metrics.speed.steady import unsteady_reason
from tests import fakes
from tests.engines import config

SMALL = ("workload=smoke", "measure.rounds=2", "measure.warmup_rounds=1", "measure.calibration=gemm")


def job(folder: Path, *overrides: str, kind: str = "measure") -> JobSpec:
    spec = new_job(folder, "label", kind, config(*SMALL, *overrides))  # type: ignore[arg-type]
    write_job(spec)
    return spec


def test_a_measured_run_is_complete(tmp_path: Path) -> None:
    worker.run_job(job(tmp_path), fakes.build)
    record = load_record(tmp_path / "result.json")
    assert (record.status, record.reason, record.label) == ("ok", None, "label")
    assert (len(record.trials), len(record.steady_trials)) == (6, 4)
    assert record.trials == read_journal(tmp_path / "journal.jsonl").trials
    assert all(trial.calibration_s and trial.calibration_cpu_s for trial in record.trials)
    assert {reading.work for reading in record.calibrations} == {"gemm"}
    assert record.build_s is not None
    assert record.first_call_s is not None
    assert record.peak_rss_bytes is not None
    assert record.peak_rss_bytes > 10**7
    assert record.facts is not None
    assert record.facts["name"] == "fp32"
    assert record.environment["host_class"]
    assert record.workload["generated_s"] == pytest.approx(sum(u.num_samples for u in record.utterances) / 24000)
    assert [(score.metric, score.value) for score in record.scores] == [("audio_repeats_identical", 1.0)]


def test_the_files_hold_what_was_spoken(tmp_path: Path) -> None:
    worker.run_job(job(tmp_path), fakes.build)
    for utterance in load_record(tmp_path / "result.json").utterances:
        audio_S, rate_hz = soundfile.read(tmp_path / utterance.audio_path, dtype="float32")
        assert rate_hz == 24000
        assert soundfile.info(tmp_path / utterance.audio_path).subtype == "FLOAT"
        assert (
            audio_S.tobytes() == fakes.speech(utterance.num_samples, fakes.pitch_of(utterance.utterance_id)).tobytes()
        )
        mel_ND = np.load(tmp_path / utterance.mel_path)
        assert (mel_ND.shape, mel_ND.dtype) == ((utterance.num_frames, 100), np.dtype("float32"))


def test_a_reference_speaks_once_and_times_nothing(tmp_path: Path) -> None:
    worker.run_job(job(tmp_path, kind="reference"), fakes.build)
    record = load_record(tmp_path / "result.json")
    assert (record.status, record.trials, record.first_call_s) == ("ok", (), None)
    assert [u.utterance_id for u in record.utterances] == ["en03", "en05"]


def test_one_round_says_that_it_has_no_repeats(tmp_path: Path) -> None:
    worker.run_job(job(tmp_path, "measure.rounds=1"), fakes.build)
    score = load_record(tmp_path / "result.json").scores[0]
    assert (score.metric, score.status) == ("audio_repeats_identical", "too_few")


def test_unsupported_is_skipped_with_the_remedy(tmp_path: Path) -> None:
    worker.run_job(job(tmp_path, "engine=fp16"), fakes.build)
    record = load_record(tmp_path / "result.json")
    assert (record.status, record.reason, record.remedy) == ("skipped", "fp16 has no kernels here", "use engine=bf16")
    assert not (tmp_path / "error.txt").exists()


def test_an_error_is_one_line_with_its_trials_kept_and_the_traceback_beside(tmp_path: Path) -> None:
    worker.run_job(job(tmp_path, "engine=int8"), fakes.build)
    record = load_record(tmp_path / "result.json")
    assert (record.status, record.reason) == ("failed", "RuntimeError: the quantiser fell over")
    assert len(record.trials) == 1
    assert "Traceback" in (tmp_path / "error.txt").read_text()


def test_the_time_limit_is_a_failure_that_keeps_its_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = fakes.FakeClock()
    monkeypatch.setattr(worker, "make_clock", lambda kind: clock)

    def build(config, given):  # type: ignore[no-untyped-def]
        return fakes.FakeEngine(fakes.facts(), clock, seconds=4.0)

    worker.run_job(
        job(tmp_path, "measure.time_limit_s=10", "measure.calibration=none", "measure.gemm_peak=false"), build
    )
    record = load_record(tmp_path / "result.json")
    assert (record.status, record.reason) == ("failed", "time limit of 10 s reached, 2 of 6 trials made")
    assert "measure.time_limit_s" in (record.remedy or "")
    assert len(record.trials) == 2


def test_slow_solvers_take_the_short_plan_by_what_was_built(tmp_path: Path) -> None:
    worker.run_job(job(tmp_path, "solver=euler_32"), fakes.build)
    assert len(load_record(tmp_path / "result.json").trials) == 2


def test_a_job_file_is_read_back_or_named(tmp_path: Path) -> None:
    spec = job(tmp_path)
    assert read_job(tmp_path) == spec
    (tmp_path / "job.json").write_text("{")
    with pytest.raises(RecordError, match=r"job.json: damaged job file"):
        read_job(tmp_path)
    with pytest.raises(RecordError, match="no such job"):
        read_job(tmp_path / "elsewhere")


def test_an_engine_that_compiles_while_it_is_timed_says_so_in_its_record(tmp_path: Path) -> None:
    class Compiling(fakes.FakeEngine):
        def synthesize(self, requests):  # type: ignore[no-untyped-def]
            spoken = super().synthesize(requests)
            self.facts = replace(
                self.facts, proof={"steady_counters": {"compilations": len(self.calls), "captures": 1}}
            )
            return spoken

    built = replace(fakes.facts(), proof={"steady_counters": {"compilations": 0, "captures": 1}})
    worker.run_job(job(tmp_path), lambda config, clock: Compiling(built))
    record = load_record(tmp_path / "result.json")
    found = {score.metric: (score.status, score.reason) for score in record.scores}
    assert found["steady_counters"] == ("error", "compilations went from 3 to 7 in the timed region")
    assert unsteady_reason(record) == "compilations went from 3 to 7 in the timed region"


def test_the_counters_of_a_steady_engine_stand_still(tmp_path: Path) -> None:
    built = replace(fakes.facts(), proof={"steady_counters": {"compilations": 3}})
    worker.run_job(job(tmp_path, "measure.warmup_rounds=8"), lambda config, clock: fakes.FakeEngine(built))
    record = load_record(tmp_path / "result.json")
    assert ("steady_counters", 1.0) in [(score.metric, score.value) for score in record.scores]
    assert unsteady_reason(record) is None
    assert len([t for t in record.trials if t.is_warmup]) >= 6
