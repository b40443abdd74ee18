"""Light spectral subtraction of the noise that the pauses hold (Boll 1979), with a floor (Berouti, Schwartz, Makhoul
1979): nothing is brought down by more than `most_db`, so no tone of a few bins stands alone.

Shape letters: S samples, N frames, F frequency bins.
"""

from __future__ import annotations

import numpy as np

WINDOW_S = 0.0427  # 1024 samples at 24 kHz, half of them new in each frame
QUIETEST, LOUDEST = 0.1, 0.9  # quantiles of the frames' levels: of pauses and of speech
PAUSE_MARGIN_DB = 3.0  # frames within this of the quietest tell what the noise is
PAUSE_UNDER_SPEECH_DB = 15.0  # otherwise the utterance has no pause, and nothing is known of its noise


class Denoiser:
    """(S,) float32 -> (S,) float32.

    Gain of a bin: sqrt(max(1 - over * noise / power, 10^(-most_db / 10))); noise: the mean power of the pauses' frames;
    power: the mean over three frames and three bins. An utterance whose quietest tenth is not 15 dB under its loudest
    comes back as it is.
    """

    def __init__(self, rate_hz: int, most_db: float, over: float):
        from scipy import fft

        self._hop = max(round(WINDOW_S * rate_hz / 2), 1)
        places = np.arange(2 * self._hop) / self._hop
        self._window = np.sqrt(0.5 - 0.5 * np.cos(np.pi * places)).astype(np.float32)
        self._over, self._least = np.float32(over), np.float32(10 ** (-most_db / 10))
        self._rfft, self._irfft = fft.rfft, fft.irfft

    def __call__(self, audio_S: np.ndarray) -> np.ndarray:
        hop = self._hop
        num_frames = -(-len(audio_S) // hop) + 1
        padded = np.pad(audio_S, (hop, num_frames * hop - len(audio_S)))
        frames_NS = np.lib.stride_tricks.sliding_window_view(padded, 2 * hop)[::hop] * self._window
        spectrum_NF = self._rfft(frames_NS, axis=1, overwrite_x=True)
        power_NF = spectrum_NF.real**2
        power_NF += spectrum_NF.imag**2
        noise_F = noise_power(power_NF)
        if noise_F is None:
            return audio_S
        spectrum_NF *= self._gain(power_NF, noise_F)
        found_NS = self._irfft(spectrum_NF, 2 * hop, axis=1, overwrite_x=True)
        found_NS *= self._window
        blocks = np.zeros((num_frames + 1, hop), dtype=np.float32)
        blocks[:-1] += found_NS[:, :hop]
        blocks[1:] += found_NS[:, hop:]
        return blocks.reshape(-1)[hop : hop + len(audio_S)]

    def _gain(self, power_NF: np.ndarray, noise_F: np.ndarray) -> np.ndarray:
        smooth_NF = averaged(averaged(power_NF, 0), 1)
        smooth_NF += np.float32(1e-30)  # a bin without power is not divided by
        gain_NF = (self._over * noise_F) / smooth_NF
        np.subtract(1, gain_NF, out=gain_NF)
        np.maximum(gain_NF, self._least, out=gain_NF)
        return np.sqrt(gain_NF, out=gain_NF)


def noise_power(power_NF: np.ndarray) -> np.ndarray | None:
    """(F,) mean power of the pauses' frames; None where there is no pause, or nothing in it."""
    level_N = power_NF.sum(axis=1)
    quietest, loudest = np.quantile(level_N, (QUIETEST, LOUDEST))
    if quietest <= 0 or quietest * 10 ** (PAUSE_UNDER_SPEECH_DB / 10) > loudest:
        return None
    noise_F: np.ndarray = power_NF[level_N <= quietest * 10 ** (PAUSE_MARGIN_DB / 10)].mean(axis=0)
    return noise_F


def averaged(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean with both neighbours along an axis; at the ends the outermost value stands for the one that is not there."""
    moved = np.moveaxis(values, axis, 0)
    total = moved.copy()
    total[1:] += moved[:-1]
    total[:-1] += moved[1:]
    total[0] += moved[0]
    total[-1] += moved[-1]
    total *= np.float32(1 / 3)
    return np.moveaxis(total, 0, axis)
