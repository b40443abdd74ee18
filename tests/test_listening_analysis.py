"""From answers to a verdict: every method, wrong keys, damaged files, listeners who did not listen."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.listening.__main__ import main
from reports.listening.judging.collect import collect
from reports.listening.judging.inference import holm
from reports.listening.making.build import build_set
from reports.listening.study.settings import BuildSettings
from tests.listening_runs import answered, save_result, two_runs, voiced, who_likes, write_listening_run


def who_guesses(kind: str, clips: Sequence[dict[str, Any]], rng: np.random.Generator) -> dict[str, Any]:
    return {"preference": str(rng.choice(["first", "second"])), "rating_a": 3, "rating_b": 3}


def built_set(folder: Path, method: str = "ab", num_sentences: int = 8, **changes: Any) -> Path:
    runs = tuple(two_runs(folder / "runs", num_sentences, 0.2))
    return build_set(
        BuildSettings(runs=runs, out=folder / "set", method=method, num_pairs=num_sentences, seed=1, **changes)
    ).page.parent


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
    assert main(["collect", str(folder)]) == 11
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
