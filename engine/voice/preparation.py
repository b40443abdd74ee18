"""What upstream does to a reference before its pipeline sees it: preprocess_ref_audio_text of f5_tts.infer.utils_infer.

Upstream (1.1.22) works on whole numbers through pydub, milliseconds at a time. The same arithmetic stands here over
arrays, because pydub needs a module that Python 3.13 no longer has, and a program for every file that is not a WAV of
whole numbers; tests/test_preparation.py compares the two sample for sample. Shape letters: S samples, C channels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

STEP_MS = 10  # of every search for silence
MAX_MS = 12_000
ENOUGH_MS = 6_000  # a piece that would go over MAX_MS is left out only when this much is there
EMPTY_RATE_HZ, EMPTY_BYTES = 11_025, 2  # of pydub's silence: what is joined to it becomes at least that
EDGE_DB = -42.0
TAIL_MS = 50


@dataclass(frozen=True, slots=True)
class Search:
    """A clip is split at silences of min_ms and more, at threshold_db and less; up to keep_ms of either side stay."""

    min_ms: int
    threshold_db: float
    keep_ms: int = 1000


LONG_SILENCE = Search(1000, -50.0)
SHORT_SILENCE = Search(100, -40.0)


@dataclass(frozen=True, slots=True, eq=False)
class Pcm:
    """Whole numbers as pydub holds them: pcm_SC int32 (S, C) of num_bytes (1, 2 or 4) each, at rate_hz."""

    pcm_SC: np.ndarray
    num_bytes: int
    rate_hz: int

    @property
    def full_scale(self) -> float:
        return float(2 ** (8 * self.num_bytes - 1))

    @property
    def num_ms(self) -> int:
        return round(1000 * (len(self.pcm_SC) / self.rate_hz))

    @property
    def audio_SC(self) -> np.ndarray:
        """float32 in [-1, 1)."""
        return self.pcm_SC.astype(np.float32) / np.float32(self.full_scale)

    def at(self, ms: int) -> int:
        """The sample at which a millisecond begins."""
        return int(ms * (self.rate_hz / 1000.0))

    def cut(self, start_ms: int, end_ms: int) -> Pcm:
        """Milliseconds of it. The last one counts as whole: what it lacks is filled with zeros."""
        start, end = self.at(min(start_ms, self.num_ms)), self.at(min(end_ms, self.num_ms))
        part_SC = self.pcm_SC[start:end]
        missing = end - start - len(part_SC)
        if missing and len(part_SC):
            part_SC = np.pad(part_SC, ((0, missing), (0, 0)))
        return replace(self, pcm_SC=part_SC)

    def rms(self) -> int:
        """Over all channels, cut to a whole number."""
        values = self.pcm_SC.astype(np.float64)
        return int(math.sqrt(np.square(values).sum() / values.size)) if values.size else 0


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """A prepared clip, and whether sound (not only silence) of the clip was left out."""

    clip: Pcm
    lost_sound: bool


def prepare_audio(clip: Pcm, edge_db: float = EDGE_DB, tail_ms: int = TAIL_MS) -> Cut:
    """Long silences shortened to two seconds, at most 12 s of the rest, silent edges off, 50 ms of zeros after it.

    edge_db: a 10 ms piece under it is an edge. A clip without any sound over -50 dB comes back as tail_ms of zeros.
    """
    kept, dropped = _gathered(split_on_silence(clip, LONG_SILENCE))
    if kept.num_ms > MAX_MS:
        kept, dropped = _gathered(split_on_silence(clip, SHORT_SILENCE))
    lost = dropped
    if kept.num_ms > MAX_MS:
        lost = lost or _leading_silence_ms(kept.cut(MAX_MS, kept.num_ms), edge_db) < kept.num_ms - MAX_MS
        kept = kept.cut(0, MAX_MS)
    return Cut(_joined(_without_edges(kept, edge_db), _zeros(tail_ms)), lost)


def prepare_text(text: str) -> str:
    """A transcript with the sentence's end that upstream gives it (ideographic full stops stay)."""
    if text.endswith((". ", "\u3002")):
        return text
    return text + (" " if text.endswith(".") else ". ")


def split_on_silence(clip: Pcm, search: Search) -> list[Pcm]:
    """pydub.silence.split_on_silence with seek_step=10."""
    total = clip.num_ms
    keep = search.keep_ms
    ranges = [[start - keep, end + keep] for start, end in _sounding(total, _silences(clip, search))]
    for before, after in itertools.pairwise(ranges):
        if after[0] < before[1]:
            before[1] = after[0] = (before[1] + after[0]) // 2
    return [clip.cut(max(start, 0), min(end, total)) for start, end in ranges]


def _silences(clip: Pcm, search: Search) -> list[tuple[int, int]]:
    """(start, end) in milliseconds of every silence, as pydub.silence.detect_silence."""
    last = clip.num_ms - search.min_ms
    if last < 0:
        return []
    starts = list(range(0, last + 1, STEP_MS))
    if last % STEP_MS:
        starts.append(last)
    threshold = 10 ** (search.threshold_db / 20) * clip.full_scale
    quiet = [
        start for start, level in zip(starts, _levels(clip, starts, search.min_ms), strict=True) if level <= threshold
    ]
    if not quiet:
        return []
    found, begin, before = [], quiet[0], quiet[0]
    for start in quiet[1:]:
        if start != before + STEP_MS and start > before + search.min_ms:
            found.append((begin, before + search.min_ms))
            begin = start
        before = start
    return [*found, (begin, before + search.min_ms)]


def _levels(clip: Pcm, starts: Sequence[int], length_ms: int) -> np.ndarray:
    """Whole-number RMS of the length_ms after each start. Sums of 10 ms are added, never subtracted: none is lost."""
    num_steps = length_ms // STEP_MS
    edges = np.array([clip.at(ms) for ms in range(0, clip.num_ms + STEP_MS, STEP_MS)])
    squares = np.square(clip.pcm_SC.astype(np.float64)).sum(axis=1)
    squares = np.pad(squares, (0, max(int(edges[-1]) - len(squares), 0)))
    sums = np.add.reduceat(squares, edges[:-1])
    of_steps = np.lib.stride_tricks.sliding_window_view(sums, num_steps).sum(axis=1)
    begins, ends = (np.array([clip.at(start + ms) for start in starts]) for ms in (0, length_ms))
    whole = len(starts) - (starts[-1] % STEP_MS > 0)  # only the last one may begin between two steps
    totals = (
        of_steps[:whole] if whole == len(starts) else np.append(of_steps[:whole], squares[begins[-1] : ends[-1]].sum())
    )
    levels: np.ndarray = np.floor(np.sqrt(totals / ((ends - begins) * clip.pcm_SC.shape[1])))
    return levels


def _sounding(total_ms: int, silences: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What lies between the silences, as pydub.silence.detect_nonsilent."""
    if not silences:
        return [(0, total_ms)]
    if silences[0] == (0, total_ms):
        return []
    edges = [0, *(ms for silence in silences for ms in silence)]
    found = list(zip(edges[::2], edges[1::2], strict=False))
    if edges[-1] != total_ms:
        found.append((edges[-1], total_ms))
    return found[1:] if found[0] == (0, 0) else found


def _gathered(pieces: Sequence[Pcm]) -> tuple[Pcm, bool]:
    """As many pieces as go into 12 s, and whether some did not."""
    kept = _zeros(0)
    for piece in pieces:
        longer = _joined(kept, piece)
        if kept.num_ms > ENOUGH_MS and longer.num_ms > MAX_MS:
            return kept, True
        kept = longer
    return kept, False


def _without_edges(clip: Pcm, edge_db: float) -> Pcm:
    clip = clip.cut(_leading_silence_ms(clip, edge_db), clip.num_ms)
    end_ms = _leading_silence_ms(replace(clip, pcm_SC=clip.pcm_SC[::-1]), edge_db)
    return clip.cut(0, clip.num_ms - end_ms) if end_ms > 0 else clip


def _leading_silence_ms(clip: Pcm, threshold_db: float) -> int:
    """pydub.silence.detect_leading_silence."""
    for start in range(0, clip.num_ms, STEP_MS):
        level = clip.cut(start, start + STEP_MS).rms()
        if level and 20 * math.log(level / clip.full_scale, 10) >= threshold_db:
            return start
    return clip.num_ms


def _zeros(num_ms: int) -> Pcm:
    num_samples = int(EMPTY_RATE_HZ * (num_ms / 1000.0))
    return Pcm(np.zeros((num_samples, 1), dtype=np.int32), EMPTY_BYTES, EMPTY_RATE_HZ)


def _joined(first: Pcm, second: Pcm) -> Pcm:
    """One after the other, both at the higher rate, width and number of channels of the two."""
    rate_hz = max(first.rate_hz, second.rate_hz)
    num_bytes = max(first.num_bytes, second.num_bytes)
    channels = max(first.pcm_SC.shape[1], second.pcm_SC.shape[1])
    parts = []
    for part in (first, second):
        wide = _at_rate(part, rate_hz)
        pcm_SC = np.broadcast_to(wide.pcm_SC, (len(wide.pcm_SC), channels))
        parts.append(pcm_SC << 8 * (num_bytes - part.num_bytes))
    return Pcm(np.concatenate(parts), num_bytes, rate_hz)


def _at_rate(clip: Pcm, rate_hz: int) -> Pcm:
    """audioop.ratecv: straight lines between samples, each value cut to the width downwards."""
    if clip.rate_hz == rate_hz or not len(clip.pcm_SC):
        return replace(clip, rate_hz=rate_hz)
    common = math.gcd(clip.rate_hz, rate_hz)
    source, target = clip.rate_hz // common, rate_hz // common
    place = np.arange((len(clip.pcm_SC) - 1) * target // source + 1) * source
    index = -(-place // target)
    weight = (index * target - place)[:, None].astype(np.float64)
    left = np.left_shift(clip.pcm_SC.astype(np.int64), 32 - 8 * clip.num_bytes).astype(np.float64)
    mixed = np.trunc((left[np.maximum(index - 1, 0)] * weight + left[index] * (target - weight)) / target)
    pcm_SC = np.right_shift(mixed.astype(np.int64), 32 - 8 * clip.num_bytes).astype(np.int32)
    return replace(clip, pcm_SC=pcm_SC, rate_hz=rate_hz)
