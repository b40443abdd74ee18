"""A comparison says in words which side is faster, by how many evaluations, and whether both say the same."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baselines.paired.data import Answers
from baselines.stored.verdict import Finding
from experiments.compare.session import _progress
from experiments.compare.settings import read_command
from reports.verdicts.paired import QUALITY_GATE, Comparison, comparison_content, comparison_sheet
from reports.verdicts.sheet import markdown_of, terminal_lines
from reports.verdicts.stored import _change
from tests.engines import ROOT, config
from tests.stub_trees import open_bench, stub_side, stub_tree
from tests.test_paired_rule import LIMITS, blocks, judge

APART = Answers(
    num_evals={"candidate": (7, 7), "reference": (16, 32)}, num_pairs=12, num_equal=0, log_mel_nats=0.2134,
    num_sentences=3,
)  # fmt: skip


def comparison_lines(comparison: Comparison) -> list[str]:
    return list(terminal_lines(comparison_sheet(comparison)))


def comparison_summary(comparison: Comparison) -> str:
    return markdown_of(comparison_sheet(comparison))


def compared(*ratios: float, answers: Answers | None = APART, **changes: Any) -> Comparison:
    return Comparison(
        verdict=replace(judge(blocks(*ratios), LIMITS), **changes), limits=LIMITS,
        labels={"reference": "fp32", "candidate": "bf16"}, sides={}, environment={}, workload={}, checked={},
        error_rate="no selftest", wall_s=1.0, seconds_per_block=1.0, answers=answers,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ratios", "changes", "words"),
    [
        ((0.70, 0.72, 0.71, 0.69), {}, "The candidate is faster: wall_time x0.7"),
        ((1.50, 1.52, 1.51, 1.49), {}, "The candidate is slower: wall_time x1.5"),
        ((1.0, 1.0005, 0.9995, 1.0), {}, "Neither side is shown to be faster: candidate wall_time x1.000 ("),
        ((1.0, 1.5, 0.7, 1.2), {}, "Which side is faster is not decided: candidate wall_time x"),
        ((0.70, 0.72, 0.71, 0.69), {"outcome": "INVALID_ENV"}, "Which side is faster is not decided"),
    ],
)
def test_which_side_is_faster_is_said_with_its_bounds(
    ratios: tuple[float, ...], changes: dict[str, Any], words: str
) -> None:
    comparison = compared(*ratios, **changes)
    first = comparison_lines(comparison)[1].strip()
    assert first.startswith(words)
    assert " to " in first
    assert first.endswith("of the reference's (lower is better).")
    assert first in comparison_summary(comparison)


@pytest.mark.parametrize(
    ("ratios", "words"),
    [
        ((0.70, 0.72, 0.71, 0.69), "In these processes the candidate was faster: wall_time x0.7"),
        ((1.50, 1.52, 1.51, 1.49), "In these processes the candidate was slower: wall_time x1.5"),
        ((1.0, 1.5, 0.7, 1.2), "Which side is faster is not decided: candidate wall_time x"),
    ],
)
def test_a_rule_that_was_not_let_decide_says_no_more_than_these_processes(
    ratios: tuple[float, ...], words: str
) -> None:
    whole = compared(*ratios)
    findings = tuple(replace(finding, outcome="INCONCLUSIVE") for finding in whole.verdict.findings)
    verdict = replace(whole.verdict, outcome="INCONCLUSIVE", findings=findings, reason="quick mode may not decide here")
    assert comparison_lines(replace(whole, verdict=verdict))[1].strip().startswith(words)


def test_evaluations_and_what_is_known_of_quality_are_said() -> None:
    for text in ("\n".join(comparison_lines(compared(0.7, 0.7, 0.7, 0.7))), comparison_summary(compared(0.7, 0.7))):
        assert "Evaluations a call: candidate 7, reference 16 to 32." in text
        assert "Their audio is different, log-mels 0.213 nats apart on 3 sentence(s)" in text
        assert f"quality is not judged here: use {QUALITY_GATE} on two scored runs" in text
    equal = replace(APART, num_equal=12, log_mel_nats=0.0)
    assert "equal bit for bit in all 12 pairs" in comparison_summary(compared(1.0, 1.0, answers=equal))
    some = replace(APART, num_equal=3)
    assert "equal in 3 of 12 pairs" in comparison_summary(compared(1.0, 1.0, answers=some))


def test_the_file_for_machines_has_the_same(tmp_path: Path) -> None:
    content = comparison_content(compared(0.7, 0.7), "now", {})
    assert content["answers"]["num_evals"]["reference"] == (16, 32)
    assert comparison_content(compared(0.7, 0.7, answers=None), "now", {})["answers"] is None


def test_the_command_that_judges_quality_is_there() -> None:
    done = subprocess.run(
        [sys.executable, *QUALITY_GATE.split()[1:], "--help"], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0


@pytest.mark.parametrize("same", [True, False])
def test_what_the_sides_really_said_is_compared(tmp_path: Path, same: bool) -> None:
    other = () if same else ("loudness = 0.2",)
    trees = {"reference": stub_tree(tmp_path / "a"), "candidate": stub_tree(tmp_path / "b", *other)}
    with ExitStack() as stack:
        log = stack.enter_context((tmp_path / "log.txt").open("wb"))
        specs = [stub_side(side, tree, config("workload=smoke")) for side, tree in trees.items()]
        bench = open_bench(specs, tmp_path, log, stack)
        bench.block()
        answers = bench.proof.answers()
    assert answers.num_evals == {"reference": (7, 7), "candidate": (7, 7)}
    assert answers.num_pairs == 3, "the warm-up's noise and that of two turns"
    assert answers.num_equal == (3 if same else 0)
    assert (answers.log_mel_nats, answers.num_sentences) == (0.0, 1)


def test_bounds_out_of_all_sense_stand_in_no_line_of_progress_and_no_verdict() -> None:
    two = compared(0.7, 2.4)
    finding = two.verdict.findings[0]
    assert finding.high > 1000 * finding.low, "two blocks that differ so much bound nothing"
    settings = read_command([]).settings
    line = _progress(blocks(0.7, 2.4), None, settings)
    assert line.endswith(" (too wide to tell yet)")
    assert line.startswith("block 2 of at most 16: x1.")
    assert " to " in _progress(blocks(1.0, 1.01), None, settings)
    shown = "\n".join([*comparison_lines(two), comparison_summary(two)])
    assert "(no bounds yet)" in shown
    assert f"{finding.high:.3f}" not in shown
    alarm = Finding(metric="cpu_time", outcome="INCONCLUSIVE", explanation="", effect=1.3, effect_kind="ratio",
                    interval=(1e-9, 1e9))  # fmt: skip
    assert _change(alarm) == "x1.300 (no bounds yet)"
