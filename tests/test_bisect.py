"""`f5bench bisect`: made-up repositories with a planted commit, walked for real; what is left, resumed and refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from baselines.paired.rule import PairedLimits, judge
from engine.contract import ConfigError
from experiments.bisection import __main__ as verb
from experiments.bisection import comparing
from experiments.bisection.comparing import Revisions, repository_of
from experiments.bisection.ledger import JOURNAL, load_ledger
from experiments.bisection.revisions import inside_of_merge, line_between
from experiments.bisection.settings import Command, read_command, resume_folder
from experiments.common.cli import run_verb
from experiments.compare.processes import SideFailed
from reports.bisection import CONTENT
from reports.commands import ROOT
from reports.verdicts.paired import Comparison
from tests.test_functions import git
from tests.test_paired_rule import blocks

WORK = """
def say():
    return sum(i * i % 7 for i in range({size}))
"""
QUICK, SLOW = 30_000, 180_000
BROKEN = "def say(:\n"


def commit(folder: Path, text: str, subject: str, name: str = "speech.py") -> str:
    (folder / name).write_text(text)
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", subject)
    return git(folder, "rev-parse", "HEAD")


def repository(folder: Path, texts: Sequence[str]) -> list[str]:
    """A commit each; a text that is that of before is another file's change."""
    folder.mkdir()
    git(folder, "init", "--quiet")
    commits = []
    for number, text in enumerate(texts):
        is_same = number > 0 and text == texts[number - 1]
        content, name = (str(number), "notes.txt") if is_same else (text, "speech.py")
        commits.append(commit(folder, content, f"change {number}", name))
    return commits


def walk(folder: Path, out: Path, *words: str) -> tuple[int, dict[str, Any]]:
    given = [f"repository={folder}", "function=speech:say", f"python={sys.executable}", "threads=1"]
    code = run_verb(verb.main, [*given, "compare.pairs_per_block=3", "compare.looks=[3,6]", f"out={out}", *words])
    return code, json.loads((out / CONTENT).read_text())


def test_the_planted_commit_is_found_around_one_that_does_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick, slow = WORK.format(size=QUICK), WORK.format(size=SLOW)
    commits = repository(tmp_path / "theirs", [quick, BROKEN, quick, slow])
    ends = (f"good={commits[0][:12]}", "bad=HEAD")
    code, content = walk(tmp_path / "theirs", tmp_path / "out", *ends, "bisect.wrong_frac=0.2")
    assert (code, content["outcome"], content["culprit"]) == (10, "FAIL", 3)
    assert content["revisions"][3] == {"commit": commits[3], "subject": "change 3"}
    ends_tried, broken, step, proof = content["tried"]
    assert (ends_tried["purpose"], ends_tried["candidate"], ends_tried["outcome"]) == ("ends", 3, "FAIL")
    assert (broken["candidate"], broken["outcome"]) == (1, None)
    assert "SyntaxError" in broken["reason"]
    assert (step["candidate"], step["outcome"]) == (2, "PASS")
    assert step["catch_ratio"] == ends_tried["low"]
    assert (proof["purpose"], proof["reference"], proof["candidate"]) == ("proof", 2, 3)
    assert proof["low"] > 1
    verdict = json.loads((tmp_path / "out" / proof["folder"] / "verdict.json").read_text())
    assert verdict["sides"]["reference"]["commit"] == commits[2]
    assert verdict["false_alarm_frac"] == pytest.approx(0.2 / 7)
    said = capsys.readouterr()
    assert said.out.startswith(f"FAIL: {commits[3][:9]} change 3: this commit made it slower")
    assert "an innocent commit is named (rule walk-1)" in said.out
    assert f"skipped: {commits[1][:9]} change 1: SyntaxError" in said.err
    for one in content["tried"]:
        assert (tmp_path / "out" / one["folder"] / "log.txt").is_file()
    assert f"| {commits[1][:9]} change 1 | {commits[0][:9]} | x" in (tmp_path / "out" / "summary.md").read_text()
    assert 'failures="1"' in (tmp_path / "out" / "junit.xml").read_text()
    assert git(tmp_path / "theirs", "worktree", "list").count("\n") == 0, "no checkout is left behind"


def test_an_end_that_does_not_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commits = repository(tmp_path / "theirs", [WORK.format(size=QUICK), BROKEN])
    words = [f"repository={tmp_path / 'theirs'}", "function=speech:say", f"python={sys.executable}"]
    assert run_verb(verb.main, [*words, f"good={commits[0]}", f"out={tmp_path / 'out'}"]) == 14
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: candidate: SyntaxError")
    assert load_ledger(tmp_path / "out").steps == ()


class Timed:
    """In the place of comparing: log times by commit, a commit that breaks it off once, host classes in turn."""

    def __init__(self, times: dict[str, float], breaks_at: str | None = None, host_class: str = "here") -> None:
        self.times, self.breaks_at, self.host_class = times, breaks_at, host_class
        self.asked: list[tuple[str, str]] = []

    def __call__(self, command: Command, asked: Revisions, out: Path, say: Callable[[str], None]) -> Comparison:
        self.asked.append((asked.reference, asked.candidate))
        if asked.candidate == self.breaks_at:
            self.breaks_at = None
            raise KeyboardInterrupt
        ratio = self.times[asked.candidate] / self.times[asked.reference]
        limits = replace(PairedLimits(), false_alarm_frac=asked.share, miss_frac=asked.share)
        limits = limits if asked.catch_ratio is None else replace(limits, catch_ratio=asked.catch_ratio)
        return Comparison(
            verdict=judge(blocks(*[ratio] * 8), limits), limits=limits,
            labels={"reference": asked.reference, "candidate": asked.candidate}, sides={},
            environment={"host_class": self.host_class}, workload={}, checked={}, error_rate="", wall_s=1.0,
            seconds_per_block=1.0,
        )  # fmt: skip


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A repository of eight commits, slow from the seventh on, and what each takes."""
    folder = tmp_path_factory.mktemp("eight") / "theirs"
    commits = repository(folder, [WORK.format(size=size) for size in range(8)])
    return folder, {name: 0.2 if number < 6 else 0.22 for number, name in enumerate(commits)}


def test_a_walk_that_was_interrupted_goes_on_and_measures_nothing_twice(
    eight: tuple[Path, dict[str, float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder, times = eight
    names, out = list(times), tmp_path / "out"
    timed = Timed(times, breaks_at=names[6])
    monkeypatch.setattr(comparing, "compared", timed)
    words = [f"repository={folder}", "function=speech:say", f"good={names[0]}", f"out={out}"]
    assert run_verb(verb.main, words) == 130
    assert f"resume={out}" in capsys.readouterr().err
    with (out / JOURNAL).open("a") as file:
        file.write('{"kind": "tried", "tried": {"purpo')  # as a machine that went down leaves it
    before = list(timed.asked)
    assert run_verb(verb.main, [f"resume={out}"]) == 10
    assert json.loads((out / CONTENT).read_text())["culprit"] == 6
    again = [pair for pair in before if timed.asked.count(pair) > 1]
    assert again == [(names[0], names[6])], "the one that was broken off"
    assert len({path.name for path in out.iterdir() if path.is_dir()}) == len(timed.asked)
    num = len(timed.asked)
    assert run_verb(verb.main, [f"resume={out}"]) == 10
    assert len(timed.asked) == num, "a walk that has ended is shown again"
    assert run_verb(verb.main, words) == 2
    assert "already holds a walk" in capsys.readouterr().err


def test_another_machine_goes_on_with_nothing(
    eight: tuple[Path, dict[str, float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder, times = eight
    names, out = list(times), tmp_path / "out"
    monkeypatch.setattr(comparing, "compared", Timed(times, breaks_at=names[6]))
    assert run_verb(verb.main, [f"repository={folder}", "function=speech:say", f"good={names[0]}", f"out={out}"]) == 130
    monkeypatch.setattr(comparing, "compared", Timed(times, host_class="elsewhere"))
    assert run_verb(verb.main, [f"resume={out}"]) == 12
    assert "the walk began on host class here, and this is elsewhere" in capsys.readouterr().out
    monkeypatch.setattr(comparing, "compared", Timed(times))
    assert run_verb(verb.main, [f"resume={out}"]) == 10, "what was measured elsewhere is in no walk"


def test_a_first_revision_that_fails_later_is_no_skipped_step(
    eight: tuple[Path, dict[str, float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, times = eight
    names, timed = list(times), Timed(times)

    def failing(command: Command, asked: Revisions, out: Path, say: Callable[[str], None]) -> Comparison:
        if timed.asked:
            raise SideFailed("reference", "died", "its process ended", "see log.txt")
        return timed(command, asked, out, say)

    monkeypatch.setattr(comparing, "compared", failing)
    words = [f"repository={folder}", "function=speech:say", f"good={names[0]}", f"out={tmp_path / 'out'}"]
    assert run_verb(verb.main, words) == 14
    assert len(load_ledger(tmp_path / "out").steps) == 1


def test_what_is_walked_is_the_line_of_first_parents_and_what_is_measured(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    commits = repository(folder, ["a", "b"])
    git(folder, "checkout", "--quiet", "-b", "side", commits[0])
    side = commit(folder, "c", "on a branch", "other.py")
    git(folder, "checkout", "--quiet", "-")
    git(folder, "merge", "--quiet", "--no-ff", "--message", "merge side", "side")
    merge = git(folder, "rev-parse", "HEAD")
    (folder / "engine").mkdir()
    last = commit(folder, "d", "what is measured", "engine/a.py")
    line = line_between(commits[0], "HEAD", folder)
    assert [one.commit for one in line.revisions] == [commits[0], commits[1], merge, last]
    assert [one.commit for one in line_between(commits[0], "HEAD", folder, ["other.py"]).revisions[1:]] == [merge]
    assert line_between(commits[0], "HEAD", folder, ["engine"]).num_commits == 3
    assert inside_of_merge(merge, folder) == (commits[0], side)
    assert inside_of_merge(last, folder) is None
    for good, bad, said in (
        (last, "HEAD", "is the same commit as"), (side, "HEAD", "is not on the line of first parents"),
        ("nowhere", "HEAD", "knows no such commit"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            line_between(good, bad, folder)
    with pytest.raises(ConfigError, match="none of the 1 commits after"):
        line_between(merge, "HEAD", folder, ["conf"])


def test_a_merge_that_is_found_says_how_to_walk_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "theirs"
    (first,) = repository(folder, ["a"])
    git(folder, "checkout", "--quiet", "-b", "side")
    side = commit(folder, "b", "on a branch", "other.py")
    git(folder, "checkout", "--quiet", "-")
    git(folder, "merge", "--quiet", "--no-ff", "--message", "merge side", "side")
    merge = git(folder, "rev-parse", "HEAD")
    monkeypatch.setattr(comparing, "compared", Timed({first: 1.0, merge: 1.5}))
    words = [f"repository={folder}", "function=other:say", f"good={first}", f"out={tmp_path / 'out'}"]
    assert run_verb(verb.main, words) == 10
    said = capsys.readouterr().out
    assert f"experiments.bisection good={first} bad={side}" in said
    assert "function=other:say" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "good=(none): names the revision that was fast"), (["good="], "good=: names the revision"),
        (["good=a", "reference.engine=fp32"], "reference.engine=fp32: a walk compares revisions of one"),
        (["good=a", "revision=b"], "revision=b: is set by the walk"),
        (["good=a", "compare=quick"], "compare.mode=quick: one set of processes decides nothing here"),
        (["good=a", "compare.miss_frac=0.1"], "compare.miss_frac=(set): is a share of bisect.wrong_frac"),
        (["good=a", "compare.metrics=[wall_time,cpu_time]"], "a walk follows one"),
        (["good=a", "bisect.wrong_frac=0.7"], "bisect.wrong_frac=0.7: must be"),
        (["good=a", "bisect.spares=1"], "bisect.spares=1: no such key"),
        (["good=a", "tracking=none"], "tracking=none: a walk is not logged"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_by_name(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_command(words)
    assert said in str(refused.value)


def test_a_walk_that_goes_on_keeps_its_settings() -> None:
    assert resume_folder(["resume=x"]) == Path("x")
    assert resume_folder(["good=a"]) is None
    with pytest.raises(ConfigError, match="cannot be set beside resume"):
        resume_folder(["resume=x", "good=a"])


def test_an_engine_is_walked_by_the_commits_that_change_what_is_measured() -> None:
    command = read_command(["good=HEAD~3", "workload=smoke", "compare.catch_ratio=1.03"])
    assert (command.bad, command.words) == ("HEAD", ("workload=smoke", "compare.catch_ratio=1.03"))
    assert repository_of(command) == (ROOT, ("engine", "conf"))


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_folder_that_holds_no_walk_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(verb.main, [f"resume={tmp_path}"]) == 2
    assert "no such walk; give the folder that experiments.bisection left" in capsys.readouterr().err
    (tmp_path / JOURNAL).write_text('{"kind": "start", "schema_version": 1}\n')
    assert run_verb(verb.main, [f"resume={tmp_path}"]) == 2
    assert "damaged" in capsys.readouterr().err
