"""From answers to a verdict: exact answers, simulated error rates, wrong keys, listeners who did not listen."""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reports.listening import bradley_terry
from reports.listening.__main__ import main
from reports.listening.bradley_terry import Duel
from reports.listening.build import build_set
from reports.listening.collect import collect
from reports.listening.inference import (
    binomial_p,
    clustered_mean,
    holm,
    power_of,
    signed_rank_p,
    votes_needed,
    votes_to_win,
    wilson,
)
from reports.listening.settings import BuildSettings
from tests.listening_runs import Respond, answered, save_result, two_runs, voiced, write_listening_run

SEED_OF_SIMULATIONS = 20_261_120


def goodness(clip: dict[str, Any], liked: str) -> int:
    """Two points for the liked system, one for any other, none in noise."""
    if clip["treatment"]:
        return 0
    return 2 if clip["system"] == liked else 1


def who_likes(liked: str) -> Respond:
    """An attentive listener in every method."""

    def respond(kind: str, clips: Sequence[dict[str, Any]], rng: np.random.Generator) -> dict[str, Any]:
        good = [goodness(clip, liked) for clip in clips]
        if len(clips) == 2:
            lead = "none" if good[0] == good[1] else "first" if good[0] > good[1] else "second"
            return {"preference": lead, "rating_a": 1 + good[0], "rating_b": 1 + good[1],
                    "ccr": good[1] - good[0], "dcr": 5 if good[1] else 1}  # fmt: skip
        if len(clips) == 3:
            return {"match": int(clips[2] == clips[1])}
        return {"ratings": [None, *({0: 20, 1: 60, 2: 95}[g] for g in good[1:])]}

    return respond


def who_guesses(kind: str, clips: Sequence[dict[str, Any]], rng: np.random.Generator) -> dict[str, Any]:
    return {"preference": str(rng.choice(["first", "second"])), "rating_a": 3, "rating_b": 3}


def built_set(folder: Path, method: str = "ab", num_sentences: int = 8, **changes: Any) -> Path:
    runs = tuple(two_runs(folder / "runs", num_sentences, 0.2))
    return build_set(
        BuildSettings(runs=runs, out=folder / "set", method=method, num_pairs=num_sentences, seed=1, **changes)
    ).page.parent


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


@pytest.mark.parametrize(
    ("method", "measure", "mean"),
    [
        ("ab", "preference_frac", 1.0),
        ("ccr", "ccr", 1.0),
        ("abx", "abx_correct_frac", 1.0),
        ("mushra", "mushra_difference", 35.0),
    ],
)
def test_a_clear_preference_is_found_in_every_method(tmp_path: Path, method: str, measure: str, mean: float) -> None:
    reference = {"reference": "int8-euler_7"} if method == "mushra" else {}
    folder = built_set(tmp_path, method, **reference)
    for number in range(4):
        save_result(folder, answered(folder, f"L{number}", who_likes("int8-euler_7"), number))
    collected = collect([str(folder)])
    assert all(not s.reasons for s in collected.findings.screened)
    assert collected.findings.counted is not None
    comparison = next(c for c in collected.findings.counted.comparisons if c.measure == measure)
    assert comparison.estimate.mean == pytest.approx(mean)
    assert (comparison.baseline, comparison.candidate) == ("fp32-euler_7", "int8-euler_7")
    assert comparison.winner(0.05) == "int8-euler_7"
    if method in ("ab", "ccr"):
        assert collected.findings.counted.bias is not None
        assert collected.findings.counted.bias.num_first == collected.findings.counted.bias.num_second


def test_dcr_rates_damage_and_hidden_reference(tmp_path: Path) -> None:
    folder = built_set(tmp_path, "dcr")
    save_result(folder, answered(folder, "L0", who_likes("int8-euler_7")))
    (opinion,) = collect([str(folder)]).findings.counted.opinions  # type: ignore[union-attr]
    assert (opinion.system, opinion.estimate.mean) == ("int8-euler_7", 5.0)


def test_the_verdict_is_written_and_lies_beside_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = built_set(tmp_path)
    for number in range(3):
        save_result(folder, answered(folder, f"L{number}", who_likes("fp32-euler_7"), number))
    assert main(["collect", str(folder)]) == 0
    assert "fp32-euler_7 is liked better (preferred: 0 % [0 %, 0 %])" in capsys.readouterr().out
    verdict = json.loads((folder / "verdict.json").read_text())
    assert verdict["status"] == "ok"
    assert verdict["counted"]["comparisons"][0]["winner"] == "fp32-euler_7"
    assert verdict["counted"]["comparisons"][0]["counts"]["num_for_baseline"] == 24
    text = (folder / "verdict.md").read_text()
    assert "210 independent votes" in text
    assert "Gain that made all equally loud" in text
    for picture in ("listening_preference_frac.png", "listening_ratings.png"):
        assert (folder / "plots" / picture).read_bytes().startswith(b"\x89PNG")
    assert len((folder / "votes.csv").read_text().splitlines()) == 1 + 3 * verdict["listeners"][0]["num_turns"]
    beside = json.loads((tmp_path / "runs/b/listening.json").read_text())
    (part,) = beside["sets"].values()
    assert (part["name"], part["num_listeners"]) == ("int8-euler_7", 3)
    assert part["comparisons"][0]["winner"] == "fp32-euler_7"


def test_a_wrong_key_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, other = built_set(tmp_path / "one"), built_set(tmp_path / "two", num_sentences=7)
    save_result(folder, answered(folder, "L0", who_likes("fp32-euler_7")))
    assert main(["collect", str(folder), f"key={other / 'key.json'}"]) == 2
    assert "committed to another key" in capsys.readouterr().err
    key = json.loads((folder / "key.json").read_text())
    swapped = {"fp32-euler_7": "int8-euler_7", "int8-euler_7": "fp32-euler_7"}
    for clip in key["clips"].values():
        clip["system"] = swapped[clip["system"]]
    (folder / "key.json").write_text(json.dumps(key, indent=1) + "\n")
    assert main(["collect", str(folder)]) == 2
    assert "unchanged" in capsys.readouterr().err
    assert not (folder / "verdict.json").exists()


def test_listeners_who_guess_or_rush_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = built_set(tmp_path)
    save_result(folder, answered(folder, "careful", who_likes("int8-euler_7"), 0))
    guess = answered(folder, "guesser", who_guesses, 1)
    save_result(folder, guess)
    rushed = answered(folder, "rushed", who_likes("fp32-euler_7"), 2)
    for entry in rushed["answers"][:3]:
        entry["time_s"] = 0.2
    save_result(folder, rushed)
    assert main(["collect", str(folder)]) == 0
    shown = capsys.readouterr()
    assert "left out: guesser" in shown.err
    assert "left out: rushed, too fast to have heard both ends: 3 of 12" in shown.err
    verdict = json.loads((folder / "verdict.json").read_text())
    assert [(x["listener"], x["is_counted"]) for x in verdict["listeners"]] == [
        ("careful", True), ("guesser", False), ("rushed", False)]  # fmt: skip
    assert verdict["counted"]["comparisons"][0]["estimate"]["mean"] == 1.0
    assert verdict["everybody"]["comparisons"][0]["estimate"]["num_votes"] == 24
    assert "With everybody" in (folder / "verdict.md").read_text()


def test_mushra_listeners_who_miss_the_reference_are_left_out(tmp_path: Path) -> None:
    folder = built_set(tmp_path, "mushra")  # the reference is the first run
    save_result(folder, answered(folder, "deaf", who_likes("int8-euler_7")))
    (screened,) = collect([str(folder)]).findings.screened
    assert screened.reasons == ("hidden reference under 90: 8 of 8",)


def test_nobody_left_is_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = built_set(tmp_path)
    save_result(folder, answered(folder, "guesser", who_guesses, 1))
    assert main(["collect", str(folder)]) == 0
    assert "no verdict" in capsys.readouterr().out
    assert json.loads((folder / "verdict.json").read_text())["status"] == "too_few"


DAMAGE = {
    "response": lambda result: result["answers"][0]["response"].update(preference="maybe"),
    "range": lambda result: result["answers"][0]["response"].update(rating_a=6),
    "bool": lambda result: result["answers"][0]["response"].update(rating_a=True),
    "swapped clip": lambda result: result["answers"][0].update(shown=result["answers"][1]["shown"]),
    "unknown trial": lambda result: result["answers"][0].update(trial="nothing"),
    "twice": lambda result: result["answers"].append(result["answers"][0]),
    "no listener": lambda result: result.update(listener=" "),
    "time": lambda result: result["answers"][0].update(time_s=-1),
}


@pytest.fixture(scope="module")
def good_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_set(tmp_path_factory.mktemp("good"), num_sentences=4)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_results_are_refused_in_one_line(
    good_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    result = answered(good_set, "L0", who_likes("fp32-euler_7"))
    DAMAGE[damage](result)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(result))
    assert main(["collect", str(good_set), str(path), f"out={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert "bad.json: damaged result" in error
    assert len(error.splitlines()) == 1


def test_three_systems_get_strengths_and_holm(tmp_path: Path) -> None:
    runs = [
        write_listening_run(tmp_path / name, label, 12, lambda n, shift=shift: voiced(n + shift, 0.2))  # type: ignore[misc]
        for name, label, shift in (("a", "fp32-euler_7", 0), ("b", "int8-euler_7", 50), ("c", "bf16-euler_7", 80))
    ]
    folder = build_set(BuildSettings(runs=tuple(runs), out=tmp_path / "set", num_pairs=36, seed=1)).page.parent

    def mostly(kind: str, clips: Sequence[dict[str, Any]], rng: np.random.Generator) -> dict[str, Any]:
        order = {"fp32-euler_7": 2.0, "bf16-euler_7": 1.0, "int8-euler_7": 0.0}
        score = [-9.0 if clip["treatment"] else order[clip["system"]] + rng.normal(0, 0.8) for clip in clips]
        lead = "none" if kind == "identical" else "first" if score[0] > score[1] else "second"
        return {"preference": lead, "rating_a": 3, "rating_b": 3}

    for number in range(5):
        save_result(folder, answered(folder, f"L{number}", mostly, number))
    counted = collect([str(folder)]).findings.counted
    assert counted is not None
    assert isinstance(counted.strengths, tuple)
    assert [s.system for s in sorted(counted.strengths, key=lambda s: -s.theta)] == [
        "fp32-euler_7", "bf16-euler_7", "int8-euler_7"]  # fmt: skip
    shares = [c for c in counted.comparisons if c.measure == "preference_frac"]
    assert len(shares) == 3
    assert holm([c.p_value for c in shares]) == pytest.approx([c.adjusted_p for c in shares])
    assert replace(shares[0], adjusted_p=0.2).winner(0.05) is None
