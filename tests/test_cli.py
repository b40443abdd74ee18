"""The edge of every verb: a reader that leaves its pipe never turns a verdict into a success."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from engine.paths import ROOT
from experiments.common.cli import meanwhile

VERB = """
import os, sys
from experiments.common.cli import run_verb
def verb(argv):
    print({text})
    {then}
    return 10
sys.exit(run_verb(verb, []))
"""


def ended(text: str, then: str = "pass", *, read: bool = False) -> tuple[int, str]:
    """(exit code, stderr) of a verb whose stdout is a pipe that nobody reads, or somebody does."""
    reader, writer = os.pipe()
    if not read:
        os.close(reader)
    program = VERB.format(text=text, then=then)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, text=True, check=False,
        env=environment,
    )  # fmt: skip
    os.close(writer)
    if read:
        os.close(reader)
    return done.returncode, done.stderr


def test_a_verdict_that_nobody_reads_keeps_its_code() -> None:
    assert ended("'FAIL'") == (10, "")


def test_a_verb_that_could_not_finish_printing_is_no_success() -> None:
    assert ended("'FAIL' * 100_000") == (1, "")


def test_another_broken_pipe_is_a_defect_with_a_traceback() -> None:
    code, said = ended("'hello'", "raise BrokenPipeError('of a child')", read=True)
    assert code == 1
    assert "BrokenPipeError: of a child" in said


class Screen(io.StringIO):
    """Of somebody, or of nobody."""

    def __init__(self, is_watched: bool):
        super().__init__()
        self._is_watched = is_watched

    def isatty(self) -> bool:
        return self._is_watched


@pytest.mark.parametrize("is_watched", [True, False])
def test_what_takes_seconds_is_shown_to_who_watches_and_written_to_nobody(
    is_watched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen(is_watched)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with meanwhile("composing the variants"):
        pass
    assert ("composing the variants" in screen.getvalue()) is is_watched
    assert is_watched or screen.getvalue() == ""
