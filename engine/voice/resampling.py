"""A clip at the model's rate, in bounded time and memory at every rate.

Upstream resamples with torchaudio, whose filter bank has a row for each phase: (to / g) rows of about (from / g) values
with g the greatest common divisor. At 44,100 Hz that is 80 x 173 values; at 44,101 Hz, which shares no factor with
24,000, it is 24,000 x 44,127, 8.5 GB while it is made. The rule: up to MAX_KERNEL_VALUES the clip is upstream's to the
bit; beyond it soxr brings the clip to the model's rate first, for every engine alike, and the record says so.
"""

from __future__ import annotations

import math

import numpy as np

from engine.contract import InvalidRequest

MAX_KERNEL_VALUES = 1 << 20  # 8 MB; every common rate needs under 60,000
LOWPASS_WIDTH, ROLLOFF = 6, 0.99  # torchaudio's defaults
NONE, TORCHAUDIO, SOXR = "none", "torchaudio sinc_interp_hann", "soxr VHQ"


def kernel_values(from_hz: int, to_hz: int) -> int:
    """How many values torchaudio.functional.resample's filter bank has."""
    common = math.gcd(from_hz, to_hz)
    source, target = from_hz // common, to_hz // common
    width = math.ceil(LOWPASS_WIDTH * source / (min(source, target) * ROLLOFF))
    return target * (2 * width + source)


def resampler_of(from_hz: int, to_hz: int) -> str:
    """Which resampler brings a clip from one rate to the other."""
    if from_hz == to_hz:
        return NONE
    return TORCHAUDIO if kernel_values(from_hz, to_hz) <= MAX_KERNEL_VALUES else SOXR


def affordable(audio_S: np.ndarray, from_hz: int, to_hz: int) -> tuple[np.ndarray, int]:
    """(S,) float32 and its rate: as it came where torchaudio can take it from there, else at to_hz already."""
    if from_hz < 1:
        raise InvalidRequest("reference.audio", f"{from_hz} Hz", "is no sample rate", "export the clip at 24000 Hz")
    if resampler_of(from_hz, to_hz) != SOXR:
        return audio_S, from_hz
    import soxr

    return np.asarray(soxr.resample(np.asarray(audio_S, dtype=np.float32), from_hz, to_hz, quality="VHQ")), to_hz
