"""A de-esser and a gentle shelf: hiss of /s/ taken down while it sounds, and the top of the band a little always.

A frame of 5 ms whose power lies mostly over `from_hz` is a sibilant, however loud it is; its high band is taken down,
the rest of it stays. Filters by scipy.signal; shelf: R. Bristow-Johnson, Audio EQ Cookbook. S: samples, N: frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.enhance.flow import Framed

FRAME_S = 0.005
KEPT = 0.5  # of the frame before in each frame's power: a gain that moves over 10 ms is not heard moving
QUIETEST = 1e-12  # mean square


@dataclass(frozen=True, kw_only=True, slots=True)
class DeessRule:
    """share_db: of a frame's power over from_hz, from which on it is a sibilant; a decibel beyond is a decibel down,
    most_db at most. shelf_db: gain far above shelf_hz, always."""

    from_hz: float
    share_db: float
    most_db: float
    shelf_hz: float
    shelf_db: float


class Filters:
    """What is designed once: the high band's Butterworth filter of second order, and the shelf. For one rate."""

    def __init__(self, rate_hz: int, rule: DeessRule):
        from scipy import signal

        self.apply = signal.lfilter
        self.rule, self.frame_samples = rule, max(round(FRAME_S * rate_hz), 1)
        self.high = signal.butter(2, rule.from_hz, "highpass", fs=rate_hz)
        self.shelf = high_shelf(rule.shelf_hz, rule.shelf_db, rate_hz)


class Deess(Framed):
    """The high band h is weighed: audio + (gain - 1) h."""

    def __init__(self, filters: Filters):
        super().__init__(filters.frame_samples)
        self._filters, self._rule = filters, filters.rule
        self._of_high, self._of_shelf = np.zeros(2), np.zeros(2)
        self._of_power = np.zeros((2, 1))
        self._gain = 1.0

    def _through(self, audio_S: np.ndarray, frame: int) -> np.ndarray:
        filters, own_S = self._filters, audio_S.astype(np.float64)
        high_S, self._of_high = filters.apply(*filters.high, own_S, zi=self._of_high)
        self._weigh(own_S.reshape(-1, frame), high_S.reshape(-1, frame))
        out_S, self._of_shelf = filters.apply(*filters.shelf, own_S, zi=self._of_shelf)
        return np.asarray(out_S, dtype=np.float32)

    def _weigh(self, audio_NS: np.ndarray, high_NS: np.ndarray) -> None:
        """In place; each frame's gain is reached at its end, in a straight line from the one before."""
        rule = self._rule
        power_2N = np.stack([mean_square(part) for part in (audio_NS, high_NS)])
        smooth_2N, self._of_power = self._filters.apply([1 - KEPT], [1, -KEPT], power_2N, zi=self._of_power)
        share_db = 10 * np.log10((smooth_2N[1] + QUIETEST) / (smooth_2N[0] + QUIETEST))
        down_db = np.where(smooth_2N[0] > QUIETEST, np.clip(share_db - rule.share_db, 0, rule.most_db), 0)
        gain_N = 10 ** (-down_db / 20)
        before_N = np.concatenate(([self._gain], gain_N[:-1]))
        self._gain = float(gain_N[-1])
        moved = np.flatnonzero((gain_N < 1) | (before_N < 1))
        u = np.arange(1, audio_NS.shape[1] + 1) / audio_NS.shape[1]
        gain_NS = before_N[moved, None] + (gain_N - before_N)[moved, None] * u
        audio_NS[moved] += (gain_NS - 1) * high_NS[moved]


def mean_square(frames_NS: np.ndarray) -> np.ndarray:
    """(N,) float64."""
    return np.einsum("ns,ns->n", frames_NS, frames_NS) / frames_NS.shape[1]


def high_shelf(shelf_hz: float, shelf_db: float, rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """(b, a) of second order, slope 1."""
    a, w = 10 ** (shelf_db / 40), 2 * math.pi * shelf_hz / rate_hz
    cos, root = math.cos(w), math.sin(w) * math.sqrt(2) * math.sqrt(a)  # 2 sqrt(A) alpha of slope 1
    b = [a * (a + 1 + (a - 1) * cos + root), -2 * a * (a - 1 + (a + 1) * cos), a * (a + 1 + (a - 1) * cos - root)]
    d = [a + 1 - (a - 1) * cos + root, 2 * (a - 1 - (a + 1) * cos), a + 1 - (a - 1) * cos - root]
    return np.array(b) / d[0], np.array(d) / d[0]
