"""Trial, Score, RunRecord: what is stored of a run. JSON in and out; standard library only.

Raw trials are kept; means, percentiles and RTF are functions of them (metrics.speed). Base units; JSON null, never NaN.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from metrics.parts.environment import Environment
from metrics.parts.facts import Facts
from metrics.parts.spoken import Spoken
from metrics.stored_config import check_names, todays
from metrics.typed import from_json, load_json

SCHEMA_VERSION = 2  # of RunRecord; 2 has every calibration and every cold start
SWEEP_SCHEMA_VERSION = 1  # of sweep.json, which holds no record
RunStatus = Literal["ok", "skipped", "failed"]
ScoreStatus = Literal["ok", "not_comparable", "unavailable", "error", "too_few", "not_applicable"]
Better = Literal["higher", "lower", "neither"]


class RecordError(ValueError):
    """A stored record cannot be read: which file, what is wrong, what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One timed call with its stages and counters. audio_s counts generated audio only, the reference is excluded.

    peak_bytes: highest resident (or device) memory since warm-up. calibration_s / calibration_cpu_s: mean wall and CPU
    seconds of the GEMM calibration in the same round, None where none was made; RunRecord.calibrations has every kind.
    enhance_s: of what is done to the sound after the join, 0.0 where nothing is.
    """

    utterance_id: str
    repeat: int
    wall_s: float
    cpu_s: float
    audio_s: float
    frontend_s: float
    denoise_s: float
    vocoder_s: float
    join_s: float
    num_evals: int
    peak_bytes: int
    started_unix_s: float
    is_warmup: bool
    calibration_s: float | None = None
    calibration_cpu_s: float | None = None
    enhance_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One quality or validity number; `value` is None unless status is ok. The unit is in the metric's name."""

    metric: str
    utterance_id: str | None
    value: float | None
    status: ScoreStatus
    reason: str | None
    better: Better

    def __post_init__(self) -> None:
        if (self.value is not None) != (self.status == "ok"):
            raise ValueError(f"{self.metric}: a value goes with status ok and nothing else, got {self.status}")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"{self.metric}: {self.value} is not a number that can be stored; give a status instead")


@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """What a metric says where nothing was changed but the draw: the scale that its values are read on.

    repeat: mean of the metric between a run and the same run again (identical where the engine is deterministic).
    other_seed: mean between a run and the same engine with other noise. other_seed_sd: standard deviation over seeds of
    one sentence's value, averaged over sentences; for scores that need no other side it is all there is.
    """

    metric: str
    repeat: float | None
    other_seed: float | None
    other_seed_sd: float | None
    num_seeds: int
    num_pairs: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """What was really spoken for one sentence: the identity that full-reference metrics need, and the file.

    num_cut_samples: how many fewer samples there are than the vocoder and the joins made (`enhance` took silence out).
    """

    utterance_id: str
    category: str
    text: str
    sample_rate_hz: int
    num_samples: int
    num_frames: int
    num_chunks: int
    noise_sha256: str | None
    audio_sha256: str
    audio_path: str
    mel_path: str
    num_cut_samples: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationReading:
    """One run of a calibration: a fixed amount of one kind of `work` (gemm, memory, dispatch), between two trials.

    cpu_s: CPU seconds of all threads of the process.
    """

    work: str
    repeat: int
    is_warmup: bool
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ColdStart:
    """One fresh process up to its first audio. start_s: from the process's creation to the end of its first call."""

    build_s: float
    first_call_s: float
    start_s: float
    audio_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceModel:
    """The model that the scores against the reference are measured with: its name, the hashes of its weights and of its
    architecture. is_own: whether that is the model that speaks."""

    model: str
    weights_sha256: str
    arch_sha256: str
    is_own: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """One variant's run: `result.json`. Paths are relative to the folder of the file.

    recipes: metric -> everything that changes its number, versions included; scores of two recipes are not compared.
    floors: by metric, of the reference engine; empty where none was made (`python -m experiments.scoring.floor`).
    reference: the model behind the scores against the reference; None where there are none, or in older records.
    """

    run_id: str
    created: str
    status: RunStatus
    reason: str | None
    remedy: str | None
    label: str
    config: Mapping[str, object]
    facts: Facts | None
    environment: Environment
    workload: Spoken
    build_s: float | None
    first_call_s: float | None
    peak_rss_bytes: int | None
    peak_pss_bytes: int | None
    peak_device_bytes: int | None
    utterances: tuple[Utterance, ...] = ()
    trials: tuple[Trial, ...] = ()
    scores: tuple[Score, ...] = ()
    calibrations: tuple[CalibrationReading, ...] = ()
    cold_starts: tuple[ColdStart, ...] = ()
    recipes: Mapping[str, str] = field(default_factory=dict)
    floors: tuple[Floor, ...] = ()
    reference: ReferenceModel | None = None
    schema_version: int = field(default=SCHEMA_VERSION)

    @property
    def steady_trials(self) -> tuple[Trial, ...]:
        return tuple(trial for trial in self.trials if not trial.is_warmup)

    def scores_of(self, metric: str) -> tuple[Score, ...]:
        return tuple(score for score in self.scores if score.metric == metric)


def to_json(value: object) -> str:
    """JSON with sorted keys; NaN and infinity are refused."""
    return json.dumps(value, allow_nan=False, sort_keys=True, ensure_ascii=False)


def write_atomically(path: Path, text: str) -> None:
    """Write beside the target, flush to disk, rename: a reader sees the old file or the new one, never half."""
    write_bytes_atomically(path, text.encode("utf-8"))


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """The same of what is no text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def save_record(record: RunRecord, path: Path) -> None:
    content = json.dumps(asdict(record), allow_nan=False, indent=1, sort_keys=True, ensure_ascii=False)
    write_atomically(path, content + "\n")


def load_record(path: Path) -> RunRecord:
    """Raises RecordError with the file's name for anything that is not a record of this schema version."""
    try:
        data = load_json(path)
    except FileNotFoundError:
        raise RecordError(f"{path}: no such record; run `python -m experiments.run` first") from None
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); give the folder of a finished run") from error
    except ValueError as error:
        raise RecordError(f"{path}: not a JSON record ({error}); delete it and run again") from error
    return record_from_dict(data, str(path))


def load_run(path: Path) -> RunRecord:
    """The record of a run: of its folder, or of the file itself, whatever either is called. Raises RecordError."""
    return load_record(path if path.is_file() else path / "result.json")


def record_from_dict(data: object, origin: str) -> RunRecord:
    """Raises RecordError naming the origin and the field."""
    if not isinstance(data, dict) or "schema_version" not in data:
        raise RecordError(f"{origin}: not a run record (no schema_version)")
    if data["schema_version"] != SCHEMA_VERSION:
        raise RecordError(
            f"{origin}: schema_version {data['schema_version']}, this program reads {SCHEMA_VERSION}; record it again"
        )
    try:
        for name in ("utterances", "trials", "scores"):
            if name not in data:
                raise ValueError(f"{name}: is missing")
        record = from_json(RunRecord, data)
        check_names(record.config)
        record = replace(record, config=todays(record.config))
        _refuse_twins(record)
        return record
    except ValueError as error:
        raise RecordError(f"{origin}: damaged run record ({error}); run again") from error


def repeated(keys: Iterable[Hashable]) -> Hashable | None:
    """The first key that stands there twice, letters of either case being one: keys become file names. None: none."""
    seen: set[Hashable] = set()
    for key in keys:
        folded = key.casefold() if isinstance(key, str) else key
        if folded in seen:
            return key
        seen.add(folded)
    return None


def _refuse_twins(record: RunRecord) -> None:
    """What other rows and files are found by must be there once. ValueError."""
    found: dict[str, Sequence[Hashable]] = {
        "utterance": [u.utterance_id for u in record.utterances],
        "audio file": [u.audio_path for u in record.utterances],
        "score": [(score.metric, score.utterance_id) for score in record.scores],
        "floor": [floor.metric for floor in record.floors],
    }
    for what, keys in found.items():
        if (twin := repeated(keys)) is not None:
            raise ValueError(f"{what} {twin!r} stands there twice")
    for path in (path for u in record.utterances for path in (u.audio_path, u.mel_path)):
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ValueError(f"{path!r} is not within the run's folder")
