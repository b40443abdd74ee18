"""Faults that an engine can have, made on purpose with a seed: what the metrics must see. Each keeps the length.

The level of a click is relative to the clip's peak, of hiss to the clip's RMS. `SEEN_BY` says which score sees a fault
and from which value on; the limits lie well outside what bfloat16 and int8 engines do to pocket's speech.

Shape letters: S samples.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from metrics.fidelity.artefacts import rms

Inject = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A fault is seen where the score's value lies over `over` or under `under`, or where validity names it."""

    metric: str
    over: float | None = None
    under: float | None = None

    def by(self, value: float | None) -> bool:
        if value is None:
            return self.metric == "audio_valid"
        return (self.over is not None and value > self.over) or (self.under is not None and value < self.under)


def _loud_place(audio_S: np.ndarray, rate_hz: int, length: int, random: np.random.Generator) -> int:
    """Start of a stretch inside speech: within 15 dB of the loudest 20 ms, away from the ends."""
    frame = round(0.02 * rate_hz)
    power_N = np.mean(np.square(audio_S[: audio_S.size // frame * frame], dtype=np.float64).reshape(-1, frame), axis=1)
    near = power_N > power_N.max() * 10**-1.5
    inside = [i for i in range(2, power_N.size - 3 - length // frame) if near[i - 1 : i + 2 + length // frame].all()]
    return int(random.choice(inside)) * frame if inside else int(np.argmax(power_N)) * frame


def silence(audio_S: np.ndarray, rate_hz: int, random: np.random.Generator) -> np.ndarray:
    return np.zeros_like(audio_S)


def not_a_number(audio_S: np.ndarray, rate_hz: int, random: np.random.Generator) -> np.ndarray:
    spoilt_S = audio_S.copy()
    spoilt_S[random.integers(audio_S.size)] = np.nan
    return spoilt_S


def clipped(audio_S: np.ndarray, rate_hz: int, random: np.random.Generator) -> np.ndarray:
    """12 dB too loud for the converter."""
    return np.clip(audio_S * (4 / np.abs(audio_S).max()), -1, 1).astype(np.float32)


def noise(audio_S: np.ndarray, rate_hz: int, random: np.random.Generator) -> np.ndarray:
    """White noise with the clip's own level instead of speech."""
    return (rms(audio_S) * random.standard_normal(audio_S.size)).astype(np.float32)


def lost_end(audio_S: np.ndarray, rate_hz: int, random: np.random.Generator) -> np.ndarray:
    """The last third is silent: a lost word, with the length kept."""
    spoilt_S = audio_S.copy()
    spoilt_S[2 * audio_S.size // 3 :] = 0
    return spoilt_S


def repeated(audio_S: np.ndarray, rate_hz: int, random: np.random.Generator) -> np.ndarray:
    """0.5 s are said twice, the rest moves back and is cut."""
    length = round(0.5 * rate_hz)
    start = int(random.integers(1, max(2, audio_S.size - 2 * length)))
    return np.concatenate([audio_S[: start + length], audio_S[start:]])[: audio_S.size]


def wrong_rate(audio_S: np.ndarray, rate_hz: int, random: np.random.Generator) -> np.ndarray:
    """Sounds as 16 kHz samples played at 24 kHz would: higher and shorter, then silence."""
    from scipy import signal  # takes a second to import

    fast_S = signal.resample_poly(audio_S, 2, 3).astype(np.float32)
    return np.pad(fast_S, (0, audio_S.size - fast_S.size))


def low_pass(audio_S: np.ndarray, rate_hz: int, random: np.random.Generator) -> np.ndarray:
    """Nothing over 8 kHz."""
    from scipy import signal  # takes a second to import

    return signal.sosfiltfilt(signal.butter(10, 8000, fs=rate_hz, output="sos"), audio_S).astype(np.float32)


def hiss(audio_S: np.ndarray, rate_hz: int, random: np.random.Generator) -> np.ndarray:
    """Noise around 10 kHz, 40 dB under the speech."""
    from scipy import signal  # takes a second to import

    band = signal.butter(6, (9500, 10500), "bandpass", fs=rate_hz, output="sos")
    noise_S = signal.sosfilt(band, random.standard_normal(audio_S.size))
    return (audio_S + rms(audio_S) * 0.01 / rms(noise_S) * noise_S).astype(np.float32)


def click(audio_S: np.ndarray, rate_hz: int, random: np.random.Generator) -> np.ndarray:
    """One sample, 12 dB under the peak, anywhere."""
    spoilt_S = audio_S.copy()
    place = int(random.integers(audio_S.size // 20, audio_S.size - audio_S.size // 20))
    spoilt_S[place] += np.float32(random.choice((-1, 1)) * np.abs(audio_S).max() * 10 ** (-12 / 20))
    return spoilt_S


def dropout(audio_S: np.ndarray, rate_hz: int, random: np.random.Generator) -> np.ndarray:
    """5 ms of zeros inside speech."""
    spoilt_S, length = audio_S.copy(), round(0.005 * rate_hz)
    start = _loud_place(audio_S, rate_hz, length, random) + int(random.integers(rate_hz // 100))
    spoilt_S[start : start + length] = 0
    return spoilt_S


FAULTS: Mapping[str, Inject] = {
    "silence": silence, "not a number": not_a_number, "clipped": clipped, "noise": noise, "lost end": lost_end,
    "repeated": repeated, "wrong rate": wrong_rate, "low-pass 8 kHz": low_pass, "hiss 10 kHz 40 dB": hiss,
    "click -12 dB": click, "dropout 5 ms": dropout,
}  # fmt: skip


def with_fault(fault: str, name: str, audio_S: np.ndarray, rate_hz: int) -> np.ndarray:
    """The clip `name` with a fault of FAULTS, which is the same on every machine."""
    return FAULTS[fault](audio_S, rate_hz, np.random.default_rng(zlib.crc32(f"{fault} {name}".encode())))


_VALID = Seen(metric="audio_valid")
SEEN_BY: Mapping[str, Seen] = {
    "silence": _VALID,
    "not a number": _VALID,
    "clipped": _VALID,
    "noise": Seen(metric="level_8_12k_vs_reference_db", over=6.0),
    "lost end": Seen(metric="new_dropouts_vs_reference", over=0.5),
    "repeated": Seen(metric="new_repeats_vs_reference", over=0.5),
    "wrong rate": Seen(metric="voicing_error_vs_reference_frac", over=0.25),
    "low-pass 8 kHz": Seen(metric="level_8_12k_vs_reference_db", under=-1.5),
    "hiss 10 kHz 40 dB": Seen(metric="lsd_8_12k_vs_reference_db", over=6.0),
    "click -12 dB": Seen(metric="new_clicks_vs_reference", over=0.5),
    "dropout 5 ms": Seen(metric="new_dropouts_vs_reference", over=0.5),
}
