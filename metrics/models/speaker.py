"""Speaker similarity: how like the prompt's voice, and how much of that a variant keeps against the reference.

A cosine means nothing without its encoder: 0.85 is a threshold in Resemblyzer's demos and out of reach for recorded
speech with the WavLM model that papers use. So the encoder is in every name, and the figure to gate is the retention,
cos(variant, prompt) - cos(reference, prompt).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from metrics.fidelity.artefacts import SILENT_RMS, rms
from metrics.fidelity.perceptual import resampled
from metrics.isolation import Answer, Item, Limits, run_isolated
from metrics.models.tasks import RATE_HZ
from metrics.outcome import Outcome

MIN_S = 1.0
KINDS: Mapping[str, str] = {
    "resemblyzer": "metrics.models.tasks:resemblyzer_task",
    "wavlm": "metrics.models.tasks:speaker_file_task",
    "ecapa": "metrics.models.tasks:speaker_file_task",
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Voices:
    """One utterance's three signals, each with its rate; against None where there is no certified other side."""

    prompt: tuple[np.ndarray, int]
    variant: tuple[np.ndarray, int]
    against: tuple[np.ndarray, int] | None
    refusal: str | None


class Encoder(TypedDict):
    """kind: of KINDS. file: of a local model, for wavlm and ecapa."""

    kind: str
    file: str | None


def similarities(voices: Sequence[Voices], encoder: Encoder, limits: Limits) -> list[tuple[Outcome, Outcome, Outcome]]:
    """(cos(variant, prompt), retention, cos(variant, against)) per utterance. encoder: `kind` of KINDS, `file`."""
    signals: dict[int, tuple[np.ndarray, int]] = {}
    for one in voices:
        for side in (one.prompt, one.variant, one.against):
            if side is not None:
                signals[id(side[0])] = side
    embedded = _embed(signals, encoder, limits)
    return [_compared(one, embedded) for one in voices]


def _embed(signals: Mapping[int, tuple[np.ndarray, int]], encoder: Encoder, limits: Limits) -> dict[int, Answer]:
    """Each signal once: a prompt serves many utterances."""
    answers = {key: no for key, side in signals.items() if (no := _unfit(*side)) is not None}
    good = [key for key in signals if key not in answers]
    items = [Item((resampled(*signals[key], RATE_HZ),)) for key in good]
    setup = {"file": encoder["file"], "min_s": MIN_S}
    name = f"the speaker encoder {encoder['kind']}"
    return answers | dict(zip(good, run_isolated(KINDS[encoder["kind"]], name, setup, items, limits), strict=True))


def _unfit(audio_S: np.ndarray, rate_hz: int) -> Answer | None:
    if audio_S.ndim != 1 or audio_S.size < MIN_S * rate_hz:
        return Answer(payload=None, status="too_few", reason=f"under {MIN_S:g} s of mono audio")
    if not np.isfinite(audio_S).all() or rms(audio_S) <= SILENT_RMS:
        return Answer(payload=None, status="error", reason="silent, or samples that are not finite")
    return None


def _compared(one: Voices, embedded: Mapping[int, Answer]) -> tuple[Outcome, Outcome, Outcome]:
    own = _cosine(embedded[id(one.variant[0])], embedded[id(one.prompt[0])])
    if one.against is None:
        no = Outcome.none("not_comparable", one.refusal or "no other side")
        return own, no, no
    theirs = _cosine(embedded[id(one.against[0])], embedded[id(one.prompt[0])])
    match = _cosine(embedded[id(one.variant[0])], embedded[id(one.against[0])])
    if own.value is None or theirs.value is None:
        return own, own if own.value is None else theirs, match
    return own, Outcome.ok(own.value - theirs.value), match


def _cosine(one: Answer, other: Answer) -> Outcome:
    for answer in (one, other):
        if answer.status != "ok":
            return Outcome.none(answer.status, answer.reason or "no reason was given")
    ours, theirs = np.asarray(one.payload), np.asarray(other.payload)
    size = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
    return Outcome.ok(float(ours @ theirs) / size) if size else Outcome.none("error", "an embedding of zeros")
