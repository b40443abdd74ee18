"""Mel power spectrograms as librosa makes them, without the seconds that importing it takes in every child."""

from __future__ import annotations

from typing import Literal

import numpy as np

Edges = Literal["constant", "reflect"]
RATE_HZ = 16_000  # of all models here; the parent resamples
LINEAR_HZ = 200 / 3  # of one mel below the border, which lies at 15 mels
BORDER_HZ, BORDER_MEL = 1000.0, 15.0
LOG_STEP = np.log(6.4) / 27  # above it: 27 mels from 1 to 6.4 kHz


def mel_power(audio_S: np.ndarray, n_fft: int, hop: int, num_mels: int, edges: Edges = "constant") -> np.ndarray:
    """(D, N) float32 of 16 kHz audio: a periodic Hann window, frames centred on every hop, Slaney's bank.

    edges: what the first and last frame find beyond the audio, zeros or its mirror image.
    """
    window_W = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    padded_S = np.pad(audio_S.astype(np.float32), n_fft // 2, mode=edges)
    frames_NW = np.lib.stride_tricks.sliding_window_view(padded_S, n_fft)[::hop]
    power_NF = np.abs(np.fft.rfft(frames_NW * window_W)) ** 2
    return np.asarray(slaney_bank(n_fft, num_mels).astype(np.float32) @ power_NF.T)


def slaney_bank(n_fft: int, num_mels: int) -> np.ndarray:
    """(D, F) triangles of equal area from 0 to 8 kHz on the scale of Slaney's Auditory Toolbox."""
    highest = BORDER_MEL + np.log(RATE_HZ / 2 / BORDER_HZ) / LOG_STEP
    mels = np.linspace(0, highest, num_mels + 2)
    corners_hz = np.where(mels < BORDER_MEL, mels * LINEAR_HZ, BORDER_HZ * np.exp((mels - BORDER_MEL) * LOG_STEP))
    bins_hz = np.fft.rfftfreq(n_fft, 1 / RATE_HZ)
    low, centre, high = corners_hz[:-2, None], corners_hz[1:-1, None], corners_hz[2:, None]
    triangles = np.minimum((bins_hz - low) / (centre - low), (high - bins_hz) / (high - centre))
    return np.asarray(np.maximum(triangles, 0) * 2 / (high - low))
