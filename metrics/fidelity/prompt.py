"""What is wrong with a clip to clone though an engine would take it: level, silences, a transcript that cannot fit.

Each is a sentence for people. Nothing is refused here: the speed of a bad clip is a speed, and the reader has to know.
"""

from __future__ import annotations

import unicodedata

import numpy as np

from metrics.fidelity.artefacts import ACTIVE_BELOW_LOUDEST_DB, CLIP_LEVEL, CLIP_RUN_SAMPLES, FRAME_S, SILENT_RMS

EDGE_SILENCE_S = 0.5
INNER_SILENCE_S = 1.0
CHARS_PER_S = (4.0, 30.0)  # letters and digits per second of speech, as .artefacts has it
WIDE_CHARS = 3  # letters that an ideograph counts for: about the bytes that upstream counts


def level_warnings(audio_SC: np.ndarray) -> list[str]:
    """Of a file as it was: (S, C) float32, values beyond 1 included."""
    found = []
    peaks = np.abs(audio_SC).max(axis=1)
    peak, num_over = float(peaks.max(initial=0.0)), int((peaks > 1).sum())
    if num_over:
        found.append(f"{num_over} samples are over full scale (peak {peak:.2f}): lower its level and export it again")
    longest = max((_longest(np.abs(channel_S) >= CLIP_LEVEL) for channel_S in audio_SC.T), default=0)
    if longest >= CLIP_RUN_SAMPLES:
        found.append(f"it is clipped ({longest} samples in a row at full scale): record it again at a lower level")
    return found


def silence_warnings(audio_S: np.ndarray, rate_hz: int) -> list[str]:
    """Of a clip as the engines get it, (S,) float32: silence counts as speaking time, so sentences get longer by it."""
    active = _active(audio_S, rate_hz)
    places = np.flatnonzero(active)
    if not len(places):
        return []
    edges_s = (places[0] * FRAME_S, (len(active) - 1 - places[-1]) * FRAME_S)
    found = [
        _silence(seconds, where, audio_S.size / rate_hz)
        for seconds, where in zip(edges_s, ("at its start", "at its end"), strict=True)
        if seconds >= EDGE_SILENCE_S
    ]
    inner_s = _longest(~active[places[0] : places[-1] + 1]) * FRAME_S
    return [*found, *([_silence(inner_s, "inside it", audio_S.size / rate_hz)] if inner_s >= INNER_SILENCE_S else [])]


def transcript_warnings(audio_S: np.ndarray, rate_hz: int, text: str) -> list[str]:
    """Of a prepared clip: letters and digits per second in which something is heard."""
    active_s = float(_active(audio_S, rate_hz).sum()) * FRAME_S
    if active_s <= 0:
        return []
    letters = sum(WIDE_CHARS if unicodedata.east_asian_width(char) in "WF" else 1 for char in text if char.isalnum())
    rate = letters / active_s
    if CHARS_PER_S[0] <= rate <= CHARS_PER_S[1]:
        return []
    return [
        f"its transcript has {letters} letters for {active_s:.1f} s of speech ({rate:.1f} a second, "
        f"{CHARS_PER_S[0]:g} to {CHARS_PER_S[1]:g} are usual): every sentence's length follows from it, so write "
        "exactly what the clip says"
    ]


def _silence(seconds: float, where: str, total_s: float) -> str:
    share = seconds / (total_s - seconds)
    return f"{seconds:.1f} s of silence {where} count as speaking time: every sentence gets {share:.0%} longer"


def _active(audio_S: np.ndarray, rate_hz: int) -> np.ndarray:
    """For each 20 ms whether something is heard: within 40 dB of the loudest, and not silent."""
    edges = np.arange(0, audio_S.size, max(1, round(FRAME_S * rate_hz)))
    power = np.add.reduceat(np.square(audio_S, dtype=np.float64), edges) / np.diff(np.append(edges, audio_S.size))
    return np.asarray(power > max(power.max() * 10 ** (-ACTIVE_BELOW_LOUDEST_DB / 10), SILENT_RMS**2))


def _longest(flags: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return int((edges[1::2] - edges[::2]).max(initial=0))
