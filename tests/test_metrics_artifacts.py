"""metrics.fidelity.artefacts: one fault at a time, named with its value and its limit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from metrics.fidelity.artefacts import Expectation, audio_valid

RATE_HZ = 24_000
TEXT = "We leave in ten minutes, all of us."  # 27 letters


def speech_like(seconds=2.0):
    """A buzz of 120 Hz with syllables four times a second."""
    t_S = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    buzz_S = sum(np.sin(2 * np.pi * 120 * k * t_S + k * k) / k for k in range(1, 25))
    return (0.15 * buzz_S * (0.55 - 0.45 * np.cos(2 * np.pi * 4 * t_S))).astype(np.float32)


def check(audio_S, sample_rate_hz=RATE_HZ, num_samples=2 * RATE_HZ, text=TEXT, voice_dc=0.0):
    expected = Expectation(
        utterance_id="u1", text=text, sample_rate_hz=RATE_HZ, num_samples=num_samples, voice_dc=voice_dc
    )
    return audio_valid(audio_S, sample_rate_hz, expected=expected)


def test_good_audio_is_valid():
    score = check(speech_like())
    assert (score.metric, score.utterance_id, score.value, score.status) == ("audio_valid", "u1", 1.0, "ok")
    assert score.reason is None


def with_nan(audio_S):
    audio_S[7] = np.nan
    return audio_S


def clipped(num):
    def spoil(audio_S):
        audio_S[1000 : 1000 + num] = -1.0
        return audio_S

    return spoil


def mostly_silent(audio_S):
    audio_S[: int(0.7 * audio_S.size)] = 0
    return audio_S


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (with_nan, "1 of 48000 samples are not finite"),
        (lambda x: x[:-1], "47999 samples, must be 48000"),
        (lambda x: np.zeros_like(x), "silent: RMS 0, must be over 0.001; silent: peak 0, must be over 0.01"),
        (lambda x: x * np.float32(1e-3), "silent: RMS"),
        (mostly_silent, "silence share 0.7"),
        (clipped(3), "clipping: 3 samples in a row"),
        (lambda x: x + np.float32(0.02), "DC offset 0.02, must be within +-0.01"),
        (lambda x: x.astype(np.float64), "1-dimensional float64, must be mono float32"),
        (lambda x: x[None], "2-dimensional float32"),
        (lambda x: x[:0], "0 samples, must be 48000; no samples"),
    ],
)
def test_a_fault_is_named(spoil, named):
    score = check(spoil(speech_like()))
    assert score.status == "error"
    assert score.value is None
    assert named in score.reason


def test_a_voice_recorded_with_an_offset_is_cloned_with_it():
    """The limit is on top of the clip's own offset, of either sign: a mel has none."""
    for voice_dc in (0.015, -0.015):
        assert check(speech_like() + np.float32(0.02), voice_dc=voice_dc).status == "ok"
        reason = check(speech_like() + np.float32(0.03), voice_dc=voice_dc).reason
        assert f"DC offset 0.03, must be within +-0.025 (the voice's own {voice_dc:g} and 0.01)" in reason


def test_two_samples_at_full_scale_are_not_clipping():
    assert check(clipped(2)(speech_like())).status == "ok"


@pytest.mark.parametrize(("text", "rate"), [("Hi", "1."), ("a" * 80, "4")])
def test_an_implausible_speaking_rate(text, rate):
    reason = check(speech_like(), text=text).reason
    assert f"speaking rate {rate}" in reason
    assert "must be 4..30" in reason


def test_all_faults_are_named_together():
    spoilt_S = clipped(5)(speech_like() + np.float32(0.02))
    reason = check(spoilt_S[:-10], sample_rate_hz=16_000).reason
    for named in ("sample rate 16000 Hz, must be 24000", "47990 samples", "DC offset", "clipping: "):
        assert named in reason


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, st.integers(0, 3000), elements=st.floats(width=32)))
def test_any_array_gets_a_verdict(audio_S):
    score = check(audio_S, num_samples=audio_S.size)
    assert (score.value == 1.0) == (score.status == "ok")
    assert score.status == "ok" or score.reason
