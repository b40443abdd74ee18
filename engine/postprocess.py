"""Chunks of audio -> one: upstream's linear cross-fade, in one float32 buffer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def join_chunks(waves: Sequence[np.ndarray], fade_samples: int) -> np.ndarray:
    """Overlap each chunk (S,) with the end of what stands before it; linear weights, both ends included.

    Equal to upstream's loop, which copies the whole prefix for every chunk and returns float64 for more than one.
    """
    if len(waves) == 1:
        return waves[0]
    joined = np.zeros(sum(len(wave) for wave in waves), dtype=np.float32)
    end = 0
    for wave in waves:
        overlap = min(fade_samples, end, len(wave)) if fade_samples > 0 else 0
        start = end - overlap
        fade_in = np.linspace(0.0, 1.0, overlap)
        joined[start:end] = joined[start:end] * fade_in[::-1] + wave[:overlap] * fade_in
        joined[end : start + len(wave)] = wave[overlap:]
        end = start + len(wave)
    return joined[:end]
