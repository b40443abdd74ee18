"""Training speech for the pocket model: flite through ctypes, with word times, warped to whole frames a character.

flite 2.2 (Debian's libflite1) speaks about a hundred times faster than real time and tells where each token lies.
The C interface used here is that of flite.h, cst_wave.h and cst_ffeatures.h.
"""

import ctypes
import ctypes.util
from dataclasses import dataclass

import numpy as np

FLITE_RATE_HZ = 16_000
SAMPLE_RATE_HZ = 24_000
HOP_SAMPLES = 256
TARGET_RMS = 0.1
MIN_PAUSE_S = 0.03
WORD_START = "daughter.R:SylStructure.daughter.daughter.R:Segment.p.end"
WORD_END = "daughtern.R:SylStructure.daughtern.daughtern.R:Segment.end"


class FliteMissing(RuntimeError):
    """flite's shared libraries are not installed."""


class _Wave(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    ]


@dataclass(frozen=True)
class Token:
    """One whitespace-separated token of the text and where its sound lies, in seconds."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, eq=False)
class Speech:
    """Spoken text: audio_S float32 mono at 24 kHz with RMS 0.1, and its tokens."""

    audio_S: np.ndarray
    tokens: tuple[Token, ...]


class FliteVoice:
    """One flite voice: `slt` (female, US) or `rms` (male, US), both 16 kHz."""

    def __init__(self, name: str):
        try:
            self._lib = ctypes.CDLL("libflite.so.1", mode=ctypes.RTLD_GLOBAL)
            for part in ("usenglish", "cmulex"):
                ctypes.CDLL(f"libflite_{part}.so.1", mode=ctypes.RTLD_GLOBAL)
            voice_lib = ctypes.CDLL(f"libflite_cmu_us_{name}.so.1")
        except OSError as error:
            raise FliteMissing(f"{error}; install it with: apt-get install libflite1") from error
        self._declare()
        self._lib.flite_init()
        register = getattr(voice_lib, f"register_cmu_us_{name}")
        register.restype, register.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
        self._voice = register(None)

    def _declare(self) -> None:
        pointer, text = ctypes.c_void_p, ctypes.c_char_p
        signatures = {
            "flite_synth_text": (pointer, [text, pointer]),
            "utt_wave": (ctypes.POINTER(_Wave), [pointer]),
            "utt_relation": (pointer, [pointer, text]),
            "relation_head": (pointer, [pointer]),
            "item_next": (pointer, [pointer]),
            "flite_ffeature_string": (text, [pointer, text]),
            "flite_ffeature_float": (ctypes.c_float, [pointer, text]),
            "delete_utterance": (None, [pointer]),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(self._lib, name)
            function.restype, function.argtypes = result, arguments

    def speak(self, text: str) -> Speech:
        """Text -> speech. Raises ValueError where flite's tokens are not the text's own words."""
        import torch
        from torchaudio.functional import resample

        utterance = self._lib.flite_synth_text(text.encode(), self._voice)
        try:
            wave = self._lib.utt_wave(utterance).contents
            samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).astype(np.float32) / 32768
            tokens = tuple(self._tokens(utterance, text.split()))
        finally:
            self._lib.delete_utterance(utterance)
        # torchaudio's default filter leaves images above 8 kHz, which sound brighter than an empty band
        audio_S = resample(torch.from_numpy(samples), FLITE_RATE_HZ, SAMPLE_RATE_HZ).numpy()
        return Speech(audio_S * (TARGET_RMS / np.sqrt(np.mean(audio_S**2))), tokens)

    def _tokens(self, utterance: int, words: list[str]) -> list[Token]:
        lib, tokens = self._lib, []
        item = lib.relation_head(lib.utt_relation(utterance, b"Token"))
        while item:
            tokens.append((lib.flite_ffeature_float(item, WORD_START.encode()),
                           lib.flite_ffeature_float(item, WORD_END.encode())))  # fmt: skip
            item = lib.item_next(item)
        if len(tokens) != len(words):
            raise ValueError(f"flite made {len(tokens)} tokens of {len(words)} words: {' '.join(words)!r}")
        return [Token(word, start, end) for word, (start, end) in zip(words, tokens, strict=True)]


def warp_plan(tokens: tuple[Token, ...], frames_per_char: int, frame_rate_hz: float) -> np.ndarray:
    """Source position (in frames, fractional) of every target frame, so that each character takes `frames_per_char`.

    Letters of a token map to its sound; where a pause follows, the punctuation and the space map to the pause,
    otherwise the space is part of the sound. The last token has no space. Shape (frames_per_char * characters,).
    """
    positions = []
    for i, token in enumerate(tokens):
        last = i == len(tokens) - 1
        letters = len(token.text.rstrip(",.!?;:"))
        others = len(token.text) - letters + (0 if last else 1)
        next_start = token.end_s + 0.12 if last else tokens[i + 1].start_s
        if last or next_start - token.end_s > MIN_PAUSE_S:
            spans = [(letters, token.start_s, token.end_s), (others, token.end_s, next_start)]
        else:
            spans = [(letters + others, token.start_s, next_start)]
        for characters, start_s, end_s in spans:
            count = characters * frames_per_char
            offsets = (np.arange(count) + 0.5) / max(count, 1)
            positions.append((start_s + offsets * (end_s - start_s)) * frame_rate_hz)
    return np.concatenate(positions)


def warp_mel(mel_ND: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Linear interpolation of mel frames (N, D) at fractional frame positions; clamped at both ends."""
    positions = np.clip(positions, 0, len(mel_ND) - 1)
    lower = np.floor(positions).astype(int)
    upper = np.minimum(lower + 1, len(mel_ND) - 1)
    weight = (positions - lower)[:, None].astype(np.float32)
    return mel_ND[lower] * (1 - weight) + mel_ND[upper] * weight
