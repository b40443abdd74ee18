"""Whatever a page or a message of ours tells people to type works as printed, with the versions that are pinned."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from engine.contract import ConfigError
from experiments.__main__ import INTERNAL
from metrics.record import RecordError
from reports.commands import ROOT, VerbParser, here, interpreter, typed
from reports.listening.study.settings import ListeningError
from tests.printed_commands import ROOMS, SUBCOMMANDS, VERBS, Printed, printed
from tests.verb_parsers import read_words

FOUND = printed()
OPTIONAL = (
    (ROOT / "pyproject.toml").read_text("utf-8").partition("[project.optional-dependencies]")[2].partition("\n[")[0]
)
EXTRAS = re.findall(r"^([\w-]+) = \[", OPTIONAL, re.MULTILINE)
# Not here, and looked up by hand in the index: what they are for is optional, or another kind of machine's
ABSENT = {"triton", "onnxruntime-gpu", "tensorrt", "locust"}
# Packages of Debian 12 and Ubuntu 22.04, the last three of JetPack
SYSTEM = {
    "git", "make", "g++", "python3-dev", "python3-venv", "build-essential", "ffmpeg", "flite", "libflite1",
    "cmake", "libsndfile1", "python3-libnvinfer", "libcusparselt0", "nvidia-l4t-nvpmodel",
}  # fmt: skip
WRITTEN = {"curl", "nvpmodel", "locust"}  # not installed here; their options are few and old
TOOLS = ("pytest", "ruff", "mypy", "pip", "venv")


SPECIAL = re.compile(r"[][*?(){}<>&|;$!~#]")
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


def problem_of(one: Printed) -> str | None:
    """What keeps a command from working as printed, None where nothing does."""
    words = list(one.words)
    if SPECIAL.search(QUOTED.sub("", one.text.replace("HEAD~1", "HEAD"))):
        return "a shell would change it (zsh takes brackets for a pattern)"
    program = Path(words[0]).name
    if program.startswith("python"):
        return _python(words[2:]) if words[1:2] == ["-m"] else None
    if program in WRITTEN:
        return None
    if program == "activate":
        return None
    if program == "sudo":
        program, words = words[1], words[1:]
    checks: dict[str, Callable[[list[str]], str | None]] = {
        "make": _make, "pip": _pip, "hf": lambda words: _hub(tuple(words)), "mlflow": _mlflow, "apt": _system,
        "apt-get": _system, "git": _git,
    }  # fmt: skip
    return checks[program](words[1:]) if program in checks else f"nobody has checked {program}"


def _python(words: list[str]) -> str | None:
    module, given = words[0], words[1:]
    if module == "pip":
        return _pip(given)
    if re.search(r"\b[A-Z]+\b|\.\.\.", module):  # stands for any
        return None
    if importlib.util.find_spec(module) is None:
        return "no such module"
    if module in TOOLS or module.partition(".")[2] in INTERNAL or module.startswith("metrics."):
        return None
    if given and "|" in given[0]:
        unknown = set(given[0].split("|")) - set(SUBCOMMANDS[module])
        return f"it has no {unknown}" if unknown else None
    return _words(module, tuple(given))


@cache
def _words(module: str, given: tuple[str, ...]) -> str | None:
    try:
        read_words(module, given)
    except (ConfigError, RecordError, ListeningError, AssertionError, IndexError) as error:
        return str(error)
    except SystemExit as left:
        return None if left.code in (0, None) else f"refused by its flags ({left.code})"
    return None


def _make(words: list[str]) -> str | None:
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stderr.strip() or None


def _pip(words: list[str]) -> str | None:
    wanted = iter(words[1:])
    for word in wanted:
        plain = word.strip("'\"")
        if word in ("-c", "--constraint"):
            if not (ROOT / next(wanted, "constraints.txt")).is_file():
                return "no such constraints"
        elif plain.startswith(".["):
            unknown = set(plain[2:-1].split(",")) - set(EXTRAS)
            if unknown:
                return f"no extra {unknown}"
        elif not word.startswith("-") and (said := _package(Requirement(plain))):
            return said
    return None


def _package(wanted: Requirement) -> str | None:
    if wanted.name in ABSENT:
        return None
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return f"{wanted.name} is not installed here and not on the list"
    return None if wanted.specifier.contains(version) else f"{wanted} is not what is pinned ({version})"


@lru_cache(maxsize=8)
def _hub(words: tuple[str, ...]) -> str | None:
    """Its own parser, stopped by --help after it has read the options; offline: it looks for no newer version."""
    program = Path(sys.executable).with_name("hf")
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([program, *words, "--help"], env=offline, capture_output=True, text=True, check=False)
    if done.returncode != 0 or f"hf {words[0]}" not in done.stdout:
        return (done.stderr or done.stdout).strip()
    return None if len(words) == 1 or "/" in words[1] else "names no OWNER/REPO"


def _mlflow(words: list[str]) -> str | None:
    import click
    from mlflow.cli import cli

    verb: click.Command | None = cli
    for depth, word in enumerate(words):
        if not isinstance(verb, click.Group):
            break
        verb, rest = verb.get_command(click.Context(verb), word), words[depth + 1 :]
    if verb is None:
        return "no such command"
    try:
        verb.make_context("mlflow", rest)
    except click.ClickException as error:
        return error.format_message()
    return None


def _system(words: list[str]) -> str | None:
    missing = set(words[1:]) - SYSTEM
    return f"not known as packages of Debian: {missing}" if missing else None


def _git(words: list[str]) -> str | None:
    if words[0] == "restore":
        words = ["ls-files", "--error-unmatch", *words[1:]]
    elif words[0] in ("config", "fetch", "clone"):
        return None  # tests/test_git_refusals.py types these
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr


def test_there_is_much_to_check() -> None:
    """An extraction that finds nothing would pass everything."""
    kinds = {Path(one.words[0]).name for one in FOUND}
    assert kinds >= {"python", "make", "pip", "hf", "apt", "apt-get", "mlflow", "git", "curl", "locust"}
    assert len(FOUND) > 150
    shown = {one.words[2].partition(".")[2] for one in FOUND if one.words[1:2] == ("-m",) and len(one.words) > 2}
    assert VERBS - set(INTERNAL) - shown == set(), "a verb that nothing shows an example of"


@pytest.mark.parametrize("where", sorted({one.where.rpartition(":")[0] for one in FOUND}))
def test_every_command_that_is_printed_works(where: str) -> None:
    mine = [one for one in FOUND if one.where.rpartition(":")[0] == where]
    assert [f"{one}: {said}" for one in mine if (said := problem_of(one))] == []


QUOTING = ("typed", "shlex.quote", "shlex.join", "here")
UNFINISHED = re.compile(r"(?:python -m [\w.]+|hf download|git -C|safe\.directory)[^`;]*$")


def unquoted(path: Path) -> list[str]:
    """Values that a message puts into a command just as they are."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        so_far = ""
        for part in node.values if isinstance(node, ast.JoinedStr) else ():
            if isinstance(part, ast.Constant):
                so_far += str(part.value)
            elif isinstance(part, ast.FormattedValue):
                value = part.value
                is_quoted = isinstance(value, ast.Call) and ast.unparse(value.func) in QUOTING
                if UNFINISHED.search(so_far) and not is_quoted:
                    found.append(f"{path.name}:{part.lineno}: {so_far.split('`')[-1]}{{{ast.unparse(value)}}}")
                so_far += "X"
    return found


def test_what_is_filled_into_a_command_is_quoted_for_the_shell() -> None:
    assert [said for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) for said in unquoted(path)] == []


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"))))
def test_a_command_is_read_by_a_shell_as_it_was_meant(words: list[str]) -> None:
    assert shlex.split(typed("reports", *words)) == ["python", "-m", "reports", *words]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is no clone, with no interpreter of ours on PATH."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return tmp_path


def test_what_is_printed_works_from_any_folder(elsewhere: Path) -> None:
    said = here("say `python -m experiments.scoring.score --help`").split("`")[1]
    assert subprocess.run(["sh", "-c", said], capture_output=True, check=False).returncode == 0
    assert here("pip install -c constraints.txt -e '.[mlflow]'; make doctor; git restore engine/pocket") == (
        f"{sys.executable} -m pip install -c {ROOT}/constraints.txt -e '{ROOT}[mlflow]'; make -C {ROOT} doctor; "
        f"git -C {ROOT} restore engine/pocket"
    )


def test_in_the_clone_it_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "executable", str(ROOT / ".venv/bin/python"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert here("python -m reports x; pip install '.[onnx]'; hf download a/b c") == (
        ".venv/bin/python -m reports x; .venv/bin/python -m pip install '.[onnx]'; .venv/bin/hf download a/b c"
    )


def test_an_environment_that_is_switched_on_is_called_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin")
    assert here("python -m reports x") == "python -m reports x"


def test_a_path_with_a_space_or_an_apostrophe_is_one_word(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = elsewhere / "Ann's music" / "bin" / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    assert shlex.split(here(typed("reports", "my run"))) == ["Ann's music/bin/python", "-m", "reports", "my run"]
    assert shlex.split(interpreter()) == ["Ann's music/bin/python"]


@pytest.mark.parametrize("text", ["python -m reports x", "pip install '.[onnx]'", "hf download a/b c", "make doctor"])
def test_a_message_that_was_rendered_by_a_child_stays_as_it_is(elsewhere: Path, text: str) -> None:
    assert here(here(text)) == here(text) != text


def test_words_of_a_sentence_are_no_commands() -> None:
    text = "the python that is running; make the folder; hf weights; numpy.[0]; /usr/bin/python -m reports"
    assert here(text) == text


def test_a_flag_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        VerbParser(prog="python -m reports").parse_args(["--no-such"])
    assert left.value.code == 2
    assert capsys.readouterr().err == "error: unrecognized arguments: --no-such; see --help\n"
