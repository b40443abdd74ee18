"""metrics.record: what goes to disk comes back, and nothing else does."""

import json
import math
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.record import (
    RecordError,
    RunRecord,
    Score,
    Trial,
    Utterance,
    load_record,
    record_from_dict,
    save_record,
    to_json,
    write_atomically,
)

A_TRIAL = Trial(
    utterance_id="u1",
    repeat=0,
    wall_s=0.5,
    cpu_s=0.9,
    audio_s=2.0,
    frontend_s=0.1,
    denoise_s=0.3,
    vocoder_s=0.1,
    join_s=0.0,
    num_evals=7,
    peak_bytes=1000,
    started_unix_s=1.5,
    is_warmup=False,
)
AN_UTTERANCE = Utterance(
    utterance_id="u1",
    category="short",
    text="Buenos d\u00edas.",
    sample_rate_hz=24_000,
    num_samples=48_000,
    num_frames=187,
    num_chunks=1,
    noise_sha256=None,
    audio_sha256="00",
    audio_path="audio/u1.wav",
    mel_path="mel/u1.npy",
)
A_SCORE = Score(metric="snr", utterance_id="u1", value=12.5, status="ok", reason=None, better="higher")


def a_record(**changes):
    content = dict(
        run_id="r1",
        created="2026-01-01T00:00:00+00:00",
        status="ok",
        reason=None,
        remedy=None,
        label="fp32-euler_7",
        config={"seed": 0},
        facts=None,
        environment={"host_class": "here"},
        workload={"name": "smoke"},
        build_s=1.0,
        first_call_s=None,
        peak_rss_bytes=1,
        peak_pss_bytes=None,
        peak_device_bytes=None,
        utterances=(AN_UTTERANCE,),
        trials=(A_TRIAL,),
        scores=(A_SCORE,),
    )
    return RunRecord(**{**content, **changes})


def stored(record):
    return json.loads(to_json(asdict(record)))


def test_a_record_comes_back_as_it_was(tmp_path):
    path = tmp_path / "new" / "result.json"
    save_record(a_record(), path)
    assert load_record(path) == a_record()
    assert [found.name for found in path.parent.iterdir()] == ["result.json"]


@given(
    wall_s=st.floats(0, 1e6, allow_nan=False),
    reason=st.none() | st.text(),
    calibration_s=st.none() | st.floats(0, 1e3),
)
def test_every_value_survives_json(wall_s, reason, calibration_s):
    trial = Trial(**{**asdict(A_TRIAL), "wall_s": wall_s, "calibration_s": calibration_s})
    record = a_record(reason=reason, trials=(trial,))
    assert record_from_dict(stored(record), "here") == record


def test_nan_is_never_written(tmp_path):
    path = tmp_path / "result.json"
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_record(a_record(build_s=math.nan), path)
    assert not path.exists()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_is_a_number_or_a_status(value):
    with pytest.raises(ValueError, match="give a status instead"):
        Score(metric="m", utterance_id=None, value=value, status="ok", reason=None, better="higher")
    with pytest.raises(ValueError, match="status ok and nothing else"):
        Score(metric="m", utterance_id=None, value=1.0, status="error", reason="broken", better="higher")
    with pytest.raises(ValueError, match="status ok and nothing else"):
        Score(metric="m", utterance_id=None, value=None, status="ok", reason=None, better="higher")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "result.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "half \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "not a JSON record"),
        ("[]", "not a run record"),
        ('{"schema_version": 99}', "schema_version 99, this program reads 2"),
        ('{"schema_version": 2}', "damaged run record"),
    ],
)
def test_an_unreadable_file_is_named_with_its_fault(tmp_path, content, named):
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(RecordError, match=named) as caught:
        load_record(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(RecordError, match=r"run `python -m experiments\.run` first"):
        load_record(tmp_path / "result.json")


def test_unknown_and_missing_fields_are_damage():
    for spoil in (
        lambda data: data.update(surprise=1),
        lambda data: data["trials"][0].update(surprise=1),
        lambda data: data["trials"][0].pop("wall_s"),
        lambda data: data["scores"][0].update(status="error"),
        lambda data: data.update(trials=5),
    ):
        data = stored(a_record())
        spoil(data)
        with pytest.raises(RecordError, match="here: damaged run record"):
            record_from_dict(data, "here")


def test_selections():
    warm = Trial(**{**asdict(A_TRIAL), "is_warmup": True})
    record = a_record(trials=(warm, A_TRIAL))
    assert record.steady_trials == (A_TRIAL,)
    assert record.scores_of("snr") == (A_SCORE,)
    assert record.scores_of("pesq") == ()
