"""The quality gate on scored runs: four outcomes, failures as failures, pairs that are none, files and exit codes."""

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from baselines.quality import noninferiority
from baselines.quality.gate import judge_quality, judge_rule
from baselines.quality.rules import QualityLimits, QualityRule
from baselines.quality.verdict import QualityFinding, QualityVerdict
from experiments.common.cli import run_verb
from experiments.plan_samples import main as plan
from experiments.quality_gate import main
from experiments.settings.words import read_quality_limits
from metrics.record import Floor, RunRecord
from tests.scored_runs import ARTIFACT, BLIND, DNSMOS, IDS30, SIMILARITY, WER, scored, without, write_run

SEEDS = read_quality_limits({})
PAIRED = read_quality_limits({"only": [BLIND, WER, SIMILARITY]})
BASE = scored("a")


def finding(verdict: QualityVerdict, rule: str) -> QualityFinding:
    return next(f for f in verdict.findings if f.rule == rule)


def test_as_good_is_not_worse_and_the_artifact_rate_says_how_many_clips_it_takes() -> None:
    verdict = judge_quality(BASE, scored("b"), SEEDS)
    assert (verdict.outcome, verdict.exit_code) == ("INCONCLUSIVE", 11)
    share = finding(verdict, f"{ARTIFACT} (share)")
    assert (share.outcome, share.needed) == ("inconclusive", 299)
    assert "269 more clips needed" in share.explanation
    assert {f.outcome for f in verdict.findings if f is not share} == {"not worse"}
    # What thirty sentences cannot see: one ruined sentence in ten would be missed once in twenty gates
    words = finding(verdict, f"{WER} (difference)").explanation
    assert words.endswith("no sentence lost 0.5, so fewer than 9.5 % do")
    accepted = judge_quality(BASE, scored("b"), PAIRED)
    assert (accepted.outcome, accepted.exit_code) == ("PASS", 0)


@pytest.mark.parametrize(
    ("metric", "shift", "outcome"),
    [
        (BLIND, -2.0, "worse"), (BLIND, -0.5, "not worse"), (BLIND, 0.8, "better"), (BLIND, -0.95, "inconclusive"),
        (WER, 0.03, "worse"), (WER, 0.005, "not worse"), (WER, -0.01, "better"), (WER, 0.0098, "inconclusive"),
        (SIMILARITY, -0.05, "worse"), (SIMILARITY, -0.01, "not worse"), (SIMILARITY, 0.02, "better"),
    ],
)  # fmt: skip
def test_four_outcomes_in_the_direction_of_the_metric(metric: str, shift: float, outcome: str) -> None:
    verdict = judge_quality(BASE, scored("b", {metric: shift}), PAIRED)
    found = finding(verdict, f"{metric} (difference)")
    assert found.outcome == outcome
    assert found.effect == pytest.approx(shift, abs=2e-3 if metric == BLIND else 1e-3)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.effect <= found.high
    assert (found.limit or 0) == {BLIND: -1.0, WER: 0.01, SIMILARITY: -0.02}[metric]
    assert (found.needed is not None) == (outcome == "inconclusive")


@pytest.mark.parametrize(("shift", "outcome"), [(0.0, "not worse"), (-0.07, "inconclusive"), (-0.1, "worse")])
def test_a_level_is_judged_on_the_candidate_alone(shift: float, outcome: str) -> None:
    found = finding(judge_quality(BASE, scored("b", {SIMILARITY: shift}), PAIRED), f"{SIMILARITY} (level)")
    assert found.outcome == outcome
    assert found.limit == 0.85


def test_bit_identical_audio_needs_no_score() -> None:
    verdict = judge_quality(BASE, replace(scored("b"), utterances=BASE.utterances, scores=BASE.scores), PAIRED)
    assert verdict.outcome == "PASS"
    assert "bit-identical" in finding(verdict, f"{BLIND} (difference)").explanation


def test_invalid_audio_counts_against_the_candidate_not_as_missing() -> None:
    broken = without(scored("b", {BLIND: 0.8}), "audio_valid", "en07", "error", "samples that are not finite")
    verdict = judge_quality(BASE, broken, SEEDS)
    assert (verdict.outcome, verdict.exit_code) == ("FAIL", 10)
    assert finding(verdict, "audio_valid").outcome == "worse"
    blind = finding(verdict, f"{BLIND} (difference)")
    assert blind.outcome == "worse"
    assert "1 of 30 sentences failed: en07 (invalid audio: samples that are not finite)" in blind.explanation
    share = finding(verdict, f"{ARTIFACT} (share)")
    assert share.candidate == pytest.approx(1 / 30)


def test_a_sentence_that_was_not_spoken_is_a_failure() -> None:
    verdict = judge_quality(BASE, scored("b", ids=IDS30[:-1]), PAIRED)
    assert verdict.outcome == "FAIL"
    assert "en30 (not spoken)" in finding(verdict, f"{WER} (difference)").explanation


def test_a_score_that_turned_into_an_error_is_a_failure() -> None:
    verdict = judge_quality(BASE, without(scored("b"), WER, "en03", "error", "silent"), PAIRED)
    assert finding(verdict, f"{WER} (difference)").outcome == "worse"
    assert finding(verdict, f"{BLIND} (difference)").outcome == "not worse"


def test_one_ruined_sentence_fails_a_good_mean() -> None:
    candidate = scored("b", {BLIND: 0.5})
    ruined = tuple(
        replace(s, value=(s.value or 0) - 9.0) if (s.metric, s.utterance_id) == (BLIND, "en11") else s
        for s in candidate.scores
    )
    found = finding(judge_quality(BASE, replace(candidate, scores=ruined), PAIRED), f"{BLIND} (difference)")
    assert found.outcome == "worse"
    assert (found.worst_sentence, found.effect is not None and found.effect > 0) == ("en11", True)
    assert "en11 lost" in found.explanation


def test_sentences_that_have_no_such_score_are_not_asked_for() -> None:
    ours, theirs = BASE, scored("b")
    for name in IDS30[:8]:
        ours = without(ours, BLIND, name, "too_few", "3 frames of pause")
        theirs = without(theirs, BLIND, name, "too_few", "3 frames of pause")
    found = finding(judge_quality(ours, theirs, PAIRED), f"{BLIND} (difference)")
    assert (found.outcome, found.num_sentences, found.num_expected) == ("not worse", 22, 22)
    assert found.method == "signed ranks, exact"
    assert "8 have no such score" in found.explanation


def test_no_verdict_under_the_coverage() -> None:
    theirs = scored("b")
    for name in IDS30[:2]:
        theirs = without(theirs, BLIND, name, "unavailable", "no reference was given")
    found = finding(judge_quality(BASE, theirs, PAIRED), f"{BLIND} (difference)")
    assert found.outcome == "inconclusive"
    assert "28 of 30 sentences have a pair, 95 % are needed; en01: candidate: unavailable" in found.explanation


def changed(run: RunRecord, **fields: object) -> RunRecord:
    return replace(run, utterances=tuple(replace(u, **fields) for u in run.utterances))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"noise_sha256": "n1"}, "noise_sha256 differs: n0 and n1"),
        ({"noise_sha256": None}, "the initial noise is not known on both sides"),
        ({"num_frames": 189}, "num_frames differs: 188 and 189"),
        ({"text": "Good evening."}, "text differs: Good morning. and Good evening."),
        ({"sample_rate_hz": 22050}, "sample_rate_hz differs: 24000 and 22050"),
    ],
)
def test_what_is_no_pair_is_refused_with_the_reason(fields: dict[str, object], reason: str) -> None:
    verdict = judge_quality(BASE, changed(scored("b"), **fields), PAIRED)
    assert verdict.outcome == "INCONCLUSIVE"
    assert reason in finding(verdict, f"{BLIND} (difference)").explanation


def test_other_sentences_are_another_workload() -> None:
    other = replace(scored("b"), workload={**BASE.workload, "identity_sha256": "w1"})
    verdict = judge_quality(BASE, other, SEEDS)
    assert (verdict.outcome, verdict.exit_code, verdict.findings) == ("INVALID_ENV", 12, ())


def test_two_recipes_are_not_compared() -> None:
    ours, theirs = (replace(run, recipes={WER: recipe}) for run, recipe in ((BASE, "r1"), (scored("b"), "r2")))
    found = finding(judge_quality(ours, theirs, PAIRED), f"{WER} (difference)")
    assert (found.outcome, "different recipes (r1 and r2)" in found.explanation) == ("inconclusive", True)


def test_a_margin_under_the_floor_is_not_testable() -> None:
    floor = Floor(metric=BLIND, repeat=1.5, other_seed=3.0, other_seed_sd=1.0, num_seeds=5, num_pairs=120)
    found = finding(judge_quality(BASE, replace(scored("b"), floors=(floor,)), PAIRED), f"{BLIND} (difference)")
    assert found.outcome == "inconclusive"
    assert found.explanation.startswith("not testable: the margin 1 is under the metric's own floor 1.5")


def test_false_acceptance_at_the_margin_through_the_whole_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate exactly at one margin, by its expectation, passes in at most 5 % of gates."""
    monkeypatch.setattr(noninferiority, "DRAWS", 500)
    rule = QualityRule(metric=BLIND, kind="difference", margin=1.0, worst=20.0)
    rng = np.random.default_rng(2)
    passed = 0
    for _ in range(200):
        candidate = scored("b")
        values = dict(zip(IDS30, rng.normal(-1.0, 0.8, 30), strict=True))
        base = {s.utterance_id: s.value for s in BASE.scores_of(BLIND)}
        moved = tuple(
            replace(s, value=(base[s.utterance_id] or 0) + values[s.utterance_id])  # type: ignore[index]
            for s in candidate.scores_of(BLIND)
        )
        valid = candidate.scores_of("audio_valid")
        found = judge_rule(BASE, replace(candidate, scores=(*valid, *moved)), rule, SEEDS)
        passed += found.outcome in ("better", "not worse")
    assert passed <= 16  # 5 % of 200 and two standard errors


def test_pairing_is_worth_its_printed_factor() -> None:
    precision = judge_quality(BASE, scored("b"), SEEDS).precision
    assert set(precision) == {WER, SIMILARITY, DNSMOS}
    assert precision[SIMILARITY].gain is not None
    assert precision[SIMILARITY].gain > 3


@pytest.mark.parametrize(
    ("candidate", "exit_code", "outcome"),
    [
        (scored("b", {BLIND: -3.0}), 10, "FAIL"), (scored("b"), 11, "INCONCLUSIVE"),
        (replace(scored("b"), workload={"identity_sha256": "w9"}), 12, "INVALID_ENV"),
        (replace(scored("b"), status="failed", reason="out of memory", scores=(), utterances=()), 14, "INCONCLUSIVE"),
    ],
)  # fmt: skip
def test_files_and_exit_codes(
    candidate: RunRecord, exit_code: int, outcome: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(write_run(tmp_path / name, run)) for name, run in (("a", BASE), ("b", candidate))]
    assert run_verb(main, [*folders, "preset=seeds", f"out={tmp_path / 'out'}"]) == exit_code
    printed = capsys.readouterr().out
    assert printed.startswith(f"{outcome}: quality of engine-b against engine-a")
    content = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert (content["outcome"], content["exit_code"], content["limits"]["name"]) == (outcome, exit_code, "seeds")
    assert (tmp_path / "out" / "summary.md").read_text().startswith(f"## {outcome}: quality of engine-b")
    suite = ElementTree.parse(tmp_path / "out" / "junit.xml").getroot()
    kinds = {10: "failures", 11: "skipped", 12: "errors", 14: "errors"}
    assert int(suite.attrib[kinds[exit_code]]) >= 1
    if exit_code in (10, 11):
        assert "x smaller" in printed
        assert "Bonferroni, 0.71 % each" in printed
        assert len(suite.findall("testcase")) == len(SEEDS.rules) + 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "runs=1: two folders are compared"),
        (["a", "b", "margin=2"], "margin=2: no such key; the keys are preset, out, alpha"),
        (["a", "b", "preset=strict"], "preset=strict: no such rules; use one of retention, seeds"),
        (["a", "b", "alpha=2"], "alpha=2: must lie over 0, up to 0.5"),
        (["a", "b", "only=[mos]"], "only=mos: has no rule in this preset; it has blind_snr"),
        (["a", "b"], "a/result.json: no such record"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(main, words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {message}")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"metric": "mos", "kind": "level", "limit": 1}, "metric=mos: is no score with a better end"),
        ({"metric": "loudness_lufs", "kind": "level", "limit": 1}, "metric=loudness_lufs: is no score"),
        ({"metric": WER, "kind": "best"}, "wer_frac.kind=best: must be one of"),
        ({"metric": WER, "kind": "difference", "margin": 0.1}, "wer_frac.worst=None: is needed in a difference"),
        ({"metric": WER, "kind": "level", "limit": 0.1, "margin": 1}, "wer_frac.margin=1: has no place in a level"),
        ({"metric": WER, "kind": "level", "limit": -1}, "wer_frac.limit=-1: must be a number above 0"),
        ({"metric": WER, "kind": "level", "limit": 0.1, "marign": 1}, "metrics.marign=1: no such key of a rule"),
        ({"metric": SIMILARITY, "kind": "share", "limit": 0.1}, f"{SIMILARITY}.kind=share: counts bad events"),
    ],
)
def test_rules_are_checked_key_by_key(row: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        QualityLimits.from_mapping({"name": "x", "alpha": 0.05, "coverage_frac": 0.95, "metrics": [row]})


def test_planner_measures_the_spread_of_two_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(write_run(tmp_path / name, run)) for name, run in (("a", BASE), ("b", scored("b")))]
    assert run_verb(plan, [f"metric={BLIND}", "margin=0.1", *folders]) == 0
    printed = capsys.readouterr().out
    differences = [
        (b.value or 0) - (a.value or 0)
        for a, b in zip(BASE.scores_of(BLIND), scored("b").scores_of(BLIND), strict=True)
    ]
    sd = float(np.std(differences, ddof=1))
    assert f"spreads by {sd:.4g}" in printed
    assert f"{int(np.ceil((2.48648 * sd / 0.1) ** 2))} for 80 % power" in printed


def test_planners_table_and_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(plan, []) == 0
    printed = capsys.readouterr().out
    for text in ("619 for 80 % power", "891 for 80 % power", "299 for 80 % power", "56 for 80 % power"):
        assert text in printed
    assert run_verb(plan, ["share=0.6"]) == 0
    assert "210 for 80 % power, 274 for 90 % power" in capsys.readouterr().out
    for words, message in (
        (["margin=1"], "metric=: is needed"),
        (["metric=mos"], "metric=mos: no such score"),
        ([f"metric={WER}", "margin=0"], "margin=0.0: must lie between 0 and inf"),
        ([f"metric={ARTIFACT}", "true_rate=0.01"], "true_rate=0.01: must lie from 0 to under the limit"),
        (["metric=pesq_wb_vs_reference", "margin=0.1"], "metric=pesq_wb_vs_reference: needs a margin and a spread"),
        (["share=many"], "share=many: must be a number"),
    ):
        assert run_verb(plan, words) == 2
        assert capsys.readouterr().err.startswith(f"error: {message}")
