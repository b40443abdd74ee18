"""The numbers of one record as MLflow shows them: the few that a table is for, a point per trial, files with all."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from metrics.power.figures import BETTER
from metrics.record import RunRecord, Trial
from metrics.speed.peak import host_peak
from metrics.speed.trials import speed_of
from reports.data.power import seen_of
from reports.data.quality import DNSMOS, LOG_MEL, PESQ, QUALITY, SNR, STOI, VALID, WER, sentence_value, summaries_of
from reports.data.scale import MS_PER_S, mib, trial_ms

RTF, SPEEDUP, P50, P95 = "rtf", "speedup_vs_upstream", "latency/p50_ms", "latency/p95_ms"
PEAK, DEVICE_PEAK, BEST_RTF, TRIAL = "memory/peak_mib", "memory/peak_device_mib", "best_rtf", "trial/wall_ms"
SPEAKER = "quality/speaker_similarity"
# Score of the record -> its column. The speaker's encoder is a setting: whichever made the score
QUALITY_COLUMNS = {
    LOG_MEL: "quality/log_mel",
    SNR: "quality/snr_db",
    PESQ: "quality/pesq_wb",
    STOI: "quality/stoi",
    WER: "quality/wer_frac",
    DNSMOS: "quality/dnsmos_ovrl",
    "speaker_similarity_resemblyzer": SPEAKER,
    "speaker_similarity_wavlm": SPEAKER,
    "speaker_similarity_ecapa": SPEAKER,
}
SHOWN_DIGITS = 4  # of a column; the whole number is in scores.json
# Scores of the energy pass, where a record has them: energy/j_per_audio_s, energy/power_mean_w, ..
ENERGY_COLUMNS = {metric: f"energy/{metric.removeprefix('energy_')}" for metric in BETTER}
HOTTEST = "energy/hottest_c"  # what throttled is a reason why the run is not valid, the power mode a tag
# Every number of a run that may have to be withdrawn
COLUMNS = frozenset((
    RTF, SPEEDUP, P50, P95, PEAK, DEVICE_PEAK, BEST_RTF, TRIAL, HOTTEST, *QUALITY_COLUMNS.values(),
    *ENERGY_COLUMNS.values(),
))  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One value of a series. step: the trial's place in the record, warm-up included."""

    key: str
    value: float
    timestamp_ms: int
    step: int


def trial_points(record: RunRecord) -> tuple[Point, ...]:
    """The time of every trial after warm-up at the moment it ended: whether a run was steady is seen at a glance."""
    return tuple(
        Point(
            key=TRIAL,
            value=as_shown(trial_ms(trial)),
            timestamp_ms=int((trial.started_unix_s + trial.wall_s) * MS_PER_S),
            step=step,
        )
        for step, trial in enumerate(record.trials)
        if not trial.is_warmup and math.isfinite(trial.wall_s)
    )


def speed_columns(record: RunRecord, speedup: float | None) -> dict[str, float]:
    """speedup: times as fast as upstream. There is no p95 below the trials it needs; memory that was not read has no
    column. Memory as the report's table has it."""
    speed = speed_of(record.trials)
    peak = host_peak(record)
    values: dict[str, float | None] = {
        RTF: speed.rtf_ratio,
        SPEEDUP: speedup,
        P50: speed.latency_p50_s * MS_PER_S,
        P95: None if speed.latency_p95_s is None else speed.latency_p95_s * MS_PER_S,
        PEAK: None if peak is None else mib(peak[0]),
        DEVICE_PEAK: mib(record.peak_device_bytes),
    }
    values[HOTTEST] = seen_of(record).get("hottest_c")
    values.update({column: _mean(record, metric) for metric, column in ENERGY_COLUMNS.items()})
    return _shown(values)


def quality_columns(record: RunRecord, is_reference: bool) -> dict[str, float]:
    """Means of the scores of the table."""
    found = summaries_of(record, is_reference)
    means = ((column, found[metric].mean) for metric, column in QUALITY_COLUMNS.items() if metric in found)
    return _shown({column: mean for column, mean in means if mean is not None})


def quality_gaps(record: RunRecord, is_reference: bool) -> str | None:
    """In words, which scores of the table stand on fewer sentences than there are."""
    gaps = [
        f"{metric}: {summary.num_ok} of {summary.num_all} sentences ({summary.reason})"
        for metric, summary in summaries_of(record, is_reference).items()
        if metric in QUALITY_COLUMNS and summary.reason is not None and summary.num_all
    ]
    return "; ".join(gaps) or None


def all_numbers(record: RunRecord, is_reference: bool, doubt: str | None, is_timed: bool) -> dict[str, Any]:
    """`scores.json`: every mean that has no column, and those that have one, in base units.

    doubt: why no number of the run counts, None where they do; is_timed: whether its times do.
    """
    scores = {
        metric: {
            "mean": summary.mean,
            "num_sentences": summary.num_ok,
            "num_tried": summary.num_all,
            "reason": summary.reason,
            "recipe": record.recipes.get(metric),
        }
        for metric, summary in summaries_of(record, is_reference).items()
    }
    counts = doubt is None
    return {
        "not_valid_because": doubt,
        "scores": scores if counts else {},
        "speed": _times(record) if counts and is_timed else {},
    }


def _times(record: RunRecord) -> dict[str, float]:
    speed = speed_of(record.trials)
    values: dict[str, float | None] = {
        "rtf_ratio": speed.rtf_ratio,
        "latency_p50_s": speed.latency_p50_s,
        "latency_p95_s": speed.latency_p95_s,
        "latency_p99_s": speed.latency_p99_s,
        "num_trials": speed.num_trials,
        "cpu_s_per_call": speed.cpu_s_per_call,
        "evals_per_call": speed.evals_per_call,
        "peak_rss_bytes": record.peak_rss_bytes,
        "peak_pss_bytes": record.peak_pss_bytes,
        "peak_device_bytes": record.peak_device_bytes,
        "build_s": record.build_s,
        "first_call_s": record.first_call_s,
        "reference_s": record.workload.get("reference_s"),
        "generated_s": record.workload.get("generated_s"),
        **(asdict(speed.stages) if speed.stages is not None else {}),
    }
    return _finite(values)


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


def _mean(record: RunRecord, metric: str) -> float | None:
    values = [score.value for score in record.scores_of(metric) if score.value is not None]
    return sum(values) / len(values) if values else None


def as_shown(value: float) -> float:
    """MLflow prints every digit it has and cuts what is too long: four say more than any measurement here can."""
    return float(f"{value:.{SHOWN_DIGITS}g}")


def _shown(values: Mapping[str, float | None]) -> dict[str, float]:
    return {key: as_shown(value) for key, value in _finite(values).items()}


def _finite(values: Mapping[str, float | None]) -> dict[str, float]:
    return {key: float(value) for key, value in values.items() if value is not None and math.isfinite(value)}
