"""PESQ, STOI and ESTOI of certified pairs, each in a child process, in pieces of 20 s at most.

PESQ was made for telephone links and never validated for speech that is natural but different: it is a fidelity number
for same-noise pairs, never "the MOS". It hears nothing above 8 kHz, STOI nothing above 4.3 kHz. The package `pesq` says
it is MIT, but its C source carries the notice of Psytechnics and OPTICOM (evaluation of the algorithm only), so it is
an optional extra. pystoi: MIT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import soxr

from metrics.fidelity.pairing import Heard, Pair, pieces, unfit
from metrics.isolation import Answer, Item, Limits, run_isolated
from metrics.outcome import Outcome
from metrics.tasks import PESQ_RATE_HZ

MIN_S = 0.25
RESAMPLER = "VHQ"  # soxr; two correct resamplers differ by up to 0.1 PESQ, so there is one


def pesq_wb(pairs: Sequence[Pair], limits: Limits) -> list[Outcome]:
    """Wide-band PESQ (1.04..4.64), one outcome per pair; PESQ is not symmetric: the other side is the reference."""

    def items(variant: Heard, against: Heard) -> list[Item]:
        sides = (against, variant)
        return [
            Item(tuple(resampled(side.audio_S[part], side.sample_rate_hz, PESQ_RATE_HZ) for side in sides))
            for part in pieces(variant.audio_S.size, variant.sample_rate_hz)
        ]

    return _of_pieces("metrics.tasks:pesq_task", "PESQ", pairs, items, limits)


def stoi(pairs: Sequence[Pair], limits: Limits, *, extended: bool = False) -> list[Outcome]:
    """Short-time objective intelligibility of the variant, the other side being the clean speech."""

    def items(variant: Heard, against: Heard) -> list[Item]:
        info = {"sample_rate_hz": against.sample_rate_hz, "extended": extended}
        return [
            Item((against.audio_S[part], variant.audio_S[part]), info)
            for part in pieces(variant.audio_S.size, variant.sample_rate_hz)
        ]

    return _of_pieces("metrics.tasks:stoi_task", "ESTOI" if extended else "STOI", pairs, items, limits)


def resampled(audio_S: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """float32 (S,) at another rate by the one resampler of all metrics."""
    return np.asarray(soxr.resample(np.asarray(audio_S, dtype=np.float32), from_hz, to_hz, quality=RESAMPLER))


def _of_pieces(
    task: str, name: str, pairs: Sequence[Pair], items_of: Callable[[Heard, Heard], list[Item]], limits: Limits
) -> list[Outcome]:
    """Every pair's pieces through one child; a pair's value is the mean of its equal pieces, or the first refusal."""
    refusals = [_refusal(*pair) for pair in pairs]
    work = [items_of(*pair) if no is None else [] for pair, no in zip(pairs, refusals, strict=True)]
    answers = run_isolated(task, name, {}, [item for items in work for item in items], limits)
    outcomes, start = [], 0
    for refusal, items in zip(refusals, work, strict=True):
        outcomes.append(refusal or _joined(answers[start : start + len(items)]))
        start += len(items)
    return outcomes


def _refusal(variant: Heard, against: Heard) -> Outcome | None:
    refusal = unfit(variant, against)
    if refusal is not None:
        return refusal
    duration_s = variant.audio_S.size / variant.sample_rate_hz
    return None if duration_s >= MIN_S else Outcome.none("too_few", f"{duration_s:.2f} s long, {MIN_S:g} s needed")


def _joined(answers: Sequence[Answer]) -> Outcome:
    bad = next((answer for answer in answers if answer.status != "ok"), None)
    if bad is not None:
        return Outcome.none(bad.status, bad.reason or "no reason was given")
    return Outcome.ok(float(np.mean([answer.payload for answer in answers])))
