"""Long silences shortened, none removed: a pause up to `longest_pause_s` stays as it is.

What is silent is measured by the utterance's own level and noise, 10 ms at a time and looking back only, so that a
stream hears what a whole call hears. Shape letters: S samples, N frames.
"""

from __future__ import annotations

import numpy as np

from engine.enhance.flow import Framed, joined

FRAME_S = 0.01
SPEECH_RANGE_DB = 35.0  # what lies so far under the loudest frame so far is no speech
NOISE_MARGIN_DB = 6.0  # nor what is within this of the quietest frame of the last second
NEAREST_DB = 20.0  # but nothing is silent that lies within this of the loudest frame
FLOOR_DB = -60.0  # always silent, re full scale
FLOOR_FRAMES = 100
SEAM_S = 0.005


class AdaptiveSilence(Framed):
    """longest_pause_s: of a silence between sounds; the middle of a longer one is left out, its ends are cross-faded
    over 5 ms. edge_s: of what stays before the first sound and behind the last one."""

    def __init__(self, rate_hz: int, longest_pause_s: float, edge_s: float):
        super().__init__(max(round(FRAME_S * rate_hz), 1))
        self._longest, self._edge = round(longest_pause_s * rate_hz), round(edge_s * rate_hz)
        self._seam = min(round(SEAM_S * rate_hz), self._longest // 4)
        self._loudest = 0.0
        self._recent_N = np.full(FLOOR_FRAMES - 1, np.inf)
        self._held: list[np.ndarray] = []  # the silence that has not ended
        self._heard = False

    def finish(self) -> np.ndarray:
        out = super().finish()
        held, self._held = joined(self._held), []
        return joined([out, held[: self._edge]])

    def _through(self, audio_S: np.ndarray, frame: int) -> np.ndarray:
        quiet_N = self._quiet(np.mean(np.square(audio_S.reshape(-1, frame), dtype=np.float64), axis=1))
        edges = np.flatnonzero(np.diff(quiet_N)) + 1
        out: list[np.ndarray] = []
        for start, part_S in zip([0, *edges], np.split(audio_S, edges * frame), strict=True):
            if quiet_N[start]:
                self._held.append(part_S)
                continue
            out += [self._shortened(), part_S]
            self._heard = True
        return joined(out)

    def _quiet(self, power_N: np.ndarray) -> np.ndarray:
        loudest_N = np.maximum(np.maximum.accumulate(power_N), self._loudest)
        known_N = np.concatenate((self._recent_N, power_N))
        floor_N = np.lib.stride_tricks.sliding_window_view(known_N, FLOOR_FRAMES).min(axis=1)
        self._loudest, self._recent_N = float(loudest_N[-1]), known_N[-(FLOOR_FRAMES - 1) :]
        under_N = np.maximum(loudest_N * _power(-SPEECH_RANGE_DB), floor_N * _power(NOISE_MARGIN_DB))
        limit_N = np.maximum(np.minimum(under_N, loudest_N * _power(-NEAREST_DB)), _power(FLOOR_DB))
        return np.asarray(power_N <= limit_N)

    def _shortened(self) -> np.ndarray:
        """The silence that has just ended."""
        silence_S, self._held = joined(self._held), []
        if not self._heard:
            return silence_S[max(len(silence_S) - self._edge, 0) :]
        if len(silence_S) <= self._longest:
            return silence_S
        before = self._longest // 2
        after = self._longest - before
        u = np.linspace(0.0, 1.0, self._seam, dtype=np.float32)
        first_S, last_S = silence_S[:before], silence_S[len(silence_S) - after - self._seam :]
        mixed_S = first_S[before - self._seam :] * (1 - u) + last_S[: self._seam] * u
        return joined([first_S[: before - self._seam], mixed_S, last_S[self._seam :]])


def _power(level_db: float) -> float:
    return float(10 ** (level_db / 10))
