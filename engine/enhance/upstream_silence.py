"""Upstream's own `remove_silence`: remove_silence_for_generated_wav of f5_tts.infer.utils_infer, sample for sample.

Upstream writes its audio as a WAV of 16 bits and lets pydub split that at silences of a second under -50 dBFS; half a
second stays on either side. The integers are its own, so its rounding to 16 bits is part of the result.
"""

from __future__ import annotations

import io

import numpy as np
import soundfile

from engine.voice.preparation import Pcm, Search, split_on_silence

SEARCH = Search(min_ms=1000, threshold_db=-50.0, keep_ms=500)
BYTES = 2


def remove_silence(audio_S: np.ndarray, rate_hz: int) -> np.ndarray:
    """(S,) float32 -> (S,) float32, multiples of 2^-15. Without any sound over -50 dBFS nothing is left."""
    if not len(audio_S):
        return audio_S
    clip = Pcm(_as_16_bits(audio_S, rate_hz)[:, None], BYTES, rate_hz)
    pieces = [piece.audio_SC[:, 0] for piece in split_on_silence(clip, SEARCH)]
    return np.concatenate([np.zeros(0, dtype=np.float32), *pieces])


def _as_16_bits(audio_S: np.ndarray, rate_hz: int) -> np.ndarray:
    """The integers that soundfile writes, whatever its rounding is: through a file in memory."""
    file = io.BytesIO()
    soundfile.write(file, audio_S, rate_hz, format="WAV", subtype="PCM_16")
    file.seek(0)
    return soundfile.read(file, dtype="int16")[0].astype(np.int32)
