"""The statistics of listening sets: exact answers, published figures, simulated error rates."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reports.listening.judging import bradley_terry
from reports.listening.judging.bradley_terry import Duel
from reports.listening.judging.inference import (
    binomial_p,
    clustered_mean,
    holm,
    power_of,
    signed_rank_p,
    votes_needed,
    votes_to_win,
    wilson,
)

SEED_OF_SIMULATIONS = 20_261_120


def test_binomial_and_wilson_known_answers() -> None:
    assert binomial_p(12, 16, sides=1) == pytest.approx(0.03840637)
    assert binomial_p(13, 16) == pytest.approx(0.02127, abs=1e-5)
    assert binomial_p(0, 0) == 1.0
    assert binomial_p(5, 10) == 1.0
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263 and 0 of 20
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_signed_ranks_known_answers() -> None:
    assert signed_rank_p([1, 2, 3, 4, 5, 6]) == 2 / 64
    assert signed_rank_p([-1, -1, -1, -1, -1]) == 2 / 32
    assert signed_rank_p([0, 0, 0]) == 1.0
    assert signed_rank_p([1, 2, 3, -4]) == pytest.approx(14 / 16)  # W+ = 6 of 10: eight of sixteen sums are 6 or more
    values = np.random.default_rng(0).normal(0.3, 1, 14)
    assert signed_rank_p(values.tolist()) == pytest.approx(stats.wilcoxon(values, method="exact").pvalue)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_signed_ranks_with_ties_are_the_share_of_all_sign_flips(values: list[int]) -> None:
    kept = [v for v in values if v]
    if not kept:
        return
    ranks = stats.rankdata(np.abs(kept))
    sums = [
        sum(r for r, s in zip(ranks, signs, strict=True) if s) for signs in itertools.product((0, 1), repeat=len(kept))
    ]
    observed = sum(r for r, v in zip(ranks, kept, strict=True) if v > 0)
    tail = min(np.mean([s <= observed for s in sums]), np.mean([s >= observed for s in sums]))
    assert signed_rank_p(values) == pytest.approx(min(1.0, 2 * tail))


def test_holm_known_answer() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_planning_figures_of_the_literature() -> None:
    assert [votes_to_win(n) for n in (30, 60, 90, 150, 300)] == [21, 39, 55, 88, 168]
    assert [round(power_of(30, share), 2) for share in (0.6, 0.7, 0.75)] == [0.18, 0.59, 0.80]
    assert [votes_needed(share) for share in (0.6, 0.65, 0.7, 0.75, 0.8)] == [210, 97, 54, 35, 23]


def test_clustered_mean_of_one_listener_is_the_t_interval() -> None:
    values = np.array([0.3, 1.1, -0.4, 0.8, 0.5, 0.9])
    estimate = clustered_mean(values, list("abcdef"), ["one"] * 6, null=0.0)
    low, high = stats.t.interval(0.95, 5, loc=values.mean(), scale=stats.sem(values))
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    assert estimate.p_value == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert estimate.clusters == "sentence"


def test_clustered_mean_of_a_hand_computed_cross() -> None:
    """Two sentences x two listeners: 1 2 / 3 6."""
    estimate = clustered_mean(np.array([1.0, 2.0, 3.0, 6.0]), ["a", "a", "b", "b"], ["x", "y", "x", "y"], null=0.0)
    # Residuals -2 -1 0 3: sums of sentences -3 3, of listeners -2 2, left beside their means 0.5 -0.5 -0.5 0.5
    by_sentence, by_listener, by_vote = 2 * 18 / 16, 2 * 8 / 16, 4 * 0.25 / 4
    error = math.sqrt(by_sentence + by_listener - by_vote)
    assert estimate.mean == 3.0
    assert estimate.high == pytest.approx(3.0 + stats.t.ppf(0.975, 1) * error)
    assert estimate.p_value == pytest.approx(2 * stats.t.sf(3.0 / error, 1))


def test_one_sentence_gives_no_interval() -> None:
    estimate = clustered_mean(np.array([1.0, 2.0]), ["a", "a"], ["x", "y"], null=0.0)
    assert (estimate.low, estimate.p_value) == (None, None)


@pytest.mark.parametrize(("num_sentences", "num_listeners"), [(30, 5), (30, 12), (20, 7)])
def test_simulated_coverage_and_size(num_sentences: int, num_listeners: int) -> None:
    """Listeners and sentences that differ (SD 0.4 and 0.3, residual 0.9): votes as if independent cover 60 %."""
    rng = np.random.default_rng(SEED_OF_SIMULATIONS)
    sentences = [str(i) for i in range(num_sentences) for _ in range(num_listeners)]
    listeners = [str(j) for _ in range(num_sentences) for j in range(num_listeners)]
    covered = naive = decided = 0
    num = 1200
    for _ in range(num):
        values_SL = rng.normal(0, 0.9, (num_sentences, num_listeners))
        values_SL += rng.normal(0, 0.3, (num_sentences, 1)) + rng.normal(0, 0.4, (1, num_listeners))
        estimate = clustered_mean(values_SL.ravel(), sentences, listeners, null=0.0)
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.p_value is not None
        covered += estimate.low <= 0 <= estimate.high
        naive += abs(values_SL.mean()) < 1.96 * values_SL.std() / math.sqrt(values_SL.size)
        decided += max(estimate.p_value, signed_rank_p(values_SL.mean(axis=1).tolist())) <= 0.05
    assert 0.93 <= covered / num <= 0.97
    assert naive / num < 0.75
    assert decided / num <= 0.05


def test_size_of_the_preference_decision_with_biased_listeners() -> None:
    """Ternary votes; every listener leans one way, the population does not."""
    rng = np.random.default_rng(SEED_OF_SIMULATIONS)
    sentences = [str(i) for i in range(30) for _ in range(8)]
    listeners = [str(j) for _ in range(30) for j in range(8)]
    wrong = 0
    for _ in range(800):
        lean_SL = rng.normal(0, 0.6, (1, 8)) + rng.normal(0, 0.4, (30, 1)) + rng.normal(0, 1, (30, 8))
        votes_SL = 0.5 + 0.5 * (np.sign(lean_SL) * (np.abs(lean_SL) > 0.3))
        estimate = clustered_mean(votes_SL.ravel(), sentences, listeners, null=0.5)
        assert estimate.p_value is not None
        wrong += max(estimate.p_value, signed_rank_p((votes_SL.mean(axis=1) - 0.5).tolist())) <= 0.05
    assert wrong / 800 <= 0.05


def duels(outcomes: Sequence[int], first: str = "a", second: str = "b") -> list[Duel]:
    return [
        Duel(first=first, second=second, outcome=o, sentence=str(i % 6), listener=str(i % 4))
        for i, o in enumerate(outcomes)
    ]


def test_bradley_terry_known_answers() -> None:
    two = bradley_terry.fit(("a", "b"), duels([0] * 20 + [1] * 5))
    assert isinstance(two, tuple)
    assert two[1].theta == pytest.approx(math.log(5 / 20))
    tied = bradley_terry.fit(("a", "b"), duels([0] * 20 + [1] * 5 + [2] * 10))
    assert isinstance(tied, tuple)
    assert tied[1].theta == pytest.approx(math.log(5 / 20))  # Davidson: ties say nothing about the ratio of two
    lost = bradley_terry.fit(("a", "b"), duels([0] * 9))
    assert isinstance(lost, str)


def test_bradley_terry_recovers_simulated_strengths() -> None:
    truth = {"a": 0.0, "b": 0.8, "c": -0.5, "d": 0.3}
    rng = np.random.default_rng(4)
    votes = []
    for first, second in itertools.combinations(truth, 2):
        for n in range(600):
            weights = np.exp([(truth[first] - truth[second]) / 2, (truth[second] - truth[first]) / 2, -0.7])
            outcome = int(rng.choice(3, p=weights / weights.sum()))
            votes.append(Duel(first=first, second=second, outcome=outcome, sentence=str(n % 30), listener=str(n // 30)))
    strengths = bradley_terry.fit(tuple(truth), votes)
    assert isinstance(strengths, tuple)
    for strength in strengths[1:]:
        assert strength.theta == pytest.approx(truth[strength.system], abs=0.25)
        assert strength.low is not None
        assert strength.high is not None
        assert strength.low < truth[strength.system] < strength.high
        assert 0.1 < strength.high - strength.low < 1.0
