"""metrics.fidelity.floors: positions between identical and another seed, margins that cannot be tested."""

import pytest

from metrics.fidelity.catalog import by_name
from metrics.fidelity.floors import floors_from, not_testable, position
from metrics.record import Floor, Score


def score(metric, utterance_id, value):
    status = "ok" if value is not None else "error"
    return Score(metric=metric, utterance_id=utterance_id, value=value, status=status, reason=None, better="lower")


def floor(metric, repeat=None, other_seed=None):
    return Floor(metric=metric, repeat=repeat, other_seed=other_seed, other_seed_sd=None, num_seeds=5, num_pairs=8)


def test_identical_is_zero_and_another_seed_is_one():
    log_mel = floor("log_mel_mae_vs_reference", 0.0, 0.8)
    assert position("log_mel_mae_vs_reference", 0.0, log_mel) == 0.0
    assert position("log_mel_mae_vs_reference", 0.2, log_mel) == pytest.approx(0.25)
    pesq = floor("pesq_wb_vs_reference", 4.644, 1.644)
    assert position("pesq_wb_vs_reference", 3.144, pesq) == pytest.approx(0.5)


def test_a_ratio_in_decibels_is_placed_by_the_share_of_noise():
    snr = floor("snr_vs_reference_db", 120.0, 0.0)
    assert position("snr_vs_reference_db", 120.0, snr) == pytest.approx(0.0, abs=1e-9)
    assert position("snr_vs_reference_db", 10.0, snr) == pytest.approx(0.1)


def test_without_a_scale_there_is_no_position():
    assert position("f0_median_hz", 120.0, floor("f0_median_hz", None, None)) is None
    assert position("new_cuts_vs_reference", 1.0, floor("new_cuts_vs_reference", 0.0, 0.0)) is None


def test_floors_of_five_seeds():
    metric, lone = "log_mel_mae_vs_reference", "f0_median_hz"
    repeat = [score(metric, "a", 0.0), score(metric, "b", 0.0)]
    base = [score(lone, "a", 100.0), score(lone, "b", 200.0)]
    seeds = {
        1: [score(metric, "a", 0.8), score(metric, "b", None), score(lone, "a", 104.0), score(lone, "b", 200.0)],
        2: [score(metric, "a", 0.6), score(metric, "b", 0.4), score(lone, "a", 96.0), score(lone, "b", 200.0)],
    }
    found = {one.metric: one for one in floors_from(repeat, base, seeds)}
    assert (found[metric].repeat, found[metric].other_seed) == (0.0, pytest.approx(0.6))
    assert (found[metric].num_seeds, found[metric].num_pairs) == (3, 3)
    assert (found[lone].repeat, found[lone].other_seed) == (None, None)
    assert found[lone].other_seed_sd == pytest.approx(2.0)  # 4 for a, 0 for b


def test_a_margin_under_the_metrics_own_noise_cannot_be_tested():
    noisy = floor("log_mel_mae_vs_reference", 0.05, 0.8)
    assert "not testable: the margin 0.01 is under" in not_testable(0.01, noisy)
    assert not_testable(0.1, noisy) is None
    assert not_testable(0.01, None) is None
    assert not_testable(0.01, floor("pesq_wb_vs_reference", 4.6439, 1.5)) is None


def test_every_score_has_a_recipe_and_a_direction():
    for name, metric in by_name().items():
        assert metric.full_recipe
        assert "{" not in name
        assert metric.better in ("higher", "lower", "neither")
