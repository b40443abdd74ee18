"""Reference clips of any length for speed workloads on random weights: what a shorter reference saves in arithmetic.

They are no voices: a trained model is never given one (experiments.workload.requests refuses).
"""

from __future__ import annotations

import numpy as np

from engine.contract import ConfigError

PREFIX = "synthetic:"
RATE_HZ = 24000
BYTES_PER_S = 15  # the same for every length, so that a sentence takes as many frames beside each
WORDS = "the old clock on the wall is wrong and nobody has looked at it since the summer "


def is_synthetic(audio: str) -> bool:
    return audio.startswith(PREFIX)


def seconds_of(audio: str) -> float:
    """Raises ConfigError for what is no number of seconds; engine.frontend checks the range."""
    text = audio.removeprefix(PREFIX)
    try:
        return float(text)
    except ValueError:
        raise ConfigError("reference.audio", audio, "must be synthetic:SECONDS", "use synthetic:5") from None


def synthetic_clip(seconds: float) -> np.ndarray:
    """(S,) float32 at RATE_HZ: harmonics of 120 Hz whose loudness moves like syllables."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    tone = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 20))
    return (0.1 * tone * (0.55 - 0.45 * np.cos(2 * np.pi * 4 * t))).astype(np.float32)


def synthetic_text(seconds: float) -> str:
    """BYTES_PER_S a second, the space that upstream appends included."""
    num_bytes = max(round(seconds * BYTES_PER_S) - 2, 1)
    return (WORDS * (num_bytes // len(WORDS) + 1))[:num_bytes] + "."
