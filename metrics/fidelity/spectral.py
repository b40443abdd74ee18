"""Spectral distances that reach 12 kHz: band-wise log-spectral distance and level, mel-cepstral distortion.

PESQ and STOI miss a low-pass at 8 kHz and hiss at 10 kHz; these do not. Everybody's MCD is a different number, so the
recipe stands beside it (metrics.fidelity.catalog).

Shape letters: S samples, N frames, F frequency bins, C cepstral coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from metrics.fidelity.pairing import Heard, hann, unfit
from metrics.outcome import Outcome

BANDS_HZ: Mapping[str, tuple[float, float]] = {"0_4k": (0, 4000), "4_8k": (4000, 8000), "8_12k": (8000, 12000)}
N_FFT, HOP = 1024, 256
FLOOR_DB = -100.0  # re a sine at full scale; without a floor silence dominates every log-spectral distance
MCD_ORDER, MCD_ALPHA, MCD_HOP_S = 24, 0.466, 0.005
MCD_SCALE = 10 / math.log(10) * math.sqrt(2)
SPEECH_BELOW_LOUDEST_DB = 40.0


def log_spectrum(audio_S: np.ndarray, hop: int = HOP) -> np.ndarray:
    """(N, F) dB re a full-scale sine, Hann window of N_FFT, floored at FLOOR_DB."""
    padded_S = np.pad(audio_S.astype(np.float64), (0, max(0, N_FFT - audio_S.size)))
    window_S = hann(N_FFT)
    frames_NS = np.lib.stride_tricks.sliding_window_view(padded_S, N_FFT)[::hop]
    magnitude_NF = np.abs(np.fft.rfft(frames_NS * window_S, axis=1)) / (window_S.sum() / 2)
    return 20 * np.log10(np.maximum(magnitude_NF, 10 ** (FLOOR_DB / 20)))


def band_distances(variant: Heard, against: Heard) -> dict[str, tuple[Outcome, Outcome]]:
    """Band -> (LSD in dB, level change in dB).

    LSD = mean over frames of sqrt(mean over bins of (dB difference)^2). Level change: of the band's power over the
    whole utterance, floored likewise; a loss of bandwidth is far below 0, hiss far above, another reading near 0.
    """
    refusal = unfit(variant, against)
    if refusal is not None:
        return dict.fromkeys(BANDS_HZ, (refusal, refusal))
    ours_NF, theirs_NF = log_spectrum(variant.audio_S), log_spectrum(against.audio_S)
    bin_hz = np.arange(ours_NF.shape[1]) * variant.sample_rate_hz / N_FFT
    found = {}
    for name, (low_hz, high_hz) in BANDS_HZ.items():
        if high_hz > variant.sample_rate_hz / 2:
            no = Outcome.none("not_applicable", f"{variant.sample_rate_hz} Hz audio has no band up to {high_hz:g} Hz")
            found[name] = (no, no)
            continue
        chosen = (bin_hz >= low_hz) & (bin_hz < high_hz)
        difference_NF = ours_NF[:, chosen] - theirs_NF[:, chosen]
        lsd = float(np.mean(np.sqrt(np.mean(difference_NF**2, axis=1))))
        level = 10 * math.log10(np.mean(10 ** (ours_NF[:, chosen] / 10)) / np.mean(10 ** (theirs_NF[:, chosen] / 10)))
        found[name] = (Outcome.ok(lsd), Outcome.ok(level))
    return found


def mcd(variant: Heard, against: Heard) -> Outcome:
    """10/ln10 sqrt(2 sum over k = 1..24 of (c_k - c'_k)^2) in dB, mean over the other side's speech frames.

    c_k: mel-cepstrum by frequency transformation of the real cepstrum (alpha 0.466 at 24 kHz), frames every 5 ms, c0
    left out (loudness is not timbre), no time warping (it would hide timing faults; the pair is aligned by its noise).
    """
    refusal = unfit(variant, against)
    if refusal is not None:
        return refusal
    hop = round(MCD_HOP_S * variant.sample_rate_hz)
    ours_NF, theirs_NF = log_spectrum(variant.audio_S, hop), log_spectrum(against.audio_S, hop)
    level_N = np.mean(10 ** (theirs_NF / 10), axis=1)
    speech = level_N >= level_N.max() * 10 ** (-SPEECH_BELOW_LOUDEST_DB / 10)
    difference_NC = mel_cepstrum(ours_NF[speech]) - mel_cepstrum(theirs_NF[speech])
    return Outcome.ok(float(MCD_SCALE * np.mean(np.sqrt(np.sum(difference_NC[:, 1:] ** 2, axis=1)))))


def mel_cepstrum(spectrum_NF: np.ndarray, order: int = MCD_ORDER, alpha: float = MCD_ALPHA) -> np.ndarray:
    """(N, order + 1) from log-magnitude spectra in dB: log|X| = c0 + 2 sum c_k cos(k w~) with w~ the warped frequency.

    The factor 2 is kept inside c_k for k > 0 as SPTK does (minimum phase), so that log|X| = sum c_k cos(k w~).
    """
    num_fft = 2 * (spectrum_NF.shape[1] - 1)
    cepstrum_NC = np.fft.irfft(spectrum_NF * (math.log(10) / 20), axis=1)[:, : num_fft // 2 + 1]
    cepstrum_NC[:, 1 : num_fft // 2] *= 2
    return cepstrum_NC @ _frequency_transform(cepstrum_NC.shape[1] - 1, order, alpha).T


@lru_cache(maxsize=4)
def _frequency_transform(order_in: int, order_out: int, alpha: float) -> np.ndarray:
    """(order_out + 1, order_in + 1): the all-pass warping of a cepstrum as a matrix (Oppenheim, Johnson 1972)."""
    matrix = np.zeros((order_out + 1, order_in + 1))
    state = np.zeros((order_out + 1, order_in + 1))
    for i in range(order_in, -1, -1):  # the recursion is linear, so it is run on the unit vectors at once
        last, state = state, np.zeros_like(state)
        state[0] = alpha * last[0]
        state[0, i] += 1.0
        if order_out >= 1:
            state[1] = (1 - alpha**2) * last[0] + alpha * last[1]
        for m in range(2, order_out + 1):
            state[m] = last[m - 1] + alpha * (last[m] - state[m - 1])
    matrix[:] = state
    return matrix


def blind_snr_delta_db(variant: Heard, against: Heard, frame_s: float = 0.02) -> Outcome:
    """How much the level of speech over that of pauses changed, the pauses being the other side's in both.

    Speech: frames within 25 dB of the loudest, by their mean; pauses: frames 40 dB or more under it, by their median: a
    stop that closes one frame later puts 20 ms of speech into a pause, which would cost a mean 20 dB of "noise".
    It needs no alignment of phases.
    """
    refusal = unfit(variant, against)
    if refusal is not None:
        return refusal
    frame = round(frame_s * variant.sample_rate_hz)
    ours_N, theirs_N = _frame_power(variant.audio_S, frame), _frame_power(against.audio_S, frame)
    if theirs_N.size == 0:
        return Outcome.none("too_few", "not one frame")
    speech = theirs_N >= theirs_N.max() * 10**-2.5
    pause = theirs_N <= theirs_N.max() * 10 ** (-SPEECH_BELOW_LOUDEST_DB / 10)
    if pause.sum() < 5 or speech.sum() < 5:
        return Outcome.none(
            "too_few", f"{int(pause.sum())} frames of pause and {int(speech.sum())} of speech, 5 needed"
        )
    ours_db, theirs_db = (
        10 * math.log10(power_N[speech].mean() / np.median(power_N[pause])) for power_N in (ours_N, theirs_N)
    )
    return Outcome.ok(ours_db - theirs_db)


def _frame_power(audio_S: np.ndarray, frame: int) -> np.ndarray:
    """Mean square of whole frames, floored at -100 dB re full scale."""
    whole = audio_S.size // frame * frame
    power_N = np.mean(np.square(audio_S[:whole].astype(np.float64)).reshape(-1, frame), axis=1)
    return np.maximum(power_N, 10 ** (FLOOR_DB / 10))
