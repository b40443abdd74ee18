"""The decision rule on finished sweeps: fast enough, faster, as good; and what cannot be told."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baselines.quality.decision import DecisionRule, decide, decision_markdown
from experiments.common.cli import run_verb
from experiments.decide import main, read_rule
from experiments.settings.compose import compose_cells
from experiments.settings.words import read_quality_limits
from metrics.record import RunRecord
from metrics.speed.steady import counters_score
from tests.scored_runs import ARTIFACT, BLIND, SIMILARITY, WER, scored, write_run

RULE = read_rule("nfe6")
LENIENT = read_quality_limits({"only": [BLIND, WER, SIMILARITY]})


def timed(run: RunRecord, label: str, rtf: float, calibration_s: float = 0.1) -> RunRecord:
    """Every sentence takes `rtf` times its audio, a little different from sentence to sentence."""
    trials = tuple(
        replace(t, wall_s=t.audio_s * rtf * (1 + 0.01 * (i % 5)), calibration_s=calibration_s)
        for i, t in enumerate(run.trials)
    )
    return replace(run, trials=trials, label=label)


def cells(**changed: RunRecord) -> dict[str, RunRecord]:
    """Six evaluations faster and as good; midpoint as fast and as good; INT8 faster and audibly worse."""
    runs = {
        "fp32-euler_7": timed(scored("a"), "fp32-euler_7", 0.24),
        "fp32-euler_6": timed(scored("b"), "fp32-euler_6", 0.21),
        "fp32-midpoint_nfe6": timed(scored("c"), "fp32-midpoint_nfe6", 0.213),
        "int8-euler_7": timed(scored("d", {BLIND: -4.0}), "int8-euler_7", 0.17),
    }
    return {**runs, **{key.replace("__", "-"): run for key, run in changed.items()}}


def decided(records: Mapping[str, RunRecord], rule: DecisionRule = RULE) -> list[str]:
    return [decision.decided for decision in decide(records, rule, LENIENT)]


def test_three_questions() -> None:
    assert decided(cells()) == ["pass", "pass", "fail"]


def test_quality_that_is_not_decided_is_not_a_pass() -> None:
    decisions = decide(cells(), RULE, read_quality_limits({}))
    assert [d.decided for d in decisions] == ["cannot tell", "cannot tell", "fail"]
    assert f"{ARTIFACT} (share) inconclusive" in decisions[0].explanation
    assert "269 more clips needed" in decision_markdown(decisions, RULE)


@pytest.mark.parametrize(
    ("rtf", "calibration_s", "said"),
    [
        (0.25, 0.1, "fail"),  # slower than seven evaluations
        (0.239, 0.1, "cannot tell"),  # the bounds of the ratio hold 1
        (0.21, 0.13, "cannot tell"),  # the machine itself was 1.3 times slower by then
        (0.31, 0.1, "fail"),  # over the limit of 0.30
    ],
)
def test_speed_decides_too(rtf: float, calibration_s: float, said: str) -> None:
    six = timed(scored("b"), "fp32-euler_6", rtf, calibration_s)
    if said == "cannot tell" and calibration_s == 0.1:
        uneven = tuple(replace(t, wall_s=t.wall_s * (1.05 if i % 2 else 0.95)) for i, t in enumerate(six.trials))
        six = replace(six, trials=uneven)
    first = decide({**cells(), "fp32-euler_6": six}, RULE, LENIENT)[0]
    assert first.decided == said
    assert first.speed is not None
    assert first.speed.candidate_rtf == pytest.approx(rtf * 1.02, rel=0.01)


def test_equal_cost_asks_for_no_slower_only() -> None:
    assert decide(cells(), RULE, LENIENT)[1].speed is not None
    slower = timed(scored("c"), "fp32-midpoint_nfe6", 0.24)
    assert decided({**cells(), "fp32-midpoint_nfe6": slower})[1] == "fail"


def test_a_cell_that_was_not_steady_has_no_speed_to_decide_by() -> None:
    moved = counters_score({"captures": 1}, {"captures": 2})
    assert moved is not None
    records = cells()
    records["fp32-euler_6"] = replace(records["fp32-euler_6"], scores=(*records["fp32-euler_6"].scores, moved))
    decisions = decide(records, RULE, LENIENT)
    assert [d.decided for d in decisions] == ["cannot tell", "cannot tell", "fail"]
    said = "not steady: fp32-euler_6: captures went from 1 to 2 in the timed region"
    assert (decisions[0].explanation, decisions[0].speed) == (said, None)
    assert said in decision_markdown(decisions, RULE)


def test_a_cell_that_was_not_measured_leaves_its_questions_open() -> None:
    records = cells()
    del records["fp32-euler_6"]
    decisions = decide(records, RULE, LENIENT)
    assert [d.decided for d in decisions] == ["cannot tell", "cannot tell", "fail"]
    assert decisions[0].explanation == "not measured: fp32-euler_6"


def write_sweep(folder: Path, records: Mapping[str, RunRecord]) -> Path:
    for label, run in records.items():
        write_run(folder / "cells" / label, run)
    entries = [
        {"label": label, "dir": f"cells/{label}", "state": "ok", "reason": None, "remedy": None} for label in records
    ]
    content = {
        "schema_version": 1, "sweep_id": "nfe6", "created": "now", "finished": "now", "status": "done",
        "reference": None, "cells": entries,
    }  # fmt: skip
    (folder / "sweep.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_the_verb_leaves_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_sweep(tmp_path / "sweep", cells())
    assert run_verb(main, [str(folder), "rule=nfe6"]) == 10
    printed = capsys.readouterr().out
    assert "FAIL         INT8 instead of FP32" in printed
    content = json.loads((folder / "decision.json").read_text())
    assert [d["decided"] for d in content["decisions"]] == ["cannot tell", "cannot tell", "fail"]
    table = (folder / "decision.md").read_text()
    assert "| INT8 instead of FP32 | 0.245 | 0.173 | x0.708 (0.708 to 0.708) | pass | fail | **fail** |" in table
    good = write_sweep(tmp_path / "good", {**cells(), "int8-euler_7": timed(scored("d"), "int8-euler_7", 0.17)})
    assert run_verb(main, [str(good)]) == 11


def test_the_experiment_has_every_cell_of_the_rule() -> None:
    labels = {cell.label for cell in compose_cells(["experiment=nfe6"])}
    assert labels == {name for question in RULE.questions for name in (question.base, question.candidate)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rtf_limits": []}, "rtf_limits=.*must be a list"),
        ({"rtf_limits": [0]}, "rtf_limits=0: must be above 0"),
        ({"max_drift_frac": "x"}, "max_drift_frac=x: must be above 0"),
        ({"questions": []}, "questions=.*must be a list"),
        ({"questions": [{"name": "x"}]}, "questions=.*needs name, base, candidate, speed"),
        ({"more": 1}, "more=1: the keys are name, quality"),
    ],
)
def test_rules_are_checked(change: dict[str, Any], message: str) -> None:
    content = {
        "name": "x", "quality": "seeds", "rtf_limits": [0.3], "slower_margin_frac": 0.05, "max_drift_frac": 0.1,
        "questions": [{"name": "q", "base": "a", "candidate": "b", "speed": "faster"}],
    }  # fmt: skip
    assert DecisionRule.from_mapping(content).questions[0].candidate == "b"
    with pytest.raises(ValueError, match=f"^{message}"):
        DecisionRule.from_mapping({**content, **change})


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for words, message in (
        ([], "sweep=0: one sweep is judged"),
        ([str(tmp_path), "rule=nfe5"], "rule=nfe5: no such rules; use one of nfe6"),
        ([str(tmp_path)], f"{tmp_path}: no result.json and no sweep.json"),
    ):
        assert run_verb(main, words) == 2
        assert capsys.readouterr().err.startswith(f"error: {message}")
