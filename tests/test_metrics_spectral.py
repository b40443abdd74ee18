"""metrics.fidelity.spectral: hand-computed cases of the log-spectral distance, the mel-cepstrum and its distortion."""

import math

import numpy as np
import pytest

from metrics.fidelity.spectral import (
    FLOOR_DB,
    band_distances,
    blind_snr_delta_db,
    log_spectrum,
    mcd,
    mel_cepstrum,
)
from tests.heard import RATE_HZ, heard, recorded, speech_like


def test_a_full_scale_sine_on_a_bin_is_zero_decibels_and_silence_is_the_floor():
    sine_S = np.sin(2 * np.pi * 64 / 1024 * np.arange(4096))  # bin 64
    assert log_spectrum(sine_S)[0, 64] == pytest.approx(0.0, abs=1e-9)
    assert (log_spectrum(np.zeros(4096)) == FLOOR_DB).all()


def test_half_the_amplitude_is_six_decibels_in_every_band_and_no_distortion_of_the_cepstrum():
    loud_S = np.random.default_rng(0).normal(0, 0.1, RATE_HZ).astype(np.float32)  # far over the floor everywhere
    pair = heard(loud_S * np.float32(0.5)), heard(loud_S)
    for lsd, level in band_distances(*pair).values():
        assert lsd.value == pytest.approx(20 * math.log10(2), abs=1e-3)  # bins at the floor
        assert level.value == pytest.approx(-20 * math.log10(2), abs=1e-3)
    assert mcd(*pair).value == pytest.approx(0.0, abs=1e-2)


def test_a_band_that_audio_of_a_lower_rate_does_not_have_is_not_applicable():
    low = heard(speech_like(), rate_hz=16_000)
    found = band_distances(low, low)
    assert [lsd.status for lsd, _ in found.values()] == ["ok", "ok", "not_applicable"]
    assert "16000 Hz audio has no band up to 12000 Hz" in found["8_12k"][0].reason


def test_the_cepstrum_of_one_zero_is_known():
    """log|1 + a e^-jw| = sum over k of -(-a)^k / k cos(kw), so without warping c_k is -(-a)^k / k."""
    a = 0.5
    spectrum_F = 20 * np.log10(np.abs(1 + a * np.exp(-2j * np.pi * np.arange(513) / 1024)))
    cepstrum_C = mel_cepstrum(spectrum_F[None], order=4, alpha=0.0)[0]
    assert cepstrum_C == pytest.approx([0.0, a, -(a**2) / 2, a**3 / 3, -(a**4) / 4], abs=1e-9)


def test_the_warped_cepstrum_is_the_one_of_the_warped_frequency():
    """With c_1 = 1 over the warped frequency, log|X(w)| = cos(w + 2 atan(alpha sin w / (1 - alpha cos w)))."""
    alpha, w = 0.466, 2 * np.pi * np.arange(513) / 1024
    warped = w + 2 * np.arctan(alpha * np.sin(w) / (1 - alpha * np.cos(w)))
    spectrum_F = np.cos(warped) * 20 / math.log(10)
    cepstrum_C = mel_cepstrum(spectrum_F[None], order=6, alpha=alpha)[0]
    assert cepstrum_C == pytest.approx([0, 1, 0, 0, 0, 0, 0], abs=1e-6)


def test_distortion_of_one_coefficient_by_hand():
    """Filtering by exp(d cos w) changes c_1 alone (alpha is the recipe's): MCD = 10/ln10 sqrt(2) d over all frames."""
    d = 0.1
    noise_S = np.random.default_rng(1).normal(0, 0.1, RATE_HZ * 2)
    w = 2 * np.pi * np.fft.rfftfreq(noise_S.size)
    warped = w + 2 * np.arctan(0.466 * np.sin(w) / (1 - 0.466 * np.cos(w)))
    filtered_S = np.fft.irfft(np.fft.rfft(noise_S) * np.exp(d * np.cos(warped)), noise_S.size)  # zero phase
    value = mcd(heard(filtered_S.astype(np.float32)), heard(noise_S.astype(np.float32))).value
    assert value == pytest.approx(10 / math.log(10) * math.sqrt(2) * d, rel=0.15)  # frames leak into each other


def test_the_blind_ratio_moves_by_the_noise_that_was_added_to_the_pauses():
    voiced_S = speech_like(2.0)
    voiced_S[RATE_HZ : RATE_HZ + RATE_HZ // 2] = 0
    quiet_S = voiced_S + np.random.default_rng(0).normal(0, 1e-4, voiced_S.size).astype(np.float32)
    noisy_S = voiced_S + np.random.default_rng(0).normal(0, 1e-3, voiced_S.size).astype(np.float32)
    delta = blind_snr_delta_db(heard(noisy_S), heard(quiet_S))
    assert delta.value == pytest.approx(-20.0, abs=1.0)
    assert blind_snr_delta_db(heard(quiet_S), heard(quiet_S)).value == 0.0
    late_S = quiet_S.copy()
    late_S[RATE_HZ : RATE_HZ + 960] = voiced_S[RATE_HZ - 960 : RATE_HZ]  # the pause begins 40 ms later: no noise
    assert blind_snr_delta_db(heard(late_S), heard(quiet_S)).value == pytest.approx(0.0, abs=0.5)
    steady_S = np.sin(np.arange(RATE_HZ) / 10).astype(np.float32)
    assert blind_snr_delta_db(heard(steady_S), heard(steady_S)).status == "too_few"


def test_recorded_speech_against_itself_is_at_no_distance():
    one = heard(recorded())
    assert mcd(one, one).value == 0.0
    assert all(lsd.value == 0.0 and level.value == 0.0 for lsd, level in band_distances(one, one).values())
