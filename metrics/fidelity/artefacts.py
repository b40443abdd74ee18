"""Is this audio what was asked for at all? Signal rules for one utterance; every failed one is named with its value.

Limits: research on clean speech puts |DC| under 7e-4 (p95) and found no flat top of 3 samples, so the limits below pass
real speech with room and fail broken engines. A clip recorded with an offset is cloned with it, so the limit on DC is
on top of the voice's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from metrics.record import Score

METRIC = "audio_valid"
SILENT_RMS = 1e-3  # -60 dBFS
SILENT_PEAK = 1e-2
MAX_SILENCE_FRAC = 0.6
MAX_DC = 0.01
CLIP_LEVEL = 0.999
CLIP_RUN_SAMPLES = 3
FRAME_S = 0.02
REPLAY_CORRELATION = 0.98
REPLAY_MIN_SAMPLES = 4800
ACTIVE_BELOW_LOUDEST_DB = 40.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """What the audio of one utterance has to be.

    num_samples: exact, from the frames that were generated. min_chars_per_s, max_chars_per_s: letters and digits of
    `text` per second of active speech; the defaults are for alphabetic scripts. voice_dc: mean of the reference clip.
    """

    utterance_id: str
    text: str
    sample_rate_hz: int
    num_samples: int
    min_chars_per_s: float = 4.0
    max_chars_per_s: float = 30.0
    voice_dc: float = 0.0


def audio_valid(audio_S: np.ndarray, sample_rate_hz: int, *, expected: Expectation) -> Score:
    """1.0 with status ok, or None with status error and all failed checks in the reason. audio_S: (S,) float32."""
    failures = _failures(audio_S, sample_rate_hz, expected)
    return Score(
        metric=METRIC,
        utterance_id=expected.utterance_id,
        value=None if failures else 1.0,
        status="error" if failures else "ok",
        reason="; ".join(failures) or None,
        better="higher",
    )


def replayed(audios: Mapping[str, np.ndarray], texts: Mapping[str, str]) -> dict[str, str]:
    """Utterance id -> "replays the audio of ...", for utterances that begin (or end) as an earlier one of another text.

    What a stale output buffer does. Two voices never agree sample by sample: correlation over REPLAY_CORRELATION of at
    least REPLAY_MIN_SAMPLES shared samples is a copy.
    """
    found: dict[str, str] = {}
    names = [n for n, x in audios.items() if x.ndim == 1 and x.size and np.isfinite(x).all() and rms(x) > SILENT_RMS]
    for i, name in enumerate(names):
        for earlier in names[:i]:
            shared = min(audios[name].size, audios[earlier].size)
            if shared < REPLAY_MIN_SAMPLES or texts[name] == texts[earlier]:
                continue
            sides = ((audios[name][part], audios[earlier][part]) for part in (slice(0, shared), slice(-shared, None)))
            if any(_correlation(ours_S, theirs_S) > REPLAY_CORRELATION for ours_S, theirs_S in sides):
                found[name] = f"replays the audio of {earlier}"
                break
    return found


def _correlation(ours_S: np.ndarray, theirs_S: np.ndarray) -> float:
    ours, theirs = float(np.linalg.norm(ours_S)), float(np.linalg.norm(theirs_S))
    return float(np.dot(ours_S, theirs_S)) / (ours * theirs) if ours and theirs else 0.0


def rms(audio_S: np.ndarray) -> float:
    """Root mean square in float64; 0.0 for no samples."""
    return float(np.sqrt(np.mean(np.square(audio_S, dtype=np.float64)))) if audio_S.size else 0.0


def offset_of(audio_S: np.ndarray) -> float:
    """Mean of the samples in float64."""
    return float(np.mean(audio_S, dtype=np.float64))


def _failures(audio_S: np.ndarray, sample_rate_hz: int, expected: Expectation) -> list[str]:
    if audio_S.dtype != np.float32 or audio_S.ndim != 1:
        return [f"{audio_S.ndim}-dimensional {audio_S.dtype}, must be mono float32"]
    failures = []
    if sample_rate_hz != expected.sample_rate_hz:
        failures.append(f"sample rate {sample_rate_hz} Hz, must be {expected.sample_rate_hz}")
    if audio_S.size != expected.num_samples:
        failures.append(f"{audio_S.size} samples, must be {expected.num_samples}")
    return failures + (_level_failures(audio_S) or _signal_failures(audio_S, sample_rate_hz, expected))


def _level_failures(audio_S: np.ndarray) -> list[str]:
    """Faults that leave no signal for the other rules to judge."""
    if audio_S.size == 0:
        return ["no samples"]
    num_bad = int(audio_S.size - np.isfinite(audio_S).sum())
    if num_bad:
        return [f"{num_bad} of {audio_S.size} samples are not finite"]
    failures = []
    level, peak = rms(audio_S), float(np.abs(audio_S).max())
    if level <= SILENT_RMS:
        failures.append(f"silent: RMS {level:.2g}, must be over {SILENT_RMS:g}")
    if peak <= SILENT_PEAK:
        failures.append(f"silent: peak {peak:.2g}, must be over {SILENT_PEAK:g}")
    return failures


def _signal_failures(audio_S: np.ndarray, sample_rate_hz: int, expected: Expectation) -> list[str]:
    failures = []
    active_s, silence_frac = _activity(audio_S, sample_rate_hz)
    if silence_frac > MAX_SILENCE_FRAC:
        failures.append(f"silence share {silence_frac:.2f}, must not exceed {MAX_SILENCE_FRAC:g}")
    run = _longest_run(np.abs(audio_S) >= CLIP_LEVEL)
    if run >= CLIP_RUN_SAMPLES:
        failures.append(f"clipping: {run} samples in a row at {CLIP_LEVEL:g} or more, must be under {CLIP_RUN_SAMPLES}")
    offset = offset_of(audio_S)
    limit = MAX_DC + abs(expected.voice_dc)
    if abs(offset) > limit:
        own = f" (the voice's own {expected.voice_dc:.3g} and {MAX_DC:g})" if limit > MAX_DC else ""
        failures.append(f"DC offset {offset:.3g}, must be within +-{limit:.3g}{own}")
    chars_per_s = sum(character.isalnum() for character in expected.text) / active_s
    if not expected.min_chars_per_s <= chars_per_s <= expected.max_chars_per_s:
        failures.append(
            f"speaking rate {chars_per_s:.1f} characters per active second, "
            f"must be {expected.min_chars_per_s:g}..{expected.max_chars_per_s:g}"
        )
    return failures


def _activity(audio_S: np.ndarray, sample_rate_hz: int) -> tuple[float, float]:
    """(active seconds, share of silence): a 20 ms frame is silent 40 dB under the loudest one, or at the silent RMS."""
    frame_samples = max(1, round(FRAME_S * sample_rate_hz))
    edges = np.arange(0, audio_S.size, frame_samples)
    lengths = np.diff(np.append(edges, audio_S.size))
    power = np.add.reduceat(np.square(audio_S, dtype=np.float64), edges) / lengths
    active = power > max(power.max() * 10 ** (-ACTIVE_BELOW_LOUDEST_DB / 10), SILENT_RMS**2)
    num_active = int(lengths[active].sum())
    return num_active / sample_rate_hz, 1.0 - num_active / audio_S.size


def _longest_run(flags: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return int((edges[1::2] - edges[::2]).max(initial=0))
