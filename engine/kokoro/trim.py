"""Silence off both ends of what the model said, by the rule of kokoro-onnx's `trim` (librosa's), to the same sample.

Written again because that function's module brings the package's whole G2P with it, and is held equal to it by a test.
"""

from __future__ import annotations

import numpy as np

TOP_DB = 60.0
FRAME, HOP = 2048, 512
LEAST_POWER = np.float32(1e-10)


def trimmed(audio_S: np.ndarray) -> np.ndarray:
    """(S,) float32 -> from the first to the last frame less than 60 dB under the loudest; empty where none is."""
    padded = np.pad(audio_S, FRAME // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    # Summed frame by frame in that function's order: a sum in another order could fall on the other side of the limit
    level = np.sqrt(np.mean(np.square(frames.T, dtype=np.float32), axis=0))
    power = np.square(level)
    decibel = 10.0 * np.log10(np.maximum(LEAST_POWER, power))
    decibel -= 10.0 * np.log10(np.maximum(LEAST_POWER, np.max(level) ** 2))
    heard = np.flatnonzero(decibel > -TOP_DB)
    if not heard.size:
        return audio_S[:0]
    return audio_S[heard[0] * HOP : min(len(audio_S), (heard[-1] + 1) * HOP)]
