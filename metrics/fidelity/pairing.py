"""The pairing certificate: which two utterances a full-reference metric may compare at all.

Those metrics mean something only for the same sentence from the same noise with the same frames, sample by sample.
Never trim or pad to make a pair fit: the difference is the finding.

Shape letters: S samples, N mel frames, D mel bins.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy

from metrics.fidelity.artefacts import SILENT_RMS, rms
from metrics.outcome import Outcome
from metrics.record import Utterance

AgainstName = Literal["reference", "oracle"]
Kind = Literal["paired", "floor"]  # floor: everything equal but the noise, to see what another seed changes

MIN_DURATION_S = 0.5
MAX_PIECE_S = 20.0  # PESQ keeps 50 utterances in an array without a bound check; 70 s of bursts crash it
CLEAR_LAG_CORRELATION = 0.9  # voiced speech of another phase correlates with itself a pitch period away, up to 0.8
MAX_LAG_SAMPLES = 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Heard:
    """One utterance as it was heard: the record, its audio and mel, and what has to be equal on both sides of a pair.

    audio_S: mono float32. mel_ND: float32 natural log-mel before the vocoder. identity: prompt, weights_sha256,
    cfg_strength, vocoder; towards an oracle the grid as well.
    """

    utterance: Utterance
    audio_S: np.ndarray
    sample_rate_hz: int
    mel_ND: np.ndarray
    identity: Mapping[str, str]


Pair = tuple[Heard, Heard]


def certificate(variant: Heard, against: Heard, kind: Kind = "paired") -> str | None:
    """None where a full-reference metric is allowed for the pair, otherwise the first reason why it is not."""
    return (
        _identity_reason(variant, against)
        or _noise_reason(variant.utterance, against.utterance, kind)
        or _signal_reason(variant, against)
        or (_lag_reason(variant, against) if kind == "paired" else None)
    )


def unfit(variant: Heard, against: Heard) -> Outcome | None:
    """What no waveform metric may be given: unequal shapes, NaN, silence."""
    if variant.audio_S.shape != against.audio_S.shape or variant.audio_S.ndim != 1:
        return Outcome.none("not_comparable", f"audio shapes {variant.audio_S.shape} and {against.audio_S.shape}")
    for side, heard in (("variant", variant), ("other side", against)):
        if heard.audio_S.dtype.kind != "f":
            return Outcome.none("error", f"the {side} has {heard.audio_S.dtype} samples, must be floating point")
        if not np.isfinite(heard.audio_S).all():
            return Outcome.none("error", f"the {side} has samples that are not finite")
        if rms(heard.audio_S) <= SILENT_RMS:
            return Outcome.none("error", f"the {side} is silent")
    return None


def pieces(num_samples: int, sample_rate_hz: int) -> list[slice]:
    """Equal pieces of MAX_PIECE_S at most, the same for both sides of a pair; one slice where all fits."""
    num = max(1, math.ceil(num_samples / (MAX_PIECE_S * sample_rate_hz)))
    return [slice(round(i * num_samples / num), round((i + 1) * num_samples / num)) for i in range(num)]


def hann(size: int) -> np.ndarray:
    """(size,) periodic Hann window, as scipy.signal's; that package takes longer to import than a clip to score."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)


def sha256_of(audio_S: np.ndarray) -> str:
    """Hash of the float32 samples, as in Utterance.audio_sha256."""
    return hashlib.sha256(np.ascontiguousarray(audio_S, dtype=np.float32).tobytes()).hexdigest()


def _identity_reason(variant: Heard, against: Heard) -> str | None:
    ours, theirs = variant.utterance, against.utterance
    for name in ("utterance_id", "text"):
        if getattr(ours, name) != getattr(theirs, name):
            return f"{name} differs: {getattr(ours, name)!r} and {getattr(theirs, name)!r}"
    for key in sorted({*variant.identity, *against.identity}):
        mine, other = variant.identity.get(key), against.identity.get(key)
        if mine != other:
            return f"{key} differs: {_short(mine)} and {_short(other)}"
    for name in ("num_frames", "num_chunks"):
        if getattr(ours, name) != getattr(theirs, name):
            return f"{name} differs: {getattr(ours, name)!r} and {getattr(theirs, name)!r}"
    return None


def _short(value: str | None) -> str:
    """Two lists of times in one line help nobody: their ends and lengths do."""
    return repr(value) if value is None or len(value) <= 80 else f"{value[:36]!r}..{value[-24:]!r}"


def _noise_reason(ours: Utterance, theirs: Utterance, kind: Kind) -> str | None:
    if ours.noise_sha256 is None or theirs.noise_sha256 is None:
        return "the initial noise is not known on both sides"
    differs = ours.noise_sha256 != theirs.noise_sha256
    if kind == "paired" and differs:
        return f"noise_sha256 differs: {ours.noise_sha256[:12]} and {theirs.noise_sha256[:12]}"
    return "the same initial noise, not another seed" if kind == "floor" and not differs else None


def _signal_reason(variant: Heard, against: Heard) -> str | None:
    if variant.sample_rate_hz != against.sample_rate_hz:
        return f"sample rates differ: {variant.sample_rate_hz} and {against.sample_rate_hz} Hz"
    if variant.mel_ND.shape != against.mel_ND.shape:
        return f"mel shapes differ: {variant.mel_ND.shape} and {against.mel_ND.shape}"
    for heard in (variant, against):
        if heard.audio_S.size != heard.utterance.num_samples:
            return f"{heard.audio_S.size} samples where its record says {heard.utterance.num_samples}"
        if sha256_of(heard.audio_S) != heard.utterance.audio_sha256:
            return f"the audio of {heard.utterance.audio_path} is not the audio of its record (audio_sha256 differs)"
    refusal = unfit(variant, against)
    if refusal is not None:
        return refusal.reason
    duration_s = variant.audio_S.size / variant.sample_rate_hz
    return None if duration_s >= MIN_DURATION_S else f"{duration_s:.2f} s long, must be {MIN_DURATION_S:g} s at least"


def _lag_reason(variant: Heard, against: Heard) -> str | None:
    """A clear correlation peak elsewhere is a shift. Without a clear peak (few steps, other phases) nothing is said."""
    ours_S, theirs_S = variant.audio_S.astype(np.float64), against.audio_S.astype(np.float64)
    size = scipy.fft.next_fast_len(ours_S.size + theirs_S.size, real=True)
    correlation = np.abs(scipy.fft.irfft(scipy.fft.rfft(ours_S, size) * np.conj(scipy.fft.rfft(theirs_S, size)), size))
    best = int(np.argmax(correlation))
    lag_samples = best if best < ours_S.size else best - size
    clearness = correlation[best] / (np.linalg.norm(ours_S) * np.linalg.norm(theirs_S))
    if clearness > CLEAR_LAG_CORRELATION and abs(lag_samples) > MAX_LAG_SAMPLES:
        return f"shifted by {lag_samples} samples (correlation {clearness:.2f}), must be within +-{MAX_LAG_SAMPLES}"
    return None
