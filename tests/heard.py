"""Utterances as metrics hear them: a speech-like buzz, the two recorded voices, and the certificate's bookkeeping."""

import dataclasses

import numpy as np
import soundfile

from metrics.fidelity.pairing import Heard, sha256_of
from metrics.record import Utterance
from tests.engines import ROOT

RATE_HZ = 24_000


def speech_like(seconds=2.0, seed=0):
    """A buzz of 120 Hz with syllables four times a second, over faint noise."""
    t_S = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    buzz_S = sum(np.sin(2 * np.pi * 120 * k * t_S + k * k) / k for k in range(1, 25))
    faint_S = np.random.default_rng(seed).normal(0, 1e-3, t_S.size)
    return (0.15 * buzz_S * (0.55 - 0.45 * np.cos(2 * np.pi * 4 * t_S)) + faint_S).astype(np.float32)


def recorded(voice="slt"):
    """1.5 s of recorded speech at 24 kHz: the pocket model's reference clips."""
    audio_S, rate_hz = soundfile.read(ROOT / "engine" / "pocket" / f"{voice}.wav", dtype="float32")
    assert rate_hz == RATE_HZ
    return np.asarray(audio_S)


def heard(audio_S, *, rate_hz=RATE_HZ, mel_ND=None, identity=None, **changes):
    audio_S = np.asarray(audio_S)
    utterance = Utterance(
        utterance_id="u1",
        category="short",
        text="We leave in ten minutes.",
        sample_rate_hz=rate_hz,
        num_samples=audio_S.size,
        num_frames=audio_S.size // 256,
        num_chunks=1,
        noise_sha256="f00d",
        audio_sha256=sha256_of(audio_S),
        audio_path="audio/u1.wav",
        mel_path="",
    )
    if mel_ND is None:
        mel_ND = np.zeros((audio_S.size // 256 + 1, 100), np.float32)
    return Heard(
        utterance=dataclasses.replace(utterance, **changes),
        audio_S=audio_S,
        sample_rate_hz=rate_hz,
        mel_ND=mel_ND,
        identity={"weights_sha256": "w0", "cfg_strength": "2.0"} if identity is None else identity,
    )
