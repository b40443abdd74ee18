"""Chunks of audio -> one: cross-fades in one pass, float32; as blocks that are final, or as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# Weight of the coming chunk over the overlap, u from 0 to 1; the leaving one has the same weights backwards.
# linear keeps the level of equal signals (upstream), equal_power that of unrelated ones
FADES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda u: u,
    "equal_power": lambda u: np.sin(np.pi / 2 * u),
}


@dataclass(frozen=True, slots=True)
class Fade:
    """How chunks overlap: samples of overlap at most, and the kind of weights (a key of FADES)."""

    samples: int
    kind: str = "linear"


class Joiner:
    """Overlaps each chunk (S,) with the end of what stands before it; holds back what the next one may still change."""

    def __init__(self, fade: Fade):
        self._fade = fade
        self._held = np.zeros(0, dtype=np.float32)

    def add(self, wave: np.ndarray) -> np.ndarray:
        """What is final once `wave` has come: (S,) float32, empty where everything may still change."""
        held, samples = self._held, max(self._fade.samples, 0)
        overlap = min(len(held), len(wave))
        fade_in = FADES[self._fade.kind](np.linspace(0.0, 1.0, overlap))
        start = len(held) - overlap
        mixed = (held[start:] * fade_in[::-1] + wave[:overlap] * fade_in).astype(np.float32)
        whole = np.concatenate((held[:start], mixed, wave[overlap:]))
        final = max(len(whole) - samples, 0)
        self._held = whole[final:]
        return whole[:final]

    def finish(self) -> np.ndarray:
        """The rest."""
        held, self._held = self._held, np.zeros(0, dtype=np.float32)
        return held


def join_chunks(waves: Sequence[np.ndarray], fade: Fade) -> np.ndarray:
    """All chunks as one (S,) float32: with linear weights equal to upstream's loop, which copies the whole prefix for
    every chunk and returns float64 for more than one."""
    if len(waves) == 1:
        return waves[0]
    joiner = Joiner(fade)
    return np.concatenate([*[joiner.add(wave) for wave in waves], joiner.finish()])
