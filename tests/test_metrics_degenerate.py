"""Twenty degenerate inputs through every metric: a status or a sound number, never a wrong one, never a crash."""

import math

import numpy as np
import pytest

from metrics.fidelity.alone import score_alone
from metrics.fidelity.catalog import ALONE_FAMILIES, PAIR_FAMILIES, by_name
from metrics.fidelity.scores import outcomes_of, score_pairs
from metrics.isolation import Limits
from tests.heard import RATE_HZ, heard, recorded, speech_like

LIMITS = Limits(timeout_s=60)


def with_one(bad):
    x_S = speech_like()
    x_S[1234] = bad
    return x_S


def bursts():
    return np.tile(np.concatenate([speech_like(0.6), np.zeros(int(0.4 * RATE_HZ), np.float32)]), 70)


DEGENERATE = {
    "empty": np.zeros(0, np.float32),
    "one sample": np.ones(1, np.float32),
    "0.02 s": speech_like(0.02),
    "0.1 s": speech_like(0.1),
    "0.3 s": speech_like(0.3),
    "silence": np.zeros(2 * RATE_HZ, np.float32),
    "nearly silence": 1e-6 * speech_like(),
    "NaN": with_one(np.nan),
    "all NaN": np.full(2 * RATE_HZ, np.nan, np.float32),
    "Inf": with_one(np.inf),
    "stereo": np.stack([speech_like(), speech_like()]),
    "DC": np.full(2 * RATE_HZ, 0.5, np.float32),
    "one impulse": np.eye(1, 2 * RATE_HZ, 777, dtype=np.float32)[0],
    "clipped": np.clip(20 * speech_like(), -1, 1),
    "square of full scale": np.sign(speech_like()),
    "int16": (32767 * np.clip(speech_like(), -1, 1)).astype(np.int16),
    "white noise": np.random.default_rng(0).normal(0, 0.1, 2 * RATE_HZ).astype(np.float32),
    "half as long": speech_like(1.0),
    "70 s of bursts": bursts(),
    "huge": (1e30 * speech_like()).astype(np.float32),
}
# Against itself every one is identical or has no number; these are the ones that have something to be measured on
MEASURABLE = {
    "DC",
    "one impulse",
    "clipped",
    "square of full scale",
    "white noise",
    "half as long",
    "70 s of bursts",
    "huge",
}


def values_of(scores):
    return [score.value for score in scores if score.value is not None]


def test_there_are_twenty():
    assert len(DEGENERATE) == 20


def test_every_metric_of_a_thing_with_itself_is_what_identical_audio_gets_or_a_status():
    names = list(DEGENERATE)
    pairs = [(heard(DEGENERATE[name], utterance_id=name), heard(DEGENERATE[name], utterance_id=name)) for name in names]
    scores = score_pairs(pairs, "reference", PAIR_FAMILIES, LIMITS)
    for score in scores:
        assert (score.value is None) == (score.status != "ok")
        assert score.value is not None or score.reason
        identical = by_name()[score.metric].identical
        if score.value is not None and score.metric != "log_mel_mae_vs_reference":
            assert score.value == pytest.approx(identical, abs=2e-2), (score.metric, score.utterance_id)
    numbered = {score.utterance_id for score in scores if score.value is not None}
    assert numbered <= MEASURABLE
    assert {"half as long", "70 s of bursts", "white noise"} <= numbered


def test_a_degenerate_variant_never_looks_like_the_speech_it_stands_for():
    """Without the certificate, straight into every metric: no crash, nothing infinite, nothing near identical."""
    names = [name for name in DEGENERATE if name != "70 s of bursts"]
    clean_S = speech_like()
    pairs = []
    for name in names:
        x_S = DEGENERATE[name]
        against_S = clean_S if x_S.ndim != 1 or x_S.size > clean_S.size else clean_S[: x_S.size]
        pairs.append((heard(x_S), heard(against_S)))
    for name, found in zip(names, outcomes_of(pairs, PAIR_FAMILIES, LIMITS), strict=True):
        for key, outcome in found.items():
            assert outcome.value is None or math.isfinite(outcome.value), (name, key)
            assert outcome.value is not None or outcome.reason, (name, key)
        if name in ("empty", "silence", "nearly silence", "NaN", "all NaN", "Inf", "stereo"):
            assert {outcome.value for key, outcome in found.items() if key != "log_mel"} == {None}, name


def test_scores_without_another_side_are_statuses_or_finite():
    scores = score_alone([heard(x_S, utterance_id=name) for name, x_S in DEGENERATE.items()], ALONE_FAMILIES, LIMITS)
    assert all(math.isfinite(value) for value in values_of(scores))
    lost = {s.utterance_id for s in scores if s.metric == "loudness_lufs" and s.value is None}
    assert {"empty", "one sample", "0.02 s", "0.1 s", "0.3 s", "silence", "NaN", "all NaN", "Inf", "stereo"} <= lost


def test_numbers_are_the_packages_own_to_the_last_digit():
    pesq, pystoi = pytest.importorskip("pesq"), pytest.importorskip("pystoi")
    pyloudnorm, soxr = pytest.importorskip("pyloudnorm"), pytest.importorskip("soxr")
    clean_S = recorded()
    noisy_S = clean_S + np.random.default_rng(0).normal(0, 3e-3, clean_S.size).astype(np.float32)
    (found,) = outcomes_of([(heard(noisy_S), heard(clean_S))], ["pesq", "stoi", "estoi"], LIMITS)
    at_16k = [soxr.resample(x_S, RATE_HZ, 16_000, quality="VHQ") for x_S in (clean_S, noisy_S)]
    assert found["pesq"].value == pesq.pesq(16_000, *at_16k, "wb")
    # The child sums on one thread, in another order: the last digit may differ
    assert found["stoi"].value == pytest.approx(pystoi.stoi(clean_S, noisy_S, RATE_HZ), rel=1e-13)
    assert found["estoi"].value == pytest.approx(pystoi.stoi(clean_S, noisy_S, RATE_HZ, extended=True), rel=1e-13)
    (loudness,) = score_alone([heard(clean_S)], ["loudness"], LIMITS)
    assert loudness.value == pyloudnorm.Meter(RATE_HZ).integrated_loudness(clean_S.astype(np.float64))
