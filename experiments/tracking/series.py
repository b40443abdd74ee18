"""The numbers of one record as MLflow shows them: the summary, a point per trial, a table row per sentence."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from metrics.record import RunRecord, Trial
from metrics.speed.trials import speed_of
from reports.data.quality import QUALITY, VALID, sentence_value, summaries_of

TRIAL_SERIES = (
    "wall_s",
    "cpu_s",
    "frontend_s",
    "denoise_s",
    "vocoder_s",
    "join_s",
    "num_evals",
    "peak_bytes",
    "calibration_s",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One value of a series. step: the trial's place in the record, warm-up included."""

    key: str
    value: float
    timestamp_ms: int
    step: int


def trial_points(record: RunRecord) -> tuple[Point, ...]:
    """Every trial's times and counters at the moment it ended; warm-up trials are a series of their own."""
    points = []
    for step, trial in enumerate(record.trials):
        timestamp_ms = int((trial.started_unix_s + trial.wall_s) * 1000)
        values = {name: value for name, value in asdict(trial).items() if name in TRIAL_SERIES and value is not None}
        if trial.is_warmup:
            values = {"wall_s": trial.wall_s}
        elif trial.audio_s > 0:
            values["rtf"] = trial.wall_s / trial.audio_s
        prefix = "warmup" if trial.is_warmup else "trial"
        points += [
            Point(key=f"{prefix}/{name}", value=float(value), timestamp_ms=timestamp_ms, step=step)
            for name, value in values.items()
            if math.isfinite(value)
        ]
    return tuple(points)


def speed_summary(record: RunRecord) -> dict[str, float]:
    """Metric name -> value. There is no p95 key below the trials it needs; memory that was not read has no key."""
    speed = speed_of(record.trials)
    values: dict[str, float | None] = {
        "rtf": speed.rtf_ratio,
        "latency/p50_s": speed.latency_p50_s,
        "latency/p95_s": speed.latency_p95_s,
        "latency/num_trials": speed.num_trials,
        "cpu_s_per_call": speed.cpu_s_per_call,
        "num_evals": speed.evals_per_call,
        "memory/peak_rss_bytes": record.peak_rss_bytes,
        "memory/peak_pss_bytes": record.peak_pss_bytes,
        "memory/peak_device_bytes": record.peak_device_bytes,
        "build_s": record.build_s,
        "first_call_s": record.first_call_s,
        "reference_s": record.workload.get("reference_s"),
        "generated_s": record.workload.get("generated_s"),
    }
    if speed.stages is not None:
        values.update({f"stage/{name}": value for name, value in asdict(speed.stages).items()})
    return _finite(values)


def quality_summary(record: RunRecord, is_reference: bool) -> tuple[dict[str, float], str | None]:
    """Means per score, and in words which scores stand on fewer sentences than there are."""
    values: dict[str, float | None] = {}
    gaps = []
    for metric, summary in summaries_of(record, is_reference).items():
        values[f"quality/{metric}"] = summary.mean
        if summary.reason is not None and summary.num_all:
            gaps.append(f"{metric}: {summary.num_ok} of {summary.num_all} sentences ({summary.reason})")
    return _finite(values), "; ".join(gaps) or None


def sentence_table(record: RunRecord, with_speed: bool) -> dict[str, list[Any]]:
    """One row per sentence, as `mlflow.log_table` stores a table: {"columns": [..], "data": [[..], ..]}.

    A score that could not be computed is null and its status stands in the column "missing".
    """
    voices = {entry.get("id"): entry.get("voice") for entry in record.workload.get("utterances", ())}
    metrics = [metric for metric in (VALID, *QUALITY) if any(s.utterance_id for s in record.scores_of(metric))]
    columns = ["utterance_id", "category", "voice", "text", "generated_s", "num_trials", "p50_s", "rtf"]
    rows = []
    for utterance in record.utterances:
        generated_s = utterance.num_samples / utterance.sample_rate_hz
        mine = [trial for trial in record.steady_trials if trial.utterance_id == utterance.utterance_id]
        scores = {metric: sentence_value(record, metric, utterance.utterance_id) for metric in metrics}
        missing = [f"{name}: {score.status}" for name, score in scores.items() if score and score.status != "ok"]
        rows.append(
            [utterance.utterance_id, utterance.category, voices.get(utterance.utterance_id), utterance.text]
            + [generated_s, *_sentence_speed(mine if with_speed else [])]
            + [score.value if score else None for score in scores.values()]
            + ["; ".join(missing) or None]
        )
    return {"columns": [*columns, *metrics, "missing"], "data": rows}


def sample_rows(record: RunRecord) -> str:
    """Every trial with every field, as CSV."""
    stream = io.StringIO()
    names = [field.name for field in fields(Trial)]
    writer = csv.DictWriter(stream, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(trial) for trial in record.trials)
    return stream.getvalue()


def _sentence_speed(trials: Sequence[Trial]) -> list[float | None]:
    """[number of trials, median latency, RTF]; the times are null where nothing was timed."""
    if not trials or sum(trial.audio_s for trial in trials) <= 0:
        return [len(trials), None, None]
    speed = speed_of(trials)
    return [speed.num_trials, speed.latency_p50_s, speed.rtf_ratio]


def _finite(values: dict[str, float | None]) -> dict[str, float]:
    return {key: float(value) for key, value in values.items() if value is not None and math.isfinite(value)}
