"""Scores are of the files that the timed run left, and a file that is not right gets a status instead of a number."""

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile

from experiments.measuring import worker
from experiments.measuring.job import new_job, write_job
from experiments.scoring import reference as references
from experiments.scoring.audio import expected_samples
from experiments.scoring.score import main, score_run
from metrics.record import Floor, RunRecord, Score, Utterance, load_record, save_record
from tests import fakes
from tests.engines import config

SMALL = (
    "workload=smoke",
    "measure.rounds=2",
    "measure.calibration=none",
    "measure.gemm_peak=false",
    "quality.metrics=[snr,log_mel]",
)


KEPT = tempfile.TemporaryDirectory()  # goes with the process


def made(folder: Path, *overrides: str, kind: str = "measure") -> Path:
    """A run folder left by a worker with the fake engine: a copy of the one that was measured first."""
    shutil.copytree(_measured(kind, overrides), folder)
    return folder


@cache
def _measured(kind: str, overrides: tuple[str, ...]) -> Path:
    folder = Path(tempfile.mkdtemp(dir=KEPT.name)) / "run"
    chosen = config(*SMALL, *overrides)
    job = new_job(folder, f"{chosen['engine']['name']}-{chosen['solver']['name']}", kind, chosen)  # type: ignore[arg-type]
    write_job(job)
    worker.run_job(job, fakes.build)
    return folder


def scores(record: RunRecord, metric: str) -> dict[str | None, Score]:
    return {score.utterance_id: score for score in record.scores_of(metric)}


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return made(tmp_path / "reference", "solver=euler_32", kind="reference")


def test_an_error_of_a_thousandth_is_sixty_decibels(tmp_path: Path, reference: Path) -> None:
    record = score_run(made(tmp_path / "run", "engine=bf16"), reference, None)
    snr = scores(record, "snr_vs_reference_db")
    assert set(snr) == {"en03", "en05"}
    assert [score.value for score in snr.values()] == pytest.approx([60.0, 60.0], abs=0.1)
    assert [score.value for score in scores(record, "log_mel_mae_vs_reference").values()] == [0.0, 0.0]
    assert {score.value for score in scores(record, "audio_valid").values()} == {1.0}
    assert load_record(tmp_path / "run" / "result.json") == record


def test_scoring_again_gives_the_same_and_keeps_what_the_run_knew(tmp_path: Path, reference: Path) -> None:
    folder = made(tmp_path / "run", "engine=bf16")
    once = score_run(folder, reference, None)
    assert score_run(folder, reference, None) == once
    assert scores(once, "audio_repeats_identical")[None].value == 1.0


def test_the_oracle_is_the_float32_run_on_the_same_grid(tmp_path: Path, reference: Path) -> None:
    oracle = made(tmp_path / "oracle", "engine=fp32")
    record = score_run(made(tmp_path / "run", "engine=bf16"), reference, oracle)
    assert scores(record, "snr_vs_oracle_db")["en03"].value == pytest.approx(60.0, abs=0.1)
    other_grid = score_run(tmp_path / "run", reference, made(tmp_path / "six", "solver=euler_6"))
    refused = scores(other_grid, "snr_vs_oracle_db")["en03"]
    assert refused.status == "not_comparable"
    assert "grid differs" in (refused.reason or "")


def test_another_seed_is_not_comparable(tmp_path: Path, reference: Path) -> None:
    record = score_run(made(tmp_path / "run", "engine=bf16", "seed=1"), reference, None)
    assert {score.status for score in scores(record, "snr_vs_reference_db").values()} == {"not_comparable"}


def test_the_reference_is_not_compared_with_itself(tmp_path: Path) -> None:
    record = score_run(made(tmp_path / "run", "solver=euler_32"), None, None)
    own = scores(record, "snr_vs_reference_db")["en03"]
    assert (own.status, own.reason) == ("not_applicable", "is the reference")
    assert scores(record, "audio_valid")["en03"].value == 1.0


def test_without_a_reference_that_is_said(tmp_path: Path) -> None:
    record = score_run(made(tmp_path / "run"), None, None)
    own = scores(record, "snr_vs_reference_db")["en03"]
    assert (own.status, own.reason) == ("unavailable", "no reference was given")


PROPERTIES = ("audio_repeats_identical", "warm_up_steady")  # of the run, not of its audio


def test_random_weights_have_no_quality(tmp_path: Path, reference: Path) -> None:
    folder = made(tmp_path / "run")
    record = load_record(folder / "result.json")
    save_record(replace(record, facts={**(record.facts or {}), "random_weights": True}), folder / "result.json")
    scored = score_run(folder, reference, None)
    reasons = {(score.status, score.reason) for score in scored.scores if score.metric not in PROPERTIES}
    assert reasons == {("not_applicable", "random weights: a speed workload")}


def test_random_weights_that_overflow_are_still_invalid(tmp_path: Path, reference: Path) -> None:
    folder = made(tmp_path / "run")
    record = load_record(folder / "result.json")
    save_record(replace(record, facts={**(record.facts or {}), "random_weights": True}), folder / "result.json")
    soundfile.write(folder / "audio/en03.wav", np.full(42000, np.nan, np.float32), 24000, subtype="FLOAT")
    assert scores(score_run(folder, reference, None), "audio_valid")["en03"].status == "error"


def test_quality_can_be_switched_off_but_validity_cannot(tmp_path: Path) -> None:
    record = score_run(made(tmp_path / "run", "quality.enabled=false"), None, None)
    assert scores(record, "snr_vs_reference_db")["en03"].reason == "quality.enabled=false"
    assert scores(record, "audio_valid")["en03"].value == 1.0


@pytest.mark.parametrize(
    ("damage", "reason"),
    [("missing", "cannot be read"), ("garbage", "cannot be read"), ("short", "samples, must be"), ("silent", "silent")],
)
def test_a_damaged_file_costs_its_own_sentence(damage: str, reason: str, tmp_path: Path, reference: Path) -> None:
    folder = made(tmp_path / "run", "engine=bf16")
    path = folder / "audio" / "en03.wav"
    audio_S, rate_hz = soundfile.read(path, dtype="float32")
    if damage == "missing":
        path.unlink()
    elif damage == "garbage":
        path.write_bytes(b"RIFFnothing")
    else:
        soundfile.write(path, audio_S[:-256] if damage == "short" else 0 * audio_S, rate_hz, subtype="FLOAT")
    trials = load_record(folder / "result.json").trials
    record = score_run(folder, reference, None)
    valid = scores(record, "audio_valid")
    assert valid["en03"].status == "error"
    assert reason in (valid["en03"].reason or "")
    snr = scores(record, "snr_vs_reference_db")
    assert snr["en03"].value is None
    assert snr["en03"].reason
    assert valid["en05"].value == 1.0
    assert snr["en05"].value == pytest.approx(60.0, abs=0.1)
    assert record.trials == trials


def test_a_reference_that_failed_makes_scores_unavailable(tmp_path: Path, reference: Path) -> None:
    failed = replace(load_record(reference / "result.json"), status="failed", reason="out of memory")
    save_record(failed, reference / "result.json")
    record = score_run(made(tmp_path / "run"), reference, None)
    assert scores(record, "snr_vs_reference_db")["en03"].reason == "the reference is failed: out of memory"


def test_a_run_that_is_not_ok_is_left_alone(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", "engine=fp16")
    before = (folder / "result.json").read_bytes()
    assert score_run(folder, None, None).status == "skipped"
    assert (folder / "result.json").read_bytes() == before


def test_length_of_several_chunks_less_their_overlaps(tmp_path: Path) -> None:
    record = load_record(made(tmp_path / "run") / "result.json")
    utterance = replace(record.utterances[0], num_frames=500, num_chunks=3)
    assert expected_samples(utterance, record.config) == (500 - 3) * 256 - 2 * int(0.15 * 24000)


def test_the_reference_beside_a_run_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made(tmp_path / "run", "engine=bf16")
    made(folder / "reference", "solver=euler_32", kind="reference")
    assert main([str(folder)]) == 0
    assert capsys.readouterr().out == "bf16-euler_7: 8 of 8 scores have a number\n"


def changed(folder: Path, **fields: object) -> None:
    """Rewrite facts or the first sentence's entries of a run's record."""
    record = load_record(folder / "result.json")
    facts = {**(record.facts or {}), **{key: value for key, value in fields.items() if key in (record.facts or {})}}
    own = {key: value for key, value in fields.items() if key in Utterance.__dataclass_fields__}
    utterances = (replace(record.utterances[0], **own), *record.utterances[1:])  # type: ignore[arg-type]
    save_record(replace(record, facts=facts, utterances=utterances), folder / "result.json")


@pytest.mark.parametrize(
    ("mismatch", "reason"),
    [
        ("other seed", "noise_sha256 differs"),
        ("float64 noise", "noise_sha256 differs"),
        ("one frame more", "num_frames differs"),
        ("other prompt", "prompt differs"),
        ("other vocoder", "vocoder differs"),
        ("other guidance", "cfg_strength differs"),
        ("other weights", "weights_sha256 differs"),
        ("swapped files", "is not the audio of its record"),
        ("unknown noise", "the initial noise is not known"),
    ],
)
def test_every_mismatched_pair_is_refused_with_its_own_reason(
    mismatch: str, reason: str, tmp_path: Path, reference: Path
) -> None:
    overrides = {"other seed": ("seed=1",), "other prompt": ("reference.voices.0.text=We talk to the sea.",)}
    folder = made(tmp_path / "run", "engine=bf16", *overrides.get(mismatch, ()))
    if mismatch == "float64 noise":
        changed(folder, noise_sha256=hashlib.sha256(np.zeros((9, 100))).hexdigest())
    elif mismatch == "one frame more":
        changed(folder, num_frames=load_record(folder / "result.json").utterances[0].num_frames + 1)
    elif mismatch == "unknown noise":
        changed(folder, noise_sha256=None)
    elif mismatch == "swapped files":
        first, second = (folder / utterance.audio_path for utterance in load_record(folder / "result.json").utterances)
        content = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)
        record = load_record(folder / "result.json")
        same = (replace(u, num_samples=soundfile.info(folder / u.audio_path).frames) for u in record.utterances)
        save_record(replace(record, utterances=tuple(same)), folder / "result.json")
    elif mismatch != "other seed" and mismatch != "other prompt":
        key = {"other vocoder": "vocoder", "other guidance": "cfg_strength", "other weights": "weights_sha256"}[
            mismatch
        ]
        changed(folder, **{key: 3.5 if key == "cfg_strength" else "another"})
    own = [score for score in score_run(folder, reference, None).scores if score.utterance_id == "en03"]
    against = [score for score in own if "_vs_reference" in score.metric]
    assert against
    assert {score.status for score in against} == {"not_comparable"}
    assert all(reason in (score.reason or "") for score in against)


def test_a_replayed_output_is_invalid_audio(tmp_path: Path, reference: Path) -> None:
    folder = made(tmp_path / "run")
    first, second = load_record(folder / "result.json").utterances
    audio_S, rate_hz = soundfile.read(folder / first.audio_path, dtype="float32")
    stale_S = np.resize(audio_S, second.num_samples)
    soundfile.write(folder / second.audio_path, stale_S, rate_hz, subtype="FLOAT")
    record = load_record(folder / "result.json")
    honest = replace(second, audio_sha256=hashlib.sha256(stale_S.astype(np.float32).tobytes()).hexdigest())
    save_record(replace(record, utterances=(first, honest)), folder / "result.json")
    valid = scores(score_run(folder, reference, None), "audio_valid")
    assert valid[first.utterance_id].status == "ok"
    assert f"replays the audio of {first.utterance_id}" in (valid[second.utterance_id].reason or "")


def test_recipes_stand_beside_the_scores(tmp_path: Path, reference: Path) -> None:
    record = score_run(made(tmp_path / "run", "engine=bf16"), reference, None)
    assert set(record.recipes) == {"snr_vs_reference_db", "log_mel_mae_vs_reference"}
    assert "nats" in record.recipes["log_mel_mae_vs_reference"]
    assert load_record(tmp_path / "run" / "result.json").recipes == record.recipes


def test_kept_floors_come_with_the_scores(tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "CACHE", tmp_path / "cache")
    folder = made(tmp_path / "run", "engine=bf16")
    assert score_run(folder, reference, None).floors == ()
    floor = Floor(
        metric="snr_vs_reference_db", repeat=120.0, other_seed=-1.0, other_seed_sd=0.5, num_seeds=5, num_pairs=8
    )
    path = references.floor_path(load_record(folder / "result.json").config)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"floors": [asdict(floor)]}))
    assert score_run(folder, reference, None).floors == (floor,)
    assert load_record(folder / "result.json").floors == (floor,)
