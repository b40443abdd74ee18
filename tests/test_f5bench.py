"""The one command: an overview by purpose, every verb by its name, completion in three shells."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.__main__ import MODULES, VERBS, main
from experiments.completion import COMPOSING, OWN_WORDS, SHELLS, candidates, script
from reports.commands import CALLED_AS, ROOT, here, interpreter
from reports.comment import __main__ as comment
from reports.listening import __main__ as listening


def f5bench(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "experiments/__main__.py"), *words],
        cwd=folder, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}, capture_output=True, encoding="utf-8",
        check=False,
    )  # fmt: skip


def test_the_overview_is_one_screen_by_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 100
    assert [line for line in lines if line in VERBS] == list(VERBS)


def test_a_verb_gets_its_words_and_ends_the_process(tmp_path: Path) -> None:
    done = f5bench("plan-samples", "--help", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage" in done.stdout
    refused = f5bench("reports", "nowhere", folder=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: nowhere: ")


@pytest.mark.parametrize(
    ("verb", "said"),
    [("rum", "did you mean run?"), ("quality_gate", "did you mean quality-gate?"), ("zzz", "`f5bench` lists them")],
)
def test_a_verb_that_there_is_not(verb: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb]) == 2
    assert capsys.readouterr().err == f"error: {verb}: there is no such verb; {said}\n"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("f5bench ru", ["run"]),
        ("f5bench quality", ["quality-gate", "quality-selftest"]),
        ("f5bench run eng", ["engine="]),
        ("f5bench run engine=fp", ["engine=fp16", "engine=fp32"]),
        ("f5bench sweep engine=fp32,bf", ["engine=fp32,bf16"]),
        ("f5bench run nothing=", []),
        ("f5bench reports ", []),  # a folder: the shell's own
        ("f5bench reports --pr", ["--print"]),
        ("f5bench baseline ", ["record", "list", "show", "page", "approve", "diff"]),
        ("f5bench baseline sh", ["show"]),
        ("f5bench baseline record main engine=fp", ["engine=fp16", "engine=fp32"]),
        ("f5bench telemetry w", ["watch"]),
        ("f5bench listening b", ["build"]),
        ("f5bench gate --req", ["--require-approved"]),
        ("f5bench gate solver=euler_7", ["solver=euler_7"]),
        ("f5bench compare candidate.engine=fp", ["candidate.engine=fp16", "candidate.engine=fp32"]),
        ("f5bench bisect compare=q", ["compare=quick"]),
        ("f5bench distill recipe=g", ["recipe=guidance"]),
        ("f5bench nothing ", []),
    ],
)
def test_what_may_stand_at_the_cursor(line: str, found: list[str]) -> None:
    assert candidates([line], MODULES) == found


def test_every_composing_verb_is_one() -> None:
    assert set(COMPOSING) <= set(MODULES)


@pytest.mark.parametrize("verb", MODULES)
def test_every_verb_offers_its_flags_and_does_nothing(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--help" in candidates([f"f5bench {verb} --"], MODULES)
    assert capsys.readouterr() == ("", "")


def test_the_words_of_a_verb_without_a_parser_are_its_own() -> None:
    assert OWN_WORDS["listening"][:-1] == tuple(listening.VERBS)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes(tmp_path: Path) -> None:
    """The very script in the very shell, with a program of that name on its path."""
    program = tmp_path / "f5bench"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m experiments "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    asked = f"""{script("bash")}
COMP_LINE='f5bench run engine=fp3' COMP_POINT=22 COMP_WORDS=(f5bench run engine=fp3) COMP_CWORD=2
_f5bench 2>/dev/null; echo "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", asked], cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True,
        encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "engine=fp32", done.stderr


def test_a_shell_that_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert capsys.readouterr().err == f"error: completion: give one of {', '.join(SHELLS)}\n"


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("use `python -m experiments.quality_gate A B`", "use `f5bench quality-gate A B`"),
        ("use `python -m experiments.scoring.floor`.", "use `f5bench floor`."),
        ("`python -m reports DIR --print`", "`f5bench reports DIR --print`"),
        ("`python -m reports.listening build A B`", "`f5bench listening build A B`"),
    ],
)
def test_messages_spell_commands_by_f5bench_where_that_was_called(
    monkeypatch: pytest.MonkeyPatch, text: str, typed: str
) -> None:
    monkeypatch.delenv(CALLED_AS, raising=False)
    assert here(text) == text.replace("python", interpreter())
    monkeypatch.setenv(CALLED_AS, "f5bench")
    assert here(text) == typed
    assert here(typed) == typed


def test_a_verb_that_a_sentence_names_is_spelt_by_f5bench_as_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(CALLED_AS, "f5bench")
    assert here("the same as experiments.sweep; see experiments.scoring.floor.") == (
        "the same as f5bench sweep; see f5bench floor."
    )
    for other in (
        "the reports of a run",
        "see experiments/run.py",
        "-p experiments.pytest_plugin",
        "experiments.load.cold",
    ):
        assert here(other) == other
    assert listening.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert "f5bench listening build RUN_A RUN_B" in said
    assert "experiments." not in said


def test_the_usage_is_indented_for_the_name_that_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(CALLED_AS, "f5bench")
    with pytest.raises(SystemExit):
        comment.main(["--help"])
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("usage: f5bench comment [-h]")
    assert second.index("[") == len("usage: f5bench comment ")


def test_what_is_no_verb_is_left_to_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CALLED_AS, "f5bench")
    for module in ("experiments.load.cold job.json", "pip install x", "experiments.compare.x"):
        assert interpreter() in here(f"python -m {module}")


def test_the_installed_command_says_its_own_name(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("f5bench")
    done = subprocess.run(
        [program, "compare", "--help"], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert f"{program} compare reference.engine=fp32" in done.stdout
    assert "-m experiments.compare" not in done.stdout
