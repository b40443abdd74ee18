"""One loudness for every clip of a set, anchors, and the 16-bit samples that the page carries.

Loudness is BS.1770-4 integrated (gated, blocks of 400 ms) by pyloudnorm; a clip shorter than one block is a block of
its own, so the gate does not act. True peak by fourfold oversampling, as in BS.1770-4 annex 2.
Shape letters: S samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import signal

from reports.listening.study.settings import ListeningError

TARGET_LUFS = -23.0
CEILING_DBTP = -1.0
BLOCK_S = 0.4
OVERSAMPLING = 4
ANCHOR_HZ = 3500.0
ANCHOR_ORDER = 12
DEGRADED_SNR_DB = 3.0
PCM_SCALE = 32767.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """loudness_lufs as measured before, peak_dbtp likewise."""

    loudness_lufs: float
    peak_dbtp: float


def loudness_lufs(audio_S: np.ndarray, rate_hz: int) -> float:
    """Integrated loudness; -inf for silence. Raises ListeningError where pyloudnorm is missing."""
    try:
        import pyloudnorm
    except ImportError as error:
        raise ListeningError(
            f"loudness: pyloudnorm cannot be imported ({error}); pip install -c constraints.txt -e '.[quality]'"
        ) from error
    duration_s = audio_S.size / rate_hz
    block_s = BLOCK_S if duration_s >= BLOCK_S else duration_s
    meter = pyloudnorm.Meter(rate_hz, block_size=block_s)
    with np.errstate(divide="ignore"):
        return float(meter.integrated_loudness(audio_S.astype(np.float64)))


def true_peak_dbtp(audio_S: np.ndarray) -> float:
    """dB over full scale of the fourfold oversampled signal; -inf for silence."""
    peak = float(np.abs(signal.resample_poly(audio_S.astype(np.float64), OVERSAMPLING, 1)).max())
    peak = max(peak, float(np.abs(audio_S).max()))
    return 20 * math.log10(peak) if peak > 0 else -math.inf


def level_of(audio_S: np.ndarray, rate_hz: int) -> Level:
    return Level(loudness_lufs=loudness_lufs(audio_S, rate_hz), peak_dbtp=true_peak_dbtp(audio_S))


def common_target_lufs(levels: list[Level]) -> float:
    """-23 LUFS, or as much lower as the clip with the highest peak needs to stay under -1 dBTP."""
    headroom = [CEILING_DBTP - (level.peak_dbtp - level.loudness_lufs) for level in levels]
    return min(TARGET_LUFS, *headroom)


def to_pcm(audio_S: np.ndarray, gain_db: float) -> np.ndarray:
    """(S,) int16 little-endian; rounding only, since the gain keeps every sample below full scale."""
    scaled_S = np.rint(audio_S.astype(np.float64) * 10 ** (gain_db / 20) * PCM_SCALE)
    return np.clip(scaled_S, -PCM_SCALE, PCM_SCALE).astype("<i2")


def anchor(audio_S: np.ndarray, rate_hz: int) -> np.ndarray:
    """BS.1534's low anchor: nothing above 3.5 kHz (Butterworth of order 12, both ways, so that it stays aligned)."""
    if rate_hz <= 2 * ANCHOR_HZ:
        raise ListeningError(f"anchor: audio at {rate_hz} Hz has nothing above {ANCHOR_HZ:.0f} Hz; use another method")
    sections = signal.butter(ANCHOR_ORDER, ANCHOR_HZ, fs=rate_hz, output="sos")
    padding = min(audio_S.size - 1, 6 * ANCHOR_ORDER)
    return np.asarray(signal.sosfiltfilt(sections, audio_S.astype(np.float64), padlen=padding), dtype=np.float32)


def degraded(audio_S: np.ndarray, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """A catch trial's bad side, which nobody who listens can miss: the anchor in noise modulated by it (P.810)."""
    low_S = anchor(audio_S, rate_hz)
    noise_S = low_S * rng.standard_normal(low_S.size) * 10 ** (-DEGRADED_SNR_DB / 20)
    return (low_S + noise_S).astype(np.float32)
