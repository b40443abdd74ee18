"""metrics.fidelity.scores: exact answers, the pairing certificate, and inputs that must never become a number."""

import math

import numpy as np
import pytest

from metrics.fidelity.pairing import certificate, pieces
from metrics.fidelity.perceptual import pesq_wb, stoi
from metrics.fidelity.scores import SNR_CAP_DB, log_mel_mae, score_pairs, si_sdr_db, snr_db
from metrics.isolation import Limits
from tests.heard import RATE_HZ, heard, speech_like

ALL = ["snr", "log_mel", "pesq", "stoi"]
LIMITS = Limits()


def scored(variant, against, against_name="reference", metrics=ALL):
    return {s.metric: s for s in score_pairs([(variant, against)], against_name, metrics, LIMITS)}


def test_snr_of_a_known_gain_is_exact():
    x_S = speech_like()
    assert snr_db(heard(x_S * np.float32(0.5)), heard(x_S)).value == pytest.approx(20 * math.log10(2), abs=1e-9)
    assert snr_db(heard(-x_S), heard(x_S)).value == pytest.approx(-20 * math.log10(2), abs=1e-9)


def test_snr_of_a_known_noise():
    x_S = speech_like().astype(np.float64)
    noise_S = np.random.default_rng(1).normal(size=x_S.size)
    noise_S *= np.linalg.norm(x_S) / np.linalg.norm(noise_S) * 10 ** (-30 / 20)
    assert snr_db(heard(x_S + noise_S), heard(x_S)).value == pytest.approx(30.0, abs=1e-9)


def test_snr_stops_at_the_cap():
    x_S = speech_like().astype(np.float64)
    assert snr_db(heard(x_S), heard(x_S)).value == SNR_CAP_DB == 120.0
    assert snr_db(heard(x_S * (1 + 1e-9)), heard(x_S)).value == SNR_CAP_DB


def test_log_mel_error_is_the_mean_distance_in_nats():
    x_S, mel_ND = speech_like(), np.random.default_rng(0).normal(size=(188, 100)).astype(np.float32)
    louder = heard(x_S, mel_ND=mel_ND + np.float32(math.log(2)))
    assert log_mel_mae(louder, heard(x_S, mel_ND=mel_ND)).value == pytest.approx(math.log(2), abs=1e-6)
    assert log_mel_mae(heard(x_S, mel_ND=mel_ND), heard(x_S, mel_ND=mel_ND)).value == 0.0


def test_identical_audio_gets_the_best_of_every_scale():
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    scores = scored(heard(speech_like()), heard(speech_like()))
    assert {name: score.better for name, score in scores.items()} == {
        "snr_vs_reference_db": "higher",
        "log_mel_mae_vs_reference": "lower",
        "pesq_wb_vs_reference": "higher",
        "stoi_vs_reference": "higher",
    }
    assert [score.status for score in scores.values()] == ["ok"] * 4
    values = [score.value for score in scores.values()]
    assert values == pytest.approx([120.0, 0.0, 4.644, 1.0], abs=1e-3)


def test_noise_lowers_pesq_and_stoi():
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    x_S = speech_like()
    noisy_S = x_S + np.random.default_rng(1).normal(0, 0.05, x_S.size).astype(np.float32)
    scores = scored(heard(noisy_S), heard(x_S))
    assert 1.0 < scores["pesq_wb_vs_reference"].value < 3.0
    assert 0.0 < scores["stoi_vs_reference"].value < 0.99


def test_towards_an_oracle_only_the_engines_own_error_counts():
    scores = scored(heard(speech_like()), heard(speech_like()), "oracle")
    assert list(scores) == ["snr_vs_oracle_db", "log_mel_mae_vs_oracle"]


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match=r"unknown metrics \['mos'\]"):
        score_pairs([], "reference", ["snr", "mos"], LIMITS)


def test_many_pairs_keep_their_own_scores():
    pytest.importorskip("pesq")
    x_S = speech_like()
    good = (heard(x_S, utterance_id="a"), heard(x_S, utterance_id="a"))
    other_noise = (heard(x_S, utterance_id="b", noise_sha256="beef"), heard(x_S, utterance_id="b"))
    worse_S = x_S + np.random.default_rng(1).normal(0, 0.05, x_S.size).astype(np.float32)
    worse = (heard(worse_S, utterance_id="c"), heard(x_S, utterance_id="c"))
    scores = score_pairs([good, other_noise, worse], "reference", ["pesq"], LIMITS)
    assert [(s.utterance_id, s.status) for s in scores] == [("a", "ok"), ("b", "not_comparable"), ("c", "ok")]
    assert scores[0].value > scores[2].value


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"text": "Another."}, "text differs"),
        ({"utterance_id": "u2"}, "utterance_id differs"),
        ({"num_frames": 3}, "num_frames differs"),
        ({"num_chunks": 2}, "num_chunks differs"),
        ({"noise_sha256": None}, "the initial noise is not known on both sides"),
        ({"noise_sha256": "beef"}, "noise_sha256 differs: beef and f00d"),
        ({"identity": {"weights_sha256": "w1", "cfg_strength": "2.0"}}, "weights_sha256 differs: 'w1' and 'w0'"),
        ({"identity": {"weights_sha256": "w0"}}, "cfg_strength differs: None and '2.0'"),
        ({"rate_hz": 16_000}, "sample rates differ: 16000 and 24000 Hz"),
        ({"mel_ND": np.zeros((5, 100), np.float32)}, "mel shapes differ"),
        ({"num_samples": 5}, "48000 samples where its record says 5"),
        ({"audio_sha256": "00"}, "the audio of audio/u1.wav is not the audio of its record"),
    ],
)
def test_what_is_not_a_pair_gets_no_number(changes, reason):
    variant, against = heard(speech_like(), **changes), heard(speech_like())
    assert certificate(against, heard(speech_like())) is None
    for score in scored(variant, against).values():
        assert score.status == "not_comparable"
        assert score.value is None
        assert reason in score.reason


def test_a_shifted_signal_is_refused_and_a_single_sample_is_not():
    x_S = speech_like(seed=3)
    reason = certificate(heard(np.roll(x_S, 100)), heard(x_S))
    assert reason is not None
    assert reason.startswith("shifted by 100 samples (correlation 1.00)")
    assert certificate(heard(np.roll(x_S, -1)), heard(x_S)) is None


def test_another_reading_without_a_clear_lag_is_still_a_pair():
    other_S = np.random.default_rng(5).normal(0, 0.1, 2 * RATE_HZ).astype(np.float32)
    assert certificate(heard(other_S), heard(speech_like())) is None


def with_one(bad):
    x_S = speech_like()
    x_S[1234] = bad
    return x_S


UNFIT = {
    "nan": with_one(np.nan),
    "infinite": with_one(np.inf),
    "silent": np.zeros(2 * RATE_HZ, np.float32),
    "empty": np.zeros(0, np.float32),
    "one sample": np.ones(1, np.float32),
    "short": speech_like(0.2),
    "stereo": np.stack([speech_like(), speech_like()]),
}


@pytest.mark.parametrize("name", UNFIT)
def test_unfit_audio_is_a_status_in_every_metric(name):
    x_S = UNFIT[name]
    good_S = np.resize(speech_like(), x_S.size)
    for variant_S, against_S in ((x_S, good_S), (good_S, x_S), (x_S, x_S), (x_S, speech_like())):
        for score in scored(heard(variant_S), heard(against_S)).values():
            assert score.status == "not_comparable"
            assert score.value is None
            assert score.reason


@pytest.mark.parametrize("name", ["nan", "infinite", "silent", "empty", "stereo"])
def test_each_metric_refuses_unfit_audio_without_the_certificate_too(name):
    broken, good = heard(UNFIT[name]), heard(np.resize(speech_like(), UNFIT[name].size))
    for variant, against in ((broken, good), (good, broken)):
        pair = [(variant, against)]
        for outcome in (
            snr_db(variant, against),
            si_sdr_db(variant, against),
            *stoi(pair, LIMITS),
            *pesq_wb(pair, LIMITS),
        ):
            assert outcome.value is None
            assert outcome.reason


def test_a_mel_that_is_not_finite_is_no_number():
    bad_ND = np.full((188, 100), np.nan, np.float32)
    assert log_mel_mae(heard(speech_like(), mel_ND=bad_ND), heard(speech_like())).status == "error"
    empty_ND = np.zeros((0, 100), np.float32)
    both = heard(speech_like(), mel_ND=empty_ND)
    assert log_mel_mae(both, both).status == "error"


def test_what_is_longer_than_twenty_seconds_is_scored_in_equal_pieces():
    pytest.importorskip("pesq")
    assert pieces(20 * RATE_HZ, RATE_HZ) == [slice(0, 480_000)]
    assert [(p.start, p.stop) for p in pieces(50 * RATE_HZ, RATE_HZ)] == [(0, 4e5), (4e5, 8e5), (8e5, 12e5)]
    burst_S = np.concatenate([speech_like(0.6), np.zeros(int(0.4 * RATE_HZ), np.float32)])
    bursts = heard(np.tile(burst_S, 70))  # these 70 s crash PESQ when given at once
    short = heard(speech_like(0.2))
    whole, refused = pesq_wb([(bursts, bursts), (short, short)], LIMITS)
    assert whole.value == pytest.approx(4.644, abs=1e-3)
    assert refused.status == "too_few"


@pytest.mark.parametrize("seconds", [0.26, 0.35])
def test_stoi_of_too_little_speech_is_a_status(seconds):
    pytest.importorskip("pystoi")
    short = heard(speech_like(seconds))
    (outcome,) = stoi([(short, short)], LIMITS)
    assert (outcome.status, "too little speech" in outcome.reason) == ("too_few", True), outcome.reason


def test_stoi_without_its_package_says_how_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "pystoi.py").write_text("raise ImportError('not built')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (outcome,) = stoi([(heard(speech_like()), heard(speech_like()))], LIMITS)
    assert outcome.status == "unavailable"
    assert "pip install pystoi" in outcome.reason


def test_voiced_speech_that_resembles_itself_a_pitch_period_away_is_still_a_pair():
    """A coarse grid may end in the same vowels at another phase: the best lag is then a pitch period, not a shift."""
    phase = np.cumsum(2 * np.pi * (190 + 15 * np.sin(np.arange(2 * RATE_HZ) / 9000)) / RATE_HZ)
    near_S, other_S = (
        sum(0.05 / k * np.sin(k * phase + start * k * k) for k in range(1, 9)).astype(np.float32)
        for start in (0.0, 0.9)
    )
    assert certificate(heard(near_S), heard(other_S)) is None
