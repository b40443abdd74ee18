"""What was heard, per row: validity and the mean of every score, each with how many sentences it stands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from metrics.fidelity.catalog import by_name
from metrics.record import RunRecord, Score
from metrics.reference import is_the
from metrics.typed import part_of
from reports.words import without_machine_paths

VALID = "audio_valid"
SNR = "snr_vs_reference_db"
LOG_MEL = "log_mel_mae_vs_reference"
PESQ = "pesq_wb_vs_reference"
STOI = "stoi_vs_reference"
WER = "wer_frac"
DNSMOS = "mos_pred_dnsmos_ovrl"
ORACLE_SNR = "snr_vs_oracle_db"
ORACLE_LOG_MEL = "log_mel_mae_vs_oracle"

VERSUS_REFERENCE = (LOG_MEL, SNR, PESQ, STOI)
VERSUS_ORACLE = (ORACLE_LOG_MEL, ORACLE_SNR)
QUALITY = (*VERSUS_REFERENCE, WER, DNSMOS, *VERSUS_ORACLE)  # the headline; every other score stands in its own table
ALL_SCORES = tuple(dict.fromkeys((*QUALITY, *by_name())))

RANDOM_WEIGHTS = "random weights: no quality"
IS_REFERENCE = is_the("reference")
SWITCHED_OFF = "scores were switched off (quality.enabled=false)"

Validity = Literal["valid", "invalid", "unchecked", "random"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Mean of one score over the sentences where it could be computed; `word` and `reason` say why when it is not all.

    mean is None where no sentence has the score. num_all counts the sentences it was tried on.
    """

    mean: float | None
    num_ok: int
    num_all: int
    word: str | None
    reason: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """Scores that could not be computed, for one reason."""

    metric: str
    status: str
    reason: str
    utterance_ids: tuple[str, ...]


def validity_of(record: RunRecord) -> tuple[Validity, str | None]:
    """Whether every sentence's audio passed its checks, and if not, which did not and why."""
    scores = record.scores_of(VALID)
    broken = [score for score in scores if score.status == "error" or score.value == 0.0]
    if broken:
        reasons = [without_machine_paths(score.reason) or "checks failed" for score in broken[:3]]
        named = [f"{score.utterance_id} ({reason})" for score, reason in zip(broken, reasons, strict=False)]
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        return "invalid", f"{len(broken)} of {len(record.utterances)} sentences: {', '.join(named)}{more}"
    if is_random(record):
        return "random", RANDOM_WEIGHTS
    checked = {score.utterance_id for score in scores if score.status == "ok"}
    unchecked = [u.utterance_id for u in record.utterances if u.utterance_id not in checked]
    if unchecked or not checked:
        return "unchecked", f"{len(unchecked)} of {len(record.utterances)} sentences have no validity check"
    return "valid", None


def is_random(record: RunRecord) -> bool:
    return bool(record.facts and record.facts.get("random_weights"))


def summaries_of(record: RunRecord, is_reference: bool) -> Mapping[str, Summary]:
    """Metric name -> Summary, for the metrics that have one."""
    found = {}
    switched_off = part_of(record.config, "quality").get("enabled") is False
    for metric in ALL_SCORES:
        if is_random(record):
            if metric in VERSUS_REFERENCE:
                found[metric] = _absent(RANDOM_WEIGHTS, RANDOM_WEIGHTS)
        elif is_reference and metric in VERSUS_REFERENCE:
            found[metric] = _absent("reference", IS_REFERENCE)
        elif switched_off and metric in VERSUS_REFERENCE and not record.scores_of(metric):
            found[metric] = _absent("not scored", SWITCHED_OFF)
        else:
            summary = _summary(record.scores_of(metric))
            if summary is not None:
                found[metric] = summary
    return MappingProxyType(found)


def _absent(word: str, reason: str) -> Summary:
    return Summary(mean=None, num_ok=0, num_all=0, word=word, reason=reason)


def _summary(scores: tuple[Score, ...]) -> Summary | None:
    """A score of the whole corpus (utterance null) takes the place of the mean of its sentences, number or not."""
    if not scores:
        return None
    corpus = next((score for score in scores if score.utterance_id is None), None)
    sentences = [score for score in scores if score.utterance_id is not None]
    good = [score.value for score in sentences if score.value is not None]
    mean = sum(good) / len(good) if good else None
    missing = next((score for score in sentences if score.status != "ok"), None)
    if corpus is not None:
        mean, missing = corpus.value, None if corpus.status == "ok" else corpus
    return Summary(
        mean=mean,
        num_ok=len(good),
        num_all=len(sentences),
        word=missing.status.replace("_", " ") if missing else None,
        reason=without_machine_paths(missing.reason) if missing else None,
    )


def sentence_value(record: RunRecord, metric: str, utterance_id: str) -> Score | None:
    return next((score for score in record.scores_of(metric) if score.utterance_id == utterance_id), None)


def gaps_of(record: RunRecord) -> tuple[Gap, ...]:
    """The scores a record could not compute, grouped by metric and reason; none for random weights, said elsewhere.

    A score outside the headline that does not apply to a sentence (no question, no pause) is no gap.
    """
    if is_random(record):
        return ()
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for score in record.scores:
        expected = score.metric not in QUALITY and score.status in ("not_applicable", "too_few")
        if score.metric != VALID and score.status != "ok" and not expected:
            key = (score.metric, score.status, without_machine_paths(score.reason) or "no reason was recorded")
            grouped.setdefault(key, []).append(score.utterance_id or "all sentences")
    return tuple(
        Gap(metric=metric, status=status, reason=reason, utterance_ids=tuple(ids))
        for (metric, status, reason), ids in grouped.items()
    )
