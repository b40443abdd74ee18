"""The published schema of result.json: what the classes say, what real records are, and what it refuses."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.measuring import worker
from experiments.measuring.job import new_job, write_job
from metrics.record import RecordError, RunRecord, Score, Trial, Utterance, record_from_dict
from metrics.record_schema import SCHEMA_FILE, schema_text
from tests import fakes
from tests.engines import config
from tests.tracking_folders import record

jsonschema = pytest.importorskip("jsonschema")
VALIDATOR = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text("utf-8")))
TEXT = st.text(max_size=12)
NUMBER = st.floats(allow_nan=False, allow_infinity=False, width=32)
COUNT = st.integers(0, 2**40)
PATHS = TEXT.filter(lambda text: ".." not in text and not text.startswith("/"))  # within the folder
PLAIN = st.dictionaries(TEXT, st.one_of(st.none(), TEXT, NUMBER, st.lists(COUNT, max_size=2)), max_size=3)
TRIALS = st.builds(
    Trial, utterance_id=TEXT, repeat=COUNT, wall_s=NUMBER, cpu_s=NUMBER, audio_s=NUMBER, frontend_s=NUMBER,
    denoise_s=NUMBER, vocoder_s=NUMBER, join_s=NUMBER, num_evals=COUNT, peak_bytes=COUNT, started_unix_s=NUMBER,
    is_warmup=st.booleans(), calibration_s=st.none() | NUMBER, calibration_cpu_s=st.none() | NUMBER,
)  # fmt: skip
GOOD = st.builds(
    Score, metric=TEXT, utterance_id=st.none() | TEXT, value=NUMBER, status=st.just("ok"), reason=st.none() | TEXT,
    better=st.sampled_from(["higher", "lower", "neither"]),
)  # fmt: skip
WITHOUT = st.builds(
    Score, metric=TEXT, utterance_id=st.none(), value=st.none(), status=st.sampled_from(["error", "too_few"]),
    reason=TEXT, better=st.just("lower"),
)  # fmt: skip
SPOKEN = st.builds(
    Utterance, utterance_id=TEXT, category=TEXT, text=TEXT, sample_rate_hz=COUNT, num_samples=COUNT, num_frames=COUNT,
    num_chunks=COUNT, noise_sha256=st.none() | TEXT, audio_sha256=TEXT, audio_path=PATHS, mel_path=PATHS,
)  # fmt: skip
MAYBE_TEXT, MAYBE_NUMBER, MAYBE_COUNT = st.none() | TEXT, st.none() | NUMBER, st.none() | COUNT
ONCE = (lambda spoken: spoken.utterance_id.casefold(), lambda spoken: spoken.audio_path.casefold())
RECORDS = st.builds(
    RunRecord, run_id=TEXT, created=TEXT, status=st.sampled_from(["ok", "skipped", "failed"]), reason=MAYBE_TEXT,
    remedy=MAYBE_TEXT, label=TEXT, config=PLAIN, facts=st.none() | PLAIN, environment=PLAIN, workload=PLAIN,
    build_s=MAYBE_NUMBER, first_call_s=MAYBE_NUMBER, peak_rss_bytes=MAYBE_COUNT, peak_pss_bytes=MAYBE_COUNT,
    peak_device_bytes=MAYBE_COUNT, utterances=st.lists(SPOKEN, max_size=2, unique_by=ONCE).map(tuple),
    trials=st.lists(TRIALS, max_size=2).map(tuple),
    scores=st.lists(GOOD | WITHOUT, max_size=2, unique_by=lambda score: (score.metric, score.utterance_id)).map(tuple),
)  # fmt: skip


def stored(run: RunRecord) -> Any:
    return json.loads(json.dumps(asdict(run), allow_nan=False))


def test_the_published_file_is_what_the_classes_say() -> None:
    assert SCHEMA_FILE.read_text("utf-8") == schema_text(), (
        "python -m metrics.record_schema > metrics/result.schema.json"
    )
    jsonschema.Draft202012Validator.check_schema(json.loads(schema_text()))


@pytest.mark.parametrize("engine", ["fp32", "fp16", "int8"])
def test_what_a_worker_leaves_is_valid(engine: str, tmp_path: Path) -> None:
    settings_ = ("workload=smoke", "measure.rounds=1", "measure.calibration=gemm", f"engine={engine}")
    spec = new_job(tmp_path, "label", "measure", config(*settings_))
    write_job(spec)
    worker.run_job(spec, fakes.build)
    VALIDATOR.validate(json.loads((tmp_path / "result.json").read_text()))


@settings(max_examples=40, deadline=None)
@given(RECORDS)
def test_every_record_that_can_be_made_is_valid_and_read_back(run: RunRecord) -> None:
    VALIDATOR.validate(stored(run))
    assert record_from_dict(stored(run), "here") == run


DAMAGE = st.sampled_from([
    ("trials", 0, "wall_s", "fast"), ("trials", 0, "num_evals", 6.5), ("trials", 0, "is_warmup", None),
    ("scores", 0, "status", "splendid"), ("scores", 0, "better", 1), ("utterances", 0, "text", None),
    ("trials", 0, "speed", 1.0),
])  # fmt: skip


@given(DAMAGE)
def test_what_is_no_record_is_refused(damage: tuple[str, int, str, object]) -> None:
    data = stored(record("run", "fp32-euler_7", "sqlite:///x.db"))
    VALIDATOR.validate(data)
    part, index, key, value = damage
    data[part][index][key] = value
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(data)


@pytest.mark.parametrize("key", ["trials", "schema_version", "run_id"])
def test_what_lacks_a_part_is_refused_by_both(key: str) -> None:
    data = stored(record("run", "fp32-euler_7", "sqlite:///x.db"))
    del data[key]
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(data)
    with pytest.raises(RecordError):
        record_from_dict(data, "here")


def test_a_number_without_its_status_is_refused() -> None:
    data = stored(record("run", "fp32-euler_7", "sqlite:///x.db"))
    data["scores"][0]["value"] = None
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(data)
