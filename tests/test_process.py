"""Any terminal, any user, any letters: what a container or a plain terminal brings must not end a program."""

import ast
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.cache import cache_root
from metrics.process import private_folder, settle_home
from tests.engines import ROOT

ROOMS = ("engine", "metrics", "baselines", "reports", "experiments")
SOURCES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
NO_PASSWD_UID = 54321
OTHER_OPENERS = ("os", "webbrowser", "bench")  # which open no text
BARE = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
IN_NO_HOME = """
from metrics.process import settle
settle()
import getpass, pathlib, sys
print(getpass.getuser(), pathlib.Path.home())
from tests.engines import engine, request
name, *overrides = sys.argv[1:]
with engine(f"engine={name}", "solver=uniform_4", *overrides) as built:
    print(built.synthesize([request("Turn left.")])[0].num_evals)
"""


def is_unknown(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return True
    return False


def as_stranger(*command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """By a number that no passwd file knows, with no HOME; it may read what root may and write its own only."""
    drop = ["setpriv", "--reuid", str(NO_PASSWD_UID), "--regid", str(NO_PASSWD_UID), "--clear-groups",
            "--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]  # fmt: skip
    return subprocess.run(
        [*drop, *command], env={**BARE, "TMPDIR": str(folder), **environment}, cwd=folder, capture_output=True,
        encoding="utf-8", errors="replace", timeout=240, check=False,
    )  # fmt: skip


needs_root = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None or not is_unknown(NO_PASSWD_UID),
    reason="only root can become a user whom nobody knows",
)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(0o777)
        if folder.name.startswith("pytest-of-"):
            break
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    return folder


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "compiled"])
def test_engines_run_for_a_user_without_a_name_and_a_home(name: str, theirs: Path) -> None:
    one_block = ("model.checkpoint=random:0", "model.arch.depth=1")  # a sixth of the time to export or compile
    done = as_stranger(sys.executable, "-c", IN_NO_HOME, name, *one_block, folder=theirs)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-2:] == [f"uid{NO_PASSWD_UID} {theirs}/f5bench-home-{NO_PASSWD_UID}", "4"]


@needs_root
@pytest.mark.parametrize("home", [None, "/"], ids=["no HOME", "a HOME that cannot be written"])
def test_what_looks_for_a_home_when_it_is_imported(home: str | None, theirs: Path) -> None:
    """The libraries that died, and a cache that numba writes."""
    code = """
from metrics.process import settle
settle()
import os, shutil, matplotlib.pyplot, mlflow, torch._inductor.codecache, numba
from engine.cache import cache_root
numba.njit(cache=True)(shutil.which)
root = cache_root()
root.mkdir(parents=True, exist_ok=True)
print(os.access(root, os.W_OK))
"""
    given = {} if home is None else {"HOME": home}
    done = as_stranger(sys.executable, "-c", code, folder=theirs, **given)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "True"


def test_a_user_with_a_home_keeps_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("F5BENCH_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    before = dict(os.environ)
    settle_home()
    assert dict(os.environ) == before
    assert cache_root() == tmp_path / ".cache" / "f5bench"


def test_a_folder_that_somebody_else_made_first_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "real").mkdir()
    (tmp_path / f"f5bench-home-{os.getuid()}").symlink_to(tmp_path / "real")
    assert private_folder() not in (tmp_path / "real", tmp_path / f"f5bench-home-{os.getuid()}")


@pytest.mark.parametrize(
    "terminal",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "cp1252:strict"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=str,
)
def test_no_terminal_is_too_plain_for_an_error_or_a_table(terminal: dict[str, str], tmp_path: Path) -> None:
    code = """
import sys
from experiments.common.cli import run_verb
from engine.contract import ConfigError
from reports.render.terminal import stdout_console
from rich.table import Table

def verb(argv):
    table = Table("Öl", "朝")
    table.add_row("─ 🙂", "→ ±")
    stdout_console().print(table)
    print("Öl 朝 🙂 …")
    raise ConfigError("out", "Öl 朝 🙂", "no", "nein")

sys.exit(run_verb(verb, ["x"]))
"""
    environment = {**os.environ, **BARE, "HOME": str(tmp_path), **terminal}
    program = tmp_path / "program.py"
    program.write_text(code, encoding="utf-8")
    command = [sys.executable, str(program)]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert b"Traceback" not in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert b"\\u671d" in done.stdout or "朝".encode() in done.stdout


@pytest.mark.parametrize("module", ["experiments.run", "experiments.gate", "reports", "reports.listening"])
def test_an_argument_that_is_no_text_is_one_line(module: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", module, "build" if module == "reports.listening" else b"out=a", b"out=\xff\xfe"]
    done = subprocess.run(
        command, env={**os.environ, **BARE}, cwd=tmp_path, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert b"is not UTF-8" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_every_text_file_and_every_answer_of_a_program_says_its_encoding() -> None:
    calls = [
        (path.relative_to(ROOT), node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
    ]
    assert [f"{path}:{call.lineno}" for path, call in calls if not says_encoding(call)] == []


def says_encoding(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    keywords = {keyword.arg for keyword in call.keywords}
    texts = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    flags = {k.arg for k in call.keywords if isinstance(k.value, ast.Constant) and k.value.value is True}
    if {"text", "universal_newlines"} & flags:
        return "encoding" in keywords
    if name in ("read_text", "write_text"):
        return "encoding" in keywords or "utf-8" in texts
    owner = call.func.value.id if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) else ""
    if name not in ("open", "fdopen") or (name == "open" and owner in OTHER_OPENERS):
        return True
    return "encoding" in keywords or any(set(text) <= set("rwaxb+") and "b" in text for text in texts)
