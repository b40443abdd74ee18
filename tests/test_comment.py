"""What a pull request is told: a comment for every kind of verdict, as it stands in a file; and what no file can do."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baselines.paired.data import Answers
from baselines.paired.walk import Tried, WalkPlan, WalkVerdict
from baselines.quality.gate import judge_quality
from baselines.stored.gate import judge as judge_stored
from experiments.common.cli import run_verb
from experiments.settings.words import read_quality_limits
from metrics.record import RecordError, to_json
from reports.bisection import Walked, walked_content
from reports.commands import CALLED_AS
from reports.comment.__main__ import main
from reports.verdicts.comment import ORDER, comment_markdown, outputs, read_measurement
from reports.verdicts.paired import Comparison, comparison_content, failed_content
from reports.verdicts.quality import JudgedQuality, quality_content
from reports.verdicts.spoken.plain import code, percent, speed
from reports.verdicts.stored import Gated, verdict_content
from tests.baseline_runs import LIMITS as STORED_LIMITS
from tests.baseline_runs import Recipe, five, make_baseline, make_run, on_machine
from tests.engines import ROOT
from tests.scored_runs import BLIND, SIMILARITY, WER, scored
from tests.test_paired_rule import LIMITS, blocks, judge

GOLDEN = ROOT / "tests"
CREATED = "2026-01-01T00:00:00+00:00"
LINK = "https://github.example/theirs/speech/actions/runs/7#artifacts"
MACHINE = {"host_class": "amd-epyc-avx2-2c-cpu", "device": "cpu", "threads": 2}
RULES = read_quality_limits({"only": [BLIND, WER, SIMILARITY]})
SAME = Answers(num_evals={"candidate": (7, 7), "reference": (7, 7)}, num_pairs=8, num_equal=8)
OTHER = replace(SAME, num_equal=0)
# Words of ours that a stranger has no use for
JARGON = (
    "RTF", "p50", "p95", "candidate", "INCONCLUSIVE", "INVALID", "FAIL", "PASS", "WARN", "wall_time", "cpu_time",
    "sigma", "Bonferroni", "bootstrap", "alpha", "confidence", "one-sided", "regression", "NFE", "null", "None",
    "nan",
)  # fmt: skip


def pairs(
    *ratios: float, answers: Answers | None = OTHER, memory: float | None = None, **changes: Any
) -> dict[str, Any]:
    """verdict.json of a comparison of blocks with these ratios. memory: of the candidate, the reference's being 1."""
    peaks = None if memory is None else {"reference": 600.0 * 2**20, "candidate": memory * 600.0 * 2**20}
    sides = {
        side: {"label": "fp32-euler_7", "commit": commit * 40, "config": {}, "facts": {}}
        for side, commit in (("reference", "a"), ("candidate", "b"))
    }
    comparison = Comparison(
        verdict=replace(judge(blocks(*ratios), LIMITS), **changes), limits=LIMITS,
        labels={"reference": "r", "candidate": "c"},
        sides=sides, environment=MACHINE, workload={}, checked={}, error_rate="no selftest", wall_s=1.0,
        seconds_per_block=1.0, answers=answers, memory_bytes=peaks,
    )  # fmt: skip
    return comparison_content(comparison, CREATED, {})


def quality(**shifts: float) -> dict[str, Any]:
    """verdict.json of thirty sentences, the new run's scores moved by `shifts`."""
    named = {"words": WER, "noise": BLIND}
    before, after = scored("a"), scored("b", {named[name]: shift for name, shift in shifts.items()})
    judged = JudgedQuality(
        baseline=before, candidate=after, limits=RULES, verdict=judge_quality(before, after, RULES)
    )  # fmt: skip
    return quality_content(judged, CREATED)


def stored(run: Any) -> dict[str, Any]:
    """verdict.json of a run against five stored sessions."""
    sessions = five()
    gated = Gated(
        baseline=make_baseline(*sessions), run=run, limits=STORED_LIMITS,
        verdict=judge_stored(sessions, run, STORED_LIMITS),
        stored="not known", same_run="not known",
    )  # fmt: skip
    return verdict_content(gated, CREATED)


def failed() -> dict[str, Any]:
    reason = "ValueError: no such voice: @everyone | `rm` [x](http://evil.example)"
    return failed_content("candidate", reason, "see log.txt", CREATED, {"candidate": {"revision": "HEAD"}}, MACHINE)


def walked(verdict: WalkVerdict, *tried: Tried) -> dict[str, Any]:
    """bisect.json of a walk over three commits."""
    revisions = [
        ("a" * 40, "Fast"),
        ("b" * 40, "Tidy"),
        ("c" * 40, "Cache the text | see #7"),
        ("d" * 40, "More tests"),
    ]
    return walked_content(
        Walked(
            verdict=verdict, plan=WalkPlan(num_commits=3, wrong_frac=0.05, spare=3), revisions=revisions, tried=tried,
            folders=[f"0{number}" for number in range(len(tried))], num_commits=3, of=(), environment=MACHINE,
            wall_s=600.0,
        ), CREATED,
    )  # fmt: skip


def step(purpose: Any, reference: int, candidate: int, *bounds: float, reason: str | None = None) -> Tried:
    """bounds: outcome's ratio, low, high; none where the candidate could not be measured."""
    ratio, low, high = bounds or (None, None, None)
    outcome = (
        None if low is None or high is None else "FAIL" if low > 1.05 else "PASS" if high < 1.05 else "INCONCLUSIVE"
    )
    return Tried(
        purpose=purpose, reference=reference, candidate=candidate, outcome=outcome, catch_ratio=1.05, ratio=ratio,
        low=low, high=high, reason=reason,
    )  # fmt: skip


def found_walk() -> dict[str, Any]:
    verdict = WalkVerdict(
        outcome="FAIL", exit_code=10, reason="this commit made it slower", culprit=2, suspects=(2,), in_parts=False,
        is_proven=True,
    )  # fmt: skip
    return walked(
        verdict, step("ends", 0, 3, 1.24, 1.19, 1.3), step("step", 0, 1, reason="ImportError: no module named `x`"),
        step("step", 0, 2, 1.25, 1.18, 1.31), step("proof", 1, 2, 1.23, 1.18, 1.29),
    )  # fmt: skip


def undecided_walk() -> dict[str, Any]:
    verdict = WalkVerdict(
        outcome="INCONCLUSIVE", exit_code=11, reason="the proof does not decide", culprit=None, suspects=(1, 2),
        in_parts=False, is_proven=False,
    )  # fmt: skip
    return walked(verdict, step("ends", 0, 3, 1.24, 1.19, 1.3), step("step", 0, 1, 1.08, 0.99, 1.2))


CASES: dict[str, tuple[str, Callable[[], list[dict[str, Any]]]]] = {
    "faster": ("PASS", lambda: [pairs(0.88, 0.89, 0.87, 0.88, memory=1.004), quality()]),
    "slower": ("FAIL", lambda: [pairs(1.10, 1.11, 1.09, 1.10, memory=1.0)]),
    "slightly_slower": ("WARN", lambda: [pairs(1.02, 1.021, 1.019, 1.02)]),
    "equal": ("PASS", lambda: [pairs(1.0, 1.005, 0.995, 1.0, answers=SAME)]),
    "cannot_tell": ("INCONCLUSIVE", lambda: [pairs(1.0, 1.2, 0.9, 1.1)]),
    "invalid_machine": (
        "INVALID_ENV",
        lambda: [pairs(0.9, 0.91, 0.89, 0.9, outcome="INVALID_ENV", exit_code=12,
                       reason="the machine changed meanwhile: num_cores 2 became 1")],
    ),
    "quality_worse": ("FAIL", lambda: [pairs(0.40, 0.41, 0.39, 0.40), quality(words=0.03)]),
    "quality_cannot_tell": ("INCONCLUSIVE", lambda: [pairs(0.9, 0.91, 0.89, 0.9), quality(noise=-0.95)]),
    "did_not_run": ("FAILED", lambda: [failed()]),
    "stored_slower": ("FAIL", lambda: [stored(make_run(2, Recipe(slower=1.5)))]),
    "walk_found": ("FAIL", lambda: [found_walk()]),
    "walk_cannot_tell": ("INCONCLUSIVE", lambda: [undecided_walk()]),
    "stored_other_machine": ("INVALID_ENV", lambda: [stored(on_machine(1.9))]),
}  # fmt: skip


def folder_of(root: Path, verdicts: list[dict[str, Any]]) -> Path:
    for i, content in enumerate(verdicts):
        place = root / str(i)
        place.mkdir(parents=True)
        name = "bisect.json" if content.get("kind") == "bisect" else "verdict.json"
        (place / name).write_text(to_json(content))
    return root


@pytest.mark.parametrize("case", CASES)
def test_the_comment_is_the_one_that_was_read_aloud(case: str, tmp_path: Path) -> None:
    """To write the files anew, and read them: F5BENCH_WRITE_GOLDEN=1."""
    outcome, make = CASES[case]
    measurement = read_measurement("speed", folder_of(tmp_path, make()), LINK)
    assert measurement.outcome == outcome
    golden, text = GOLDEN / f"comment_{case}.md", comment_markdown([measurement])
    if os.environ.get("F5BENCH_WRITE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")
    above_the_fold = text.partition("<details>")[0]
    assert [word for word in JARGON if word in above_the_fold] == []


def test_the_sentence_of_a_faster_and_of_a_worse_change(tmp_path: Path) -> None:
    faster = read_measurement("speed", folder_of(tmp_path / "a", CASES["faster"][1]()), LINK)
    assert faster.sentence == "12 % faster (8 to 15 %), quality not worse (30 sentences), memory +0.4 %"
    worse = read_measurement("speed", folder_of(tmp_path / "b", CASES["quality_worse"][1]()), LINK)
    assert worse.sentence.startswith("2.5 times as fast (")
    assert worse.sentence.endswith("**quality worse** in words said wrongly (30 sentences)")
    assert worse.conclusion == "failure", "however fast"


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ((0.88, 0.83, 0.94), "12 % faster (6 to 17 %)"),
        ((1.08, 1.05, 1.11), "8 % slower (5 to 11 %)"),
        ((0.25, 0.2, 0.3), "4 times as fast (3.33 to 5)"),
        ((2.5, 2.2, 2.9), "2.5 times as slow (2.2 to 2.9)"),
        ((1.001, 0.992, 1.011), "as fast as before (between 0.8 % faster and 1.1 % slower)"),
    ],
)
def test_a_change_is_said_by_the_time_of_a_call(bounds: tuple[float, float, float], said: str) -> None:
    assert speed(*bounds) == said


@pytest.mark.parametrize(("frac", "said"), [(0.004, "0.4"), (0.117, "12"), (0.02, "2"), (0.0294, "2.9"), (-0.061, "6")])
def test_a_percentage_has_as_many_digits_as_it_deserves(frac: float, said: str) -> None:
    assert percent(frac) == said


@pytest.mark.parametrize("case", CASES)
def test_what_a_workflow_reads_fits_the_verdict(case: str, tmp_path: Path) -> None:
    outcome, make = CASES[case]
    found = outputs(read_measurement("speed", folder_of(tmp_path, make()), None))
    codes = {"PASS": "0", "WARN": "0", "FAIL": "10", "INCONCLUSIVE": "11", "INVALID_ENV": "12", "FAILED": "14"}
    conclusion = {"0": "success", "11": "neutral", "12": "neutral"}
    assert (found["verdict"], found["exit-code"]) == (outcome, codes[outcome])
    assert found["conclusion"] == conclusion.get(codes[outcome], "failure")
    assert bool(found["ratio"]) == (case not in ("invalid_machine", "did_not_run", "stored_other_machine"))
    assert all("\n" not in value for value in found.values())


@pytest.mark.parametrize(
    ("ended", "outcome"),
    [(0, "PASS"), (11, "INCONCLUSIVE"), (12, "INVALID_ENV"), (14, "FAILED"), (1, "FAILED"), (13, "NO_BASELINE")],
)  # fmt: skip
def test_a_measurement_that_ended_worse_than_its_verdict_is_not_better_for_it(
    ended: int, outcome: str, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, [pairs(0.9, 0.91, 0.89, 0.9)])
    assert read_measurement("speed", folder, None, ended).outcome == outcome
    slower = folder_of(tmp_path / "slower", [pairs(1.10, 1.11, 1.09, 1.10)])
    assert ORDER.index(read_measurement("speed", slower, None, ended).outcome) <= ORDER.index("FAIL")


@pytest.mark.parametrize(
    ("ended", "outcome"),
    [(0, "FAILED"), (2, "FAILED"), (10, "FAIL"), (11, "INCONCLUSIVE"), (12, "INVALID_ENV"), (130, "FAILED")],
)  # fmt: skip
def test_without_a_verdict_the_exit_code_is_all_there_is(ended: int, outcome: str, tmp_path: Path) -> None:
    assert read_measurement("speed", tmp_path, None, ended).outcome == outcome
    with pytest.raises(RecordError, match=r"holds no verdict\.json"):
        read_measurement("speed", tmp_path, None)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def comment_or_refusal(folder: Path) -> tuple[str, str]:
    try:
        return comment_markdown([read_measurement("speed", folder, LINK, 0)]), ""
    except RecordError as error:
        return "", str(error)


SPOILT = (None, "x", -1, 0, True, [], {}, 1e300, "`](http://evil.example) @all | <img src=x> \n# loud")


@pytest.mark.parametrize("case", ["faster", "quality_worse", "stored_slower", "did_not_run"])
def test_no_value_of_a_stranger_breaks_the_comment_or_gets_out_of_it(case: str, tmp_path: Path) -> None:
    """Every value of every verdict replaced by every wrong one: it is refused by name, or harmless."""
    verdicts = json.loads(json.dumps(CASES[case][1]()))
    for number, verdict in enumerate(verdicts):
        for path in list(places(verdict))[1:]:
            for wrong in SPOILT:
                spoilt = copy.deepcopy(verdict)
                holder: Any = spoilt
                for key in path[:-1]:
                    holder = holder[key]
                holder[path[-1]] = wrong
                (tmp_path / "verdict.json").write_text(json.dumps(spoilt))
                text, refused = comment_or_refusal(tmp_path)
                if refused:
                    assert "verdict.json" in refused, (number, path, wrong)
                    continue
                plain = "".join(part for i, part in enumerate(text.split("`")) if i % 2 == 0)
                assert text.count("`") % 2 == 0
                assert not any(loud in plain for loud in ("@all", "evil.example", "<img", "# loud")), (path, wrong)


def test_a_text_of_others_is_one_short_line_of_code() -> None:
    assert code("a | b\n`c` @all") == "`a / b 'c' @all`"
    assert len(code("x" * 1000)) == 242
    assert code("\x00\n") == "(nothing)"


def test_the_verb_prints_one_sentence_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder_of(tmp_path / "cpu", CASES["faster"][1]())
    folder_of(tmp_path / "gpu", CASES["cannot_tell"][1]())
    assert run_verb(main, [str(tmp_path / "cpu"), str(tmp_path / "gpu"), "--out", str(tmp_path / "page.md")]) == 0
    said = capsys.readouterr().out
    assert said == (tmp_path / "page.md").read_text(encoding="utf-8")
    heads = [line for line in said.splitlines() if line.startswith("### ")]
    assert [head.partition(":")[0] for head in heads] == ["### 🟢 cpu", "### ⚪ gpu"]


def test_verdicts_of_several_changes_are_never_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CALLED_AS, "f5bench")
    mixed = [pairs(0.88, 0.89, 0.87, 0.88), pairs(1.10, 1.11, 1.09, 1.10, memory=1.5), quality()]
    folder = folder_of(tmp_path / "outputs", mixed)
    assert main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert "holds 2 verdicts of speed, and one sentence would mix their figures" in error
    command = error.partition("`f5bench comment ")[2].rstrip("`\n")
    assert command.split() == [str(folder / str(number)) for number in range(3)]
    assert main(command.split()) == 0
    heads = [line for line in capsys.readouterr().out.splitlines() if line.startswith("### ")]
    assert ["memory" in head for head in heads] == [False, True, False]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "FOLDER: give folders with a verdict"), (["nowhere"], "nowhere: holds no verdict.json"),
        (["--artifacts", "nowhere"], "holds no folder f5bench-NAME"), (["a", "--link", "javascript:x"], "--link="),
        (["a", "--post"], "--commit=None: must be the 40 letters"),
        (["a", "--post", "--commit", "a" * 40], "--pull-request:"),
        (["a", "--post", "--commit", "a" * 40, "--pull-request", "0"], "--pull-request=0"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1
