"""Functions of somebody else's repository: two revisions, two functions, their interpreter, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.contract import ConfigError
from experiments.common.cli import run_verb
from experiments.functions.__main__ import main
from experiments.functions.settings import read_command
from experiments.functions.sides import environment
from reports.verdicts.comment import comment_markdown, read_measurement

SPEECH = """
import functools
import settings  # theirs, not one of ours of that name

@functools.cache
def model():
    return settings.SIZE

def say(text="hello"):
    return sum(i * i % 7 for i in range(model() * COUNT)) + len(text)

def stream(text="hello"):
    yield say(text)

def crash():
    raise ValueError("no\\nvoice")

class Voice:
    @staticmethod
    def say():
        return say()

LIMIT = 3
"""
FAST, SLOW = 60, 90


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()  # fmt: skip


def theirs(folder: Path) -> Path:
    """A repository with a package below src/: two commits, the second half as fast again."""
    (folder / "src" / "app").mkdir(parents=True)
    git(folder, "init", "--quiet")
    (folder / "src" / "settings.py").write_text("SIZE = 1000\n")
    (folder / "src" / "app" / "__init__.py").write_text("")
    for count in (FAST, SLOW):
        (folder / "src" / "app" / "speech.py").write_text(SPEECH.replace("COUNT", str(count)))
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "--message", str(count))
    return folder


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return theirs(tmp_path_factory.mktemp("theirs") / "speech")


QUICK = ["pairs_per_block=4", "threads=1"]


def compared(repository: Path, out: Path, *words: str) -> tuple[int, dict[str, Any]]:
    given = [f"repository={repository}", "path=src", f"python={sys.executable}", f"out={out}", *QUICK, *words]
    code = run_verb(main, given)
    return code, json.loads((out / "verdict.json").read_text())


def test_a_slower_revision_is_found_and_what_it_returns_is_compared(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("function=app.speech:say", "reference.revision=HEAD~1", "candidate.revision=HEAD")
    code, verdict = compared(repository, tmp_path / "out", *words)
    assert (code, verdict["outcome"]) == (10, "FAIL")
    assert 1.2 < verdict["findings"][0]["ratio"] < 1.9
    assert verdict["sides"]["candidate"]["commit"] == git(repository, "rev-parse", "HEAD")
    assert verdict["sides"]["reference"]["label"].startswith("app.speech:say@HEAD~1(")
    assert verdict["sides"]["candidate"]["facts"]["proof"] == {"file": "src/app/speech.py"}
    assert (verdict["answers"]["num_equal"], verdict["answers"]["what"]) == (0, "answer")
    assert set(verdict["memory_bytes"]) == {"reference", "candidate"}
    said = capsys.readouterr().out
    assert "what functions return is not judged" in said
    assert "Evaluations" not in said
    assert git(repository, "worktree", "list").count("\n") == 0, "no checkout is left behind"


def test_a_faster_function_passes_and_texts_are_given_in_turn(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one\n\ntwo two\n")
    (repository / "src" / "app" / "quick.py").write_text("def say(text):\n    return sum(range(20_000)) + len(text)\n")
    words = (
        "reference.function=app.speech:say", "candidate.function=app.quick:say", f"texts={tmp_path / 'lines.txt'}",
        "calls=2",
    )  # fmt: skip
    code, verdict = compared(repository, tmp_path / "out", *words)
    assert (code, verdict["outcome"]) == (0, "PASS")
    assert verdict["findings"][0]["high"] < 1
    turns = [json.loads(line) for line in (tmp_path / "out" / "pairs.jsonl").read_text().splitlines()]
    assert {turn["utterance_id"] for turn in turns if turn["kind"] == "turn"} == {"line1", "line2"}


@pytest.mark.parametrize(
    ("function", "code", "said"),
    [
        ("app.speech:nothing", 2, "app.speech has no nothing; correct the name"),
        ("app.speech:sayy", 2, "no such function: app.speech has no sayy; did you mean say?"),
        ("app.missing:say", 2, "there is no module app.missing"),
        ("app.speech:stream", 2, "it returned a generator, so nothing was computed yet"),
        ("app.speech:LIMIT", 2, "cannot be called"), ("json:dumps", 2, "is no revision of the repository; set path="),
        ("app.speech:crash", 14, "ValueError: no voice"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_one_line(
    function: str, code: int, said: str, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (f"function={function}", "reference.revision=HEAD~1", "candidate.revision=HEAD")
    ended, verdict = compared(repository, tmp_path / "out", *words)
    assert (ended, verdict["outcome"], verdict["findings"]) == (code, "FAILED", [])
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert said in error
    assert verdict["exit_code"] == code
    comment = comment_markdown([read_measurement("functions", tmp_path / "out", None, code)])
    assert ("did not run" in comment) is (code == 14)
    assert ("a setting of the measurement is wrong" in comment) is (code == 2)
    assert said in comment


def test_a_method_and_a_folder_of_their_own_settings_are_found(repository: Path, tmp_path: Path) -> None:
    """SPEECH imports a module `settings`, as one of ours is called."""
    words = ("function=app.speech:Voice.say", "reference.revision=HEAD~1", "candidate.revision=HEAD", "looks=[2]")
    code, verdict = compared(repository, tmp_path / "out", *words, "catch_ratio=3")
    assert code in (0, 11)
    assert verdict["num_blocks"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["function=app"], "reference.function=app: must be module:function"),
        (["function=a:b"], "candidate=a:b: is the reference itself"),
        (["function=a:b", "candidate.revision=HEAD", "calls=0"], "calls=0: must be a whole number from 1"),
        (["function=a:b", "candidate.revision=HEAD", "threads=x"], "threads=x: must be a whole number"),
        (["function=a:b", "candidate.revision=HEAD", "device=tpu"], "device=tpu: must be cpu, cuda or cuda:N"),
        (["function=a:b", "candidate.revision=HEAD", "path=../x"], "path=../x: must lie below the repository"),
        (["function=a:b", "candidate.revision=HEAD", "repository=nowhere"], "repository=nowhere: is no folder"),
        (["function=a:b", "candidate.revision=HEAD", "python=nowhere"], "python=nowhere: there is no such program"),
        (["function=a:b", "candidate.revision=HEAD", "texts=nowhere"], "texts=nowhere: cannot be read"),
        (["function=a:b", "candidate.revision=HEAD", "mode=quick"], "mode=quick: one set of processes says nothing"),
        (["function=a:b", "candidate.revision=HEAD", "metrics=[device_time]"], "metrics=device_time: is measured of"),
        (["funktion=a:b"], "funktion=a:b: no such key"), (["function"], "setting=function: must be KEY=VALUE"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_by_name(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_command(words)
    assert said in str(refused.value)


def test_their_code_sees_neither_our_python_nor_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "GITHUB_TOKEN", "ACTIONS_RUNTIME_TOKEN", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "ours")
    monkeypatch.setenv("THEIR_KEY", "kept")
    found = environment(3)
    assert "ours" not in found.values()
    assert (found["THEIR_KEY"], found["OMP_NUM_THREADS"]) == ("kept", "3")
