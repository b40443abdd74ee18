"""Prosody without a model: F0, voicing, pauses, rate, the final rise of questions. One F0 tracker with fixed settings.

Tracker: WORLD DIO + StoneMask (pyworld, MIT). Trackers disagree on voicing in 16 to 29 % of frames and by octaves, so
numbers of two trackers never stand in one column, and differences are given as a median in cents with the rate of gross
errors beside it, never as an RMSE in Hz.

Shape letters: S samples, N frames of 5 ms.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metrics.fidelity.pairing import sha256_of
from metrics.isolation import Item, Limits, run_isolated
from metrics.outcome import Outcome

F0_FLOOR_HZ, F0_CEILING_HZ, FRAME_S = 60.0, 500.0, 0.005
GROSS_RATIO = 0.2
MIN_VOICED_FRAMES = 10
PAUSE_MIN_S, PAUSE_MATCH_S, PAUSE_BELOW_DB, BURST_MAX_S = 0.2, 0.05, 25.0, 0.05
FINAL_S, RISE_ST, FALL_ST, MEDIAN_WIDTH = 0.3, 2.0, -1.0, 5


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Track:
    """f0_N: Hz every 5 ms, 0 where unvoiced; pauses: (start, stop) in seconds inside the speech; active_s: without."""

    f0_N: np.ndarray
    pauses: tuple[tuple[float, float], ...]
    active_s: float


_KEPT: dict[tuple[str, int], Track | Outcome] = {}  # a scorer asks for one utterance's track more than once


def tracks_of(audios: Sequence[tuple[np.ndarray, int]], limits: Limits) -> list[Track | Outcome]:
    """One track per (audio_S, sample_rate_hz), through one child; a status where the tracker gave no answer."""
    keys = [(sha256_of(audio_S), rate_hz) for audio_S, rate_hz in audios]
    new = {key: audio for key, audio in zip(keys, audios, strict=True) if key not in _KEPT}
    _KEPT.update(zip(new, _tracked(list(new.values()), limits), strict=True))
    return [_KEPT[key] for key in keys]


def _tracked(audios: Sequence[tuple[np.ndarray, int]], limits: Limits) -> list[Track | Outcome]:
    items = [
        Item(
            (audio_S,),
            {
                "sample_rate_hz": rate_hz,
                "floor_hz": F0_FLOOR_HZ,
                "ceiling_hz": F0_CEILING_HZ,
                "frame_ms": 1000 * FRAME_S,
            },
        )
        for audio_S, rate_hz in audios
    ]
    answers = run_isolated("metrics.tasks:f0_task", "the F0 tracker", {}, items, limits)
    tracks: list[Track | Outcome] = []
    for (audio_S, rate_hz), answer in zip(audios, answers, strict=True):
        if answer.status != "ok":
            tracks.append(Outcome.none(answer.status, answer.reason or "no reason was given"))
            continue
        pauses, active_s = pauses_of(audio_S, rate_hz)
        tracks.append(Track(f0_N=np.asarray(answer.payload, dtype=np.float64), pauses=pauses, active_s=active_s))
    return tracks


def pauses_of(audio_S: np.ndarray, rate_hz: int) -> tuple[tuple[tuple[float, float], ...], float]:
    """(pauses of 0.2 s or more between the first and last active frame, active seconds).

    A 10 ms frame is active within 25 dB of the 95th percentile; bursts under 50 ms are no speech (Praat's silences).
    """
    hop = round(0.01 * rate_hz)
    whole = audio_S.size // hop * hop
    power_N = np.mean(np.square(audio_S[:whole].astype(np.float64)).reshape(-1, hop), axis=1)
    if power_N.size == 0 or power_N.max() <= 0:
        return (), 0.0
    active_N = power_N > np.quantile(power_N, 0.95) * 10 ** (-PAUSE_BELOW_DB / 10)
    for start, stop in _runs(active_N):
        if (stop - start) * 0.01 < BURST_MAX_S:
            active_N[start:stop] = False
    spoken = np.flatnonzero(active_N)
    if spoken.size == 0:
        return (), 0.0
    first, last = int(spoken[0]), int(spoken[-1])
    silent = [(a + first, b + first) for a, b in _runs(~active_N[first : last + 1])]
    pauses = tuple((a * 0.01, b * 0.01) for a, b in silent if (b - a) * 0.01 >= PAUSE_MIN_S)
    return pauses, (last + 1 - first) * 0.01 - sum(stop - start for start, stop in pauses)


def _runs(flags_N: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags_N.astype(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def alone(track: Track, text: str) -> Mapping[str, Outcome]:
    """What one utterance has by itself: F0 median and range, rate, pauses, the final movement of a question."""
    voiced_N = track.f0_N[track.f0_N > 0]
    words = len(text.split())
    few = Outcome.none("too_few", f"{voiced_N.size} voiced frames, {MIN_VOICED_FRAMES} needed")
    enough = voiced_N.size >= MIN_VOICED_FRAMES
    low, high = np.quantile(voiced_N, (0.05, 0.95)) if enough else (1.0, 1.0)
    return {
        "f0_median_hz": Outcome.ok(float(np.median(voiced_N))) if enough else few,
        "f0_range_st": Outcome.ok(12 * math.log2(high / low)) if enough else few,
        "words_per_active_s": Outcome.ok(words / track.active_s) if track.active_s else few,
        "pause_s": Outcome.ok(sum(stop - start for start, stop in track.pauses)),
        "longest_pause_s": Outcome.ok(max((stop - start for start, stop in track.pauses), default=0.0)),
        "question_rise_st": final_rise_st(track) if is_yes_no_question(text) else NO_QUESTION,
    }


NO_QUESTION = Outcome.none("not_applicable", "not a yes/no question: other sentences need not rise")
_WH = (
    r"(?:what|when|where|which|who|whom|whose|why|how|"
    r"qué|cuándo|dónde|adónde|quién(?:es)?|cómo|cuál(?:es)?|cuánt[oa]s?)"
)
_BEFORE_WH = (
    r"(?:about|at|by|for|from|in|of|on|since|to|until|with|a|con|de|desde|en|entre|hacia|hasta|para|por|según|sobre)"
)
_FALLS = re.compile(rf"^\W*(?:(?:and|but|so|y|e|pero)\s+)?(?:{_BEFORE_WH}\s+)?{_WH}\b|\b(?:or|o|u)\b", re.IGNORECASE)


def is_yes_no_question(text: str) -> bool:
    """Ends in a question mark, its last question does not begin with a question word, and it offers no choice.

    Wh-questions usually fall (Syrdal and Jilka 2004), a choice between two rises or falls with what is meant.
    """
    if not text.rstrip(" \"')»”").endswith("?"):
        return False
    question = re.split(r"¿|[.!?;:…]\s+", text.strip())[-1]
    return not _FALLS.search(question)


def final_rise_st(track: Track) -> Outcome:
    """Semitones by which a line through the last 300 ms of voiced frames (median filter 5) goes up; or undetermined."""
    frames = np.flatnonzero(track.f0_N > 0)[-round(FINAL_S / FRAME_S) :]
    if frames.size < MIN_VOICED_FRAMES:
        return Outcome.none(
            "too_few", f"undetermined: {frames.size} voiced frames at the end, {MIN_VOICED_FRAMES} needed"
        )
    semitones_N = 12 * np.log2(track.f0_N[frames])
    if np.abs(np.diff(semitones_N)).max() > 10:
        return Outcome.none("too_few", "undetermined: the track jumps by nearly an octave at the end")
    half = MEDIAN_WIDTH // 2
    smooth_N = np.median(
        np.lib.stride_tricks.sliding_window_view(np.pad(semitones_N, half, "edge"), MEDIAN_WIDTH), axis=1
    )
    slope = np.polyfit(frames * FRAME_S, smooth_N, 1)[0]
    return Outcome.ok(float(slope * (frames[-1] - frames[0]) * FRAME_S))


def label_of(rise: Outcome) -> str:
    """rise, fall, flat or undetermined."""
    if rise.value is None:
        return "undetermined"
    return "rise" if rise.value >= RISE_ST else "fall" if rise.value <= FALL_ST else "flat"


def paired(ours: Track, theirs: Track, text: str) -> Mapping[str, Outcome]:
    """The variant's prosody against the aligned other side's."""
    num = min(ours.f0_N.size, theirs.f0_N.size)
    ours_N, theirs_N = ours.f0_N[:num], theirs.f0_N[:num]
    both = (ours_N > 0) & (theirs_N > 0)
    voicing = (
        Outcome.ok(float(np.mean((ours_N > 0) != (theirs_N > 0)))) if num else Outcome.none("too_few", "no frames")
    )
    few = Outcome.none("too_few", f"{int(both.sum())} frames voiced on both sides, {MIN_VOICED_FRAMES} needed")
    f0_cents, gross = few, few
    if both.sum() >= MIN_VOICED_FRAMES:
        ratio_N = ours_N[both] / theirs_N[both]
        f0_cents = Outcome.ok(float(np.median(np.abs(1200 * np.log2(ratio_N)))))
        gross = Outcome.ok(float(np.mean(np.abs(ratio_N - 1) > GROSS_RATIO)))
    return {
        "f0_cents": f0_cents,
        "f0_gross_frac": gross,
        "voicing_error_frac": voicing,
        "pause_f1": _pause_f1(ours.pauses, theirs.pauses),
        **_question(ours, theirs, text),
    }


def _question(ours: Track, theirs: Track, text: str) -> dict[str, Outcome]:
    if not is_yes_no_question(text):
        return {"question_rise_delta_st": NO_QUESTION, "question_same_label": NO_QUESTION}
    mine, other = final_rise_st(ours), final_rise_st(theirs)
    if mine.value is None or other.value is None:
        no = mine if mine.value is None else other
        return {"question_rise_delta_st": no, "question_same_label": no}
    return {
        "question_rise_delta_st": Outcome.ok(mine.value - other.value),
        "question_same_label": Outcome.ok(float(label_of(mine) == label_of(other))),
    }


def _pause_f1(ours: Sequence[tuple[float, float]], theirs: Sequence[tuple[float, float]]) -> Outcome:
    """F1 of pauses whose both ends agree within 50 ms; 1 where neither side has one."""
    if not ours and not theirs:
        return Outcome.ok(1.0)
    free = list(theirs)
    matched = 0
    for start, stop in ours:
        near = [p for p in free if abs(p[0] - start) <= PAUSE_MATCH_S and abs(p[1] - stop) <= PAUSE_MATCH_S]
        if near:
            free.remove(near[0])
            matched += 1
    return Outcome.ok(2 * matched / (len(ours) + len(theirs)))
