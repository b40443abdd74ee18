"""Scores that need no other side: loudness, and one utterance's own prosody."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from metrics.fidelity.artefacts import SILENT_RMS, rms
from metrics.fidelity.catalog import ALONE, ALONE_FAMILIES, wanted
from metrics.fidelity.pairing import Heard
from metrics.fidelity.prosody import alone as alone_prosody
from metrics.fidelity.prosody import tracks_of
from metrics.fidelity.scores import Found, score_of
from metrics.isolation import Item, Limits, run_isolated
from metrics.outcome import Outcome
from metrics.record import Score


def score_alone(heard: Sequence[Heard], families: Sequence[str], limits: Limits) -> list[Score]:
    """Scores of each utterance, in the order of `families` (of catalog.ALONE_FAMILIES; others are left to others)."""
    metrics = wanted(ALONE, [family for family in families if family in ALONE_FAMILIES], None)
    found: list[dict[str, Outcome]] = [{} for _ in heard]
    refusals = [_unfit(one) for one in heard]
    good = [one for one, refusal in zip(heard, refusals, strict=True) if refusal is None]
    for family in dict.fromkeys(metric.family for metric in metrics):
        outcomes = iter(_MANY[family](good, limits))
        keys = [metric.key for metric in metrics if metric.family == family]
        for mine, refusal in zip(found, refusals, strict=True):
            mine.update(next(outcomes) if refusal is None else dict.fromkeys(keys, refusal))
    return [
        score_of(metric, None, one.utterance.utterance_id, mine[metric.key])
        for one, mine in zip(heard, found, strict=True)
        for metric in metrics
    ]


def _unfit(one: Heard) -> Outcome | None:
    if one.audio_S.ndim != 1 or one.audio_S.size == 0 or not np.isfinite(one.audio_S).all():
        return Outcome.none("error", "not mono audio with finite samples")
    return Outcome.none("error", "the audio is silent") if rms(one.audio_S) <= SILENT_RMS else None


def _loudness(heard: Sequence[Heard], limits: Limits) -> list[Found]:
    items = [Item((one.audio_S,), {"sample_rate_hz": one.sample_rate_hz}) for one in heard]
    answers = run_isolated("metrics.tasks:loudness_task", "the loudness meter", {}, items, limits)
    return [{"loudness": Outcome(value=a.payload, status=a.status, reason=a.reason)} for a in answers]


def _prosody(heard: Sequence[Heard], limits: Limits) -> list[Found]:
    tracks = tracks_of([(one.audio_S, one.sample_rate_hz) for one in heard], limits)
    keys = [metric.key for metric in ALONE if metric.family == "prosody"]
    return [
        dict.fromkeys(keys, track) if isinstance(track, Outcome) else alone_prosody(track, one.utterance.text)
        for one, track in zip(heard, tracks, strict=True)
    ]


_MANY: Mapping[str, Callable[[Sequence[Heard], Limits], list[Found]]] = {"loudness": _loudness, "prosody": _prosody}
