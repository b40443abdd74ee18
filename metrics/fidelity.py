"""How close a variant's audio is to the reference's or the oracle's: SNR, log-mel error, PESQ, STOI.

These mean something only for the same sentence from the same noise with the same frames, sample by sample.
`certificate` checks that; without it no number is given. Never trim or pad to make a pair fit: the difference is the
finding.

Shape letters: S samples, N mel frames, D mel bins.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import soxr
from scipy import signal

from metrics.artifacts import SILENT_RMS, rms
from metrics.pesq_child import SAMPLE_RATE_HZ as PESQ_RATE_HZ
from metrics.pesq_child import Outcome, pesq_many
from metrics.record import Better, Score, Utterance

AgainstName = Literal["reference", "oracle"]

SNR_CAP_DB = 120.0
MIN_DURATION_S = 0.5
MAX_DURATION_S = 20.0
PESQ_MIN_S = 0.25
PESQ_MAX_S = 20.0  # PESQ keeps 50 utterances in an array without a bound check; 70 s of bursts crash it
CLEAR_LAG_CORRELATION = 0.9  # voiced speech of another phase correlates with itself a pitch period away, up to 0.8
MAX_LAG_SAMPLES = 1
STOI_TOO_LITTLE = 1e-5  # what pystoi returns instead of an error
STOI_REMEDY = "pip install pystoi (extra `quality`)"

_NAMES: Mapping[str, tuple[str, Better]] = {
    "snr": ("snr_vs_{}_db", "higher"),
    "log_mel": ("log_mel_mae_vs_{}", "lower"),
    "pesq": ("pesq_wb_vs_{}", "higher"),
    "stoi": ("stoi_vs_{}", "higher"),
}
METRICS = tuple(_NAMES)
ORACLE_METRICS = ("snr", "log_mel")  # an engine's own error; the perceptual pair is for the reference


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Heard:
    """One utterance as it was heard: the record, its audio and mel, and what has to be equal on both sides of a pair.

    audio_S: mono float32. mel_ND: float32 natural log-mel before the vocoder. identity: text, workload identity,
    weights_sha256, cfg_strength, vocoder; towards an oracle the grid as well.
    """

    utterance: Utterance
    audio_S: np.ndarray
    sample_rate_hz: int
    mel_ND: np.ndarray
    identity: Mapping[str, str]


Pair = tuple[Heard, Heard]


def score_pairs(
    pairs: Sequence[Pair], against_name: AgainstName, metrics: Sequence[str], pesq_timeout_s: float
) -> list[Score]:
    """Scores of (variant, against) pairs, pair by pair, in the order of `metrics` (names of METRICS).

    Towards "oracle" only ORACLE_METRICS are computed. A pair without certificate has status not_comparable in every
    metric. PESQ runs for all pairs in one child process. Raises ValueError on an unknown metric.
    """
    unknown = sorted(set(metrics) - set(METRICS))
    if unknown:
        raise ValueError(f"unknown metrics {unknown}; there are {list(METRICS)}")
    wanted = [name for name in metrics if against_name == "reference" or name in ORACLE_METRICS]
    refusals = [certificate(variant, against) for variant, against in pairs]
    certified = [pair for pair, refusal in zip(pairs, refusals, strict=True) if refusal is None]
    pesq = iter(pesq_wb(certified, pesq_timeout_s) if "pesq" in wanted else ())
    scores = []
    for pair, refusal in zip(pairs, refusals, strict=True):
        for name in wanted:
            if refusal is not None:
                outcome = Outcome.none("not_comparable", refusal)
            else:
                outcome = next(pesq) if name == "pesq" else _DIRECT[name](*pair)
            scores.append(_score(name, against_name, pair[0].utterance.utterance_id, outcome))
    return scores


def certificate(variant: Heard, against: Heard) -> str | None:
    """None where a full-reference metric is allowed for the pair, otherwise the first reason why it is not."""
    return _identity_reason(variant, against) or _signal_reason(variant, against) or _lag_reason(variant, against)


def snr_db(variant: Heard, against: Heard) -> Outcome:
    """10 log10(sum(against**2) / sum((against - variant)**2)); SNR_CAP_DB means identical, or better than that."""
    unfit = _unfit(variant, against)
    if unfit is not None:
        return unfit
    wanted_S = against.audio_S.astype(np.float64)
    noise = float(np.sum(np.square(wanted_S - variant.audio_S)))
    power = float(np.sum(np.square(wanted_S)))
    return Outcome.ok(SNR_CAP_DB if noise == 0 else min(SNR_CAP_DB, 10 * math.log10(power / noise)))


def log_mel_mae(variant: Heard, against: Heard) -> Outcome:
    """Mean absolute difference of the natural log-mels before the vocoder, in nats."""
    if variant.mel_ND.shape != against.mel_ND.shape:
        return Outcome.none("not_comparable", f"mel shapes {variant.mel_ND.shape} and {against.mel_ND.shape}")
    if variant.mel_ND.size == 0 or not (np.isfinite(variant.mel_ND).all() and np.isfinite(against.mel_ND).all()):
        return Outcome.none("error", "a mel is empty or not finite")
    return Outcome.ok(float(np.mean(np.abs(variant.mel_ND.astype(np.float64) - against.mel_ND))))


def stoi(variant: Heard, against: Heard) -> Outcome:
    """Short-time objective intelligibility (Taal et al. 2011) of the variant, the other side being the clean speech."""
    unfit = _unfit(variant, against)
    if unfit is not None:
        return unfit
    try:
        import pystoi
    except ImportError as error:
        return Outcome.none("unavailable", f"package pystoi is missing ({error}); {STOI_REMEDY}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            value = float(pystoi.stoi(against.audio_S, variant.audio_S, against.sample_rate_hz))
    except ValueError as error:  # under one frame of 25 ms
        return Outcome.none("too_few", f"too little speech for STOI: {error}")
    if value == STOI_TOO_LITTLE:
        return Outcome.none("too_few", "too little speech for STOI: it takes 0.41 s that are not silent")
    return Outcome.ok(value) if math.isfinite(value) else Outcome.none("error", f"STOI returned {value}")


def pesq_wb(pairs: Sequence[Pair], timeout_s: float) -> list[Outcome]:
    """Wide-band PESQ (P.862.2, 1.04..4.64), one outcome per pair: both signals through one resampler, one child."""
    refusals = [_pesq_refusal(*pair) for pair in pairs]
    signals = [
        (_at_pesq_rate(against), _at_pesq_rate(variant))  # PESQ is not symmetric: the reference comes first
        for (variant, against), refusal in zip(pairs, refusals, strict=True)
        if refusal is None
    ]
    scored = iter(pesq_many(signals, timeout_s))
    return [next(scored) if refusal is None else refusal for refusal in refusals]


_DIRECT: Mapping[str, Callable[[Heard, Heard], Outcome]] = {"snr": snr_db, "log_mel": log_mel_mae, "stoi": stoi}


def _score(name: str, against_name: AgainstName, utterance_id: str, outcome: Outcome) -> Score:
    template, better = _NAMES[name]
    return Score(
        metric=template.format(against_name),
        utterance_id=utterance_id,
        value=outcome.value,
        status=outcome.status,
        reason=outcome.reason,
        better=better,
    )


def _identity_reason(variant: Heard, against: Heard) -> str | None:
    ours, theirs = variant.utterance, against.utterance
    for name in ("utterance_id", "text", "num_frames", "num_chunks"):
        if getattr(ours, name) != getattr(theirs, name):
            return f"{name} differs: {getattr(ours, name)!r} and {getattr(theirs, name)!r}"
    for key in sorted({*variant.identity, *against.identity}):
        mine, other = variant.identity.get(key), against.identity.get(key)
        if mine != other:
            return f"{key} differs: {mine!r} and {other!r}"
    if ours.noise_sha256 is None or theirs.noise_sha256 is None:
        return "the initial noise is not known on both sides"
    if ours.noise_sha256 != theirs.noise_sha256:
        return f"noise_sha256 differs: {ours.noise_sha256[:12]} and {theirs.noise_sha256[:12]}"
    return None


def _signal_reason(variant: Heard, against: Heard) -> str | None:
    if variant.sample_rate_hz != against.sample_rate_hz:
        return f"sample rates differ: {variant.sample_rate_hz} and {against.sample_rate_hz} Hz"
    if variant.mel_ND.shape != against.mel_ND.shape:
        return f"mel shapes differ: {variant.mel_ND.shape} and {against.mel_ND.shape}"
    for heard in (variant, against):
        if heard.audio_S.size != heard.utterance.num_samples:
            return f"{heard.audio_S.size} samples where its record says {heard.utterance.num_samples}"
    unfit = _unfit(variant, against)
    if unfit is not None:
        return unfit.reason
    duration_s = variant.audio_S.size / variant.sample_rate_hz
    if not MIN_DURATION_S <= duration_s <= MAX_DURATION_S:
        return f"{duration_s:.2f} s long, must be {MIN_DURATION_S:g}..{MAX_DURATION_S:g} s"
    return None


def _lag_reason(variant: Heard, against: Heard) -> str | None:
    """A clear correlation peak elsewhere is a shift. Without a clear peak (few steps, other phases) nothing is said."""
    ours_S, theirs_S = variant.audio_S.astype(np.float64), against.audio_S.astype(np.float64)
    correlation = np.abs(signal.correlate(ours_S, theirs_S, method="fft"))
    best = int(np.argmax(correlation))
    lag_samples = best - (theirs_S.size - 1)
    clearness = correlation[best] / (np.linalg.norm(ours_S) * np.linalg.norm(theirs_S))
    if clearness > CLEAR_LAG_CORRELATION and abs(lag_samples) > MAX_LAG_SAMPLES:
        return f"shifted by {lag_samples} samples (correlation {clearness:.2f}), must be within +-{MAX_LAG_SAMPLES}"
    return None


def _unfit(variant: Heard, against: Heard) -> Outcome | None:
    """What no waveform metric may be given: unequal shapes, NaN, silence."""
    if variant.audio_S.shape != against.audio_S.shape or variant.audio_S.ndim != 1:
        return Outcome.none("not_comparable", f"audio shapes {variant.audio_S.shape} and {against.audio_S.shape}")
    for side, heard in (("variant", variant), ("other side", against)):
        if not np.isfinite(heard.audio_S).all():
            return Outcome.none("error", f"the {side} has samples that are not finite")
        if rms(heard.audio_S) <= SILENT_RMS:
            return Outcome.none("error", f"the {side} is silent")
    return None


def _pesq_refusal(variant: Heard, against: Heard) -> Outcome | None:
    duration_s = variant.audio_S.size / variant.sample_rate_hz
    if duration_s > PESQ_MAX_S:
        return Outcome.none("not_applicable", f"{duration_s:.1f} s long: PESQ takes {PESQ_MAX_S:g} s at most")
    if duration_s < PESQ_MIN_S:
        return Outcome.none("too_few", f"{duration_s:.2f} s long: PESQ needs {PESQ_MIN_S:g} s")
    return _unfit(variant, against)


def _at_pesq_rate(heard: Heard) -> np.ndarray:
    audio_S = np.asarray(heard.audio_S, dtype=np.float32)
    return np.asarray(soxr.resample(audio_S, heard.sample_rate_hz, PESQ_RATE_HZ, quality="VHQ"))
