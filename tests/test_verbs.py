"""Every verb: help that can be typed, and one line with exit code 2 for what it does not know."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from experiments import __main__ as front
from experiments.__main__ import INTERNAL
from experiments.common.cli import run_verb
from reports.commands import MOVED, ROOT, verbs_in
from reports.verbs import HARNESS
from tests import verb_parsers

VERBS = sorted(name for name in verbs_in(ROOT / "experiments") if name not in INTERNAL)
PACKAGES = [name for name in VERBS if (ROOT / "experiments" / name / "__main__.py").is_file()]
MODULES = {**{f"experiments.{name}": f"experiments.{name}" for name in VERBS if name not in PACKAGES},
           **{f"experiments.{name}": f"experiments.{name}.__main__" for name in PACKAGES},
           "reports": "reports.__main__", "reports.listening": "reports.listening.__main__",
           "reports.comment": "reports.comment.__main__"}  # fmt: skip
# A GPU is looked for before anything that is asked of it is read


def ended(module: str, argv: Sequence[str]) -> int:
    """The exit code of the verb as its own `__main__` would end, in this process."""
    main: Callable[[Sequence[str]], int] = importlib.import_module(MODULES[module]).main
    try:
        return run_verb(main, list(argv))
    except SystemExit as left:
        return int(left.code or 0)


@pytest.fixture(autouse=True)
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb that goes on to work leaves it here."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("module", MODULES)
def test_help_shows_how_it_is_typed(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(module, ["--help"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    python = re.escape(sys.executable)
    assert re.search(rf"(?:python|{python}) -m {re.escape(module)}\b", said.out), said.out


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("word", ["--no-such-flag", "no_such_key=1", "engin=fp32"])
def test_what_it_does_not_know_is_one_line_and_exit_2(
    module: str, word: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code = ended(module, [word])
    assert code == 2
    said = capsys.readouterr()
    assert re.fullmatch(r"error: [^\n]+\n", said.err), said.err
    assert said.out == ""
    assert not list(tmp_path.rglob("*.json*")), "it began to work"


def test_every_verb_has_an_entry_in_the_parsers_and_a_line_in_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert front.main([]) == 0
    said, _, checks = capsys.readouterr().out.partition(f"{HARNESS}\n")
    listed = re.findall(r"^  ([\w-]+)  *\S", said, re.MULTILINE)
    listed += re.findall(r"[\w-]+", checks.partition("\nf5bench VERB")[0])
    assert sorted(front.MODULES[verb] for verb in listed) == sorted(
        [*(f"experiments.{name}" for name in VERBS), "reports", "reports.comment", "reports.listening"]
    )
    assert set(MODULES) <= set(verb_parsers.PARSERS)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("experiments.rum", "did you mean `{python} -m experiments.run`?"),
        ("experiments.qualitygate", "did you mean `{python} -m experiments.quality_gate`?"),
        ("reports.zzz", "see `{python} -m reports --help`"),
        ("experiments.zzz", "see `{python} -m experiments --help`"),
        ("reports.listenin", "did you mean `{python} -m reports.listening`?"),
    ],
)
def test_a_name_typed_wrong_is_one_line_and_exit_2(typed: str, said: str, tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", typed, "engine=fp32"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    hint = said.format(python=sys.executable)
    assert (done.returncode, done.stderr) == (2, f"error: {typed}: there is no such command; {hint}\n")


@pytest.mark.parametrize("old", MOVED)
def test_a_name_of_before_names_the_one_of_today(old: str, tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", old, "x=1"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    said = f"error: {old} has moved; write `{sys.executable} -m {MOVED[old]}`\n"
    assert (done.returncode, done.stderr) == (2, said)
    assert MOVED[old] in MODULES


def test_a_module_that_imports_the_package_is_not_taken_for_a_command() -> None:
    program = "import sys; sys.argv = ['-m']; import experiments, reports; print('on')"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "on\n"
