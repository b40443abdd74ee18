"""What a listener of a stream gets: when the first sound is heard, and whether playback runs dry.

Pure functions of arrival times and durations. Playback starts with the first block and runs in real time; where the
next block is not there yet, playback stops (an underrun) until it arrives.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

AUDIBLE_DB = -40.0  # of full scale, over one window
WINDOW_S = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class Playback:
    """Seconds from the request on.

    starts_s: when each block begins to play. gaps_s: silence before each block after the first, 0 for none. wait_s:
    delay of the start that would have avoided every gap.
    """

    starts_s: tuple[float, ...]
    gaps_s: tuple[float, ...]
    wait_s: float

    @property
    def num_underruns(self) -> int:
        return sum(gap > 0 for gap in self.gaps_s)

    @property
    def gap_s(self) -> float:
        """Seconds of silence in all."""
        return sum(self.gaps_s)


def play(arrivals_s: Sequence[float], durations_s: Sequence[float], delay_s: float = 0.0) -> Playback:
    """Play blocks that arrived at arrivals_s and last durations_s, beginning delay_s after the first one's arrival.

    Raises ValueError for no block, unequal numbers, or arrivals that go back in time.
    """
    if not arrivals_s or len(arrivals_s) != len(durations_s):
        raise ValueError(
            f"{len(arrivals_s)} arrivals and {len(durations_s)} durations: one of each per block is needed"
        )
    if any(b < a for a, b in itertools.pairwise(arrivals_s)) or min(durations_s) < 0 or delay_s < 0:
        raise ValueError("arrivals must not go back, durations and the delay must not be negative")
    free_s = arrivals_s[0] + delay_s
    starts, gaps = [], []
    for arrival_s, duration_s in zip(arrivals_s, durations_s, strict=True):
        start_s = max(free_s, arrival_s)
        gaps.append(start_s - free_s)
        starts.append(start_s)
        free_s = start_s + duration_s
    # Without a gap block k begins when all before it have played
    played = itertools.accumulate(durations_s, initial=0.0)
    wait_s = max(arrival - before for arrival, before in zip(arrivals_s, played, strict=False)) - arrivals_s[0]
    return Playback(starts_s=tuple(starts), gaps_s=tuple(gaps[1:]), wait_s=max(wait_s, 0.0))


def leading_silence_s(audio_S: np.ndarray, sample_rate_hz: int, threshold_db: float = AUDIBLE_DB) -> float | None:
    """Seconds before the first window of 10 ms whose RMS reaches the threshold; None where none does. A last window
    that is not full counts as it is."""
    window = max(round(WINDOW_S * sample_rate_hz), 1)
    power = np.square(audio_S.astype(np.float64))
    starts = np.arange(0, len(power), window)
    if len(starts) == 0:
        return None
    counts = np.minimum(window, len(power) - starts)
    loud = np.add.reduceat(power, starts) / counts >= 10 ** (threshold_db / 10)
    return float(starts[np.argmax(loud)] / sample_rate_hz) if loud.any() else None


def first_audible_s(playback: Playback, durations_s: Sequence[float], silence_s: float | None) -> float | None:
    """When the first audible sample is heard: `silence_s` into the audio, wherever that lies in the playback.
    None where nothing is audible."""
    if silence_s is None:
        return None
    left_s = silence_s
    for start_s, duration_s in zip(playback.starts_s, durations_s, strict=True):
        if left_s < duration_s:
            return start_s + left_s
        left_s -= duration_s
    raise ValueError(f"{silence_s} s of silence in {sum(durations_s)} s of audio")
