"""What is installed is what was tested: a package of any extra has one version on each Python that is supported."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.engines import ROOT

tomllib = pytest.importorskip("tomllib", reason="from Python 3.11 on")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = itertools.chain.from_iterable(PROJECT["optional-dependencies"].values())
WANTED = [Requirement(text) for text in (*PROJECT["dependencies"], *EXTRAS)]
PINS = [
    Requirement(line) for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")
]
# Came with the interpreter; an environment that is made anew has the version that is pinned
BROUGHT = {"setuptools", "pip"}


def pins(python: str) -> dict[str, str]:
    """Package -> the version that `pip --constraint` leaves on this Python."""
    found: dict[str, str] = {}
    for pin in PINS:
        if pin.marker is None or pin.marker.evaluate({"python_version": python, "python_full_version": f"{python}.0"}):
            name = canonicalize_name(pin.name)
            assert name not in found, f"{name} is pinned twice for Python {python}"
            assert str(pin.specifier).startswith("=="), f"{pin} is no exact version"
            found[name] = str(pin.specifier)[2:]
    return found


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
def test_every_package_that_is_asked_for_has_a_version_that_will_do(python: str) -> None:
    known = pins(python)
    problems = [str(one) for one in WANTED if not one.specifier.contains(known.get(canonicalize_name(one.name), "0"))]
    assert problems == []


# No wheel and no source that builds there (f5bench doctor --resolve aarch64)
NEVER_ON_AARCH64 = {"tensorrt", "tensorrt-rtx-cu13-libs", "tensorrt-rtx-cu13-bindings"}


@pytest.mark.parametrize(("python", "without"), [("3.10", {"onnxruntime-gpu"}), ("3.12", set())])
def test_on_a_jetson_nothing_is_asked_for_that_cannot_be_had(python: str, without: set[str]) -> None:
    there = {"platform_machine": "aarch64", "sys_platform": "linux", "python_version": python}
    asked = {canonicalize_name(one.name) for one in WANTED if one.marker is None or one.marker.evaluate(there)}
    assert asked & (NEVER_ON_AARCH64 | without) == set()
    assert "onnxruntime-gpu" in asked | without, "from Python 3.11 on there is one"


def needed() -> set[str]:
    """What the installed packages of the extras need in turn, here."""
    seen: set[str] = set()
    waiting = [(one.name, tuple(one.extras)) for one in WANTED]
    while waiting:
        name, extras = waiting.pop()
        if (plain := canonicalize_name(name)) in seen:
            continue
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        seen.add(plain)
        for one in map(Requirement, requires):
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
                waiting.append((one.name, tuple(one.extras)))
    return seen


def test_what_is_installed_is_what_is_pinned() -> None:
    known = pins("3.11")
    here = {name: metadata.version(name) for name in needed() - BROUGHT}
    assert {name: version for name, version in here.items() if known.get(name) != version} == {}


def made(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *words], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_lint_is_what_continuous_integration_runs() -> None:
    lines = made("-n", "lint").stdout
    for tool in ("-m ruff check .", "-m ruff format --check .", "-m mypy"):
        assert tool in lines
    script = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    assert [line for line in script if line.startswith("make")] == ["make lint", "make test"]
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8"))["jobs"]
    assert ".ci/run" in [step.get("run") for step in jobs["test"]["steps"]]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ('[ "$1" = -c ] && exec {python} -c "import sys; sys.version_info = (3, 9, 1); exec(sys.argv[1])" "$2"',
         "error: Python 3.10 to 3.12 is needed, and {fake} is 3.9; name another: make PYTHON=python3.11"),
        ('case "$2" in *ensurepip*) exit 1 ;; esac',
         "error: {fake} cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv"),
    ],
)  # fmt: skip
def test_an_interpreter_that_will_not_do_is_one_line(program: str, said: str, tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\n{program.format(python=sys.executable)}\n")
    fake.chmod(0o755)
    done = made(f"{tmp_path}/venv/.ready", f"PYTHON={fake}", f"VENV={tmp_path}/venv")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == said.format(fake=fake)
    assert not (tmp_path / "venv").exists()
