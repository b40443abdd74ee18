"""The reusable workflows: every script of theirs as GitHub starts it, and outputs that lead to where they are said."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_action import ACTION, PAGE, WORKFLOWS, program, real_f5bench
from tests.test_functions import git, theirs

CALLED = ("compare", "board", "nightly", "bisect", "comment")


def workflow(name: str) -> dict[Any, Any]:
    content: dict[Any, Any] = yaml.safe_load((WORKFLOWS / f"{name}.yml").read_text("utf-8"))
    return content


def job_of(name: str) -> dict[str, Any]:
    (job,) = workflow(name)["jobs"].values()
    return dict(job)


def script(name: str, step: str) -> str:
    (found,) = [one["run"] for one in job_of(name)["steps"] if one.get("name") == step]
    return str(found)


def run(text: str, folder: Path, workspace: Path, **given: str) -> tuple[int, str, dict[str, str]]:
    """(exit code, what it said, its outputs), by the shell that GitHub takes."""
    output = folder / "output"
    output.write_text("")
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "RUNNER_TEMP": str(folder / "temp"),
        "GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        **{key: os.environ[key] for key in ("F5BENCH_STATE_DIR", "F5BENCH_CACHE") if key in os.environ}, **given,
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", text], cwd=workspace, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    pairs = [line.partition("=") for line in output.read_text("utf-8").splitlines()]
    return done.returncode, done.stdout + done.stderr, {key: value for key, _, value in pairs}


def walk(folder: Path, workspace: Path, f5bench: Path, **given: str) -> tuple[int, str, dict[str, str]]:
    asked = {"GOOD": "HEAD~1", "BAD": "HEAD", "FUNCTION": "app.speech:say", "SETTINGS": "", "LIMITS": "", **given}
    return run(script("bisect", "walk"), folder, workspace, F5BENCH=str(f5bench), **asked)


def ended(folder: Path, outputs: dict[str, str]) -> tuple[int, str]:
    given = {name: outputs.get(name.lower(), "") for name in ("CODE", "VERDICT", "CULPRIT")}
    code, said, _ = run(script("bisect", "end"), folder, folder, **given)
    return code, said


def test_the_commit_is_found_by_the_real_program_and_the_job_is_green(tmp_path: Path) -> None:
    repository = theirs(tmp_path / "speech")
    settings, limits = f"python={sys.executable}\n  path=src  \n# a comment\n", "pairs_per_block=3\nlooks=[3,6]\n"
    code, said, outputs = walk(tmp_path, repository, real_f5bench(tmp_path), SETTINGS=settings, LIMITS=limits)
    assert code == 0, said
    assert (outputs["code"], outputs["verdict"]) == ("10", "FAIL"), said
    assert outputs["culprit"] == git(repository, "rev-parse", "HEAD")
    assert (Path(outputs["folder"]) / "bisect.jsonl").is_file(), "what is kept as an artifact"
    assert "this commit made it slower" in (tmp_path / "summary.md").read_text("utf-8").lower()
    assert ended(tmp_path, outputs) == (0, f"::notice title=f5bench bisect::{outputs['culprit']} made it slower\n")


WALKED = '{"outcome": "%s", "culprit": null, "revisions": []}'


@pytest.mark.parametrize(
    ("code", "outcome", "said", "ends"),
    [
        (0, "PASS", "::notice title=f5bench bisect::PASS: not slower", 0),
        (11, "INCONCLUSIVE", "::warning title=f5bench bisect::INCONCLUSIVE: the summary names", 0),
        (12, "INVALID_ENV", "::warning title=f5bench bisect::INVALID_ENV", 0),
        (14, None, "::error title=f5bench bisect::it did not run (14)", 14),
        (2, None, "::error title=f5bench bisect::it did not run (2)", 2),
    ],
)
def test_every_end_of_a_walk_is_said(code: int, outcome: str | None, said: str, ends: int, tmp_path: Path) -> None:
    leave = (
        ""
        if outcome is None
        else f'mkdir -p "$out"; echo \'{WALKED % outcome}\' > "$out/bisect.json"; touch "$out/summary.md";'
    )
    find = 'for word in "$@"; do case "$word" in out=*) out="${word#out=}";; esac; done;'
    f5bench = program(tmp_path / "f5bench", f'printf "%s\\n" "$*" > {tmp_path}/asked.txt; {find} {leave} exit {code}')
    evil = "$(touch evil)`touch evil`"
    began, _, outputs = walk(
        tmp_path, tmp_path, f5bench, GOOD="v1.0", SETTINGS=f"texts={evil}", LIMITS="catch_ratio=1.1"
    )
    assert began == 0
    assert (outputs["code"], outputs["verdict"]) == (str(code), outcome or "FAILED")
    assert (tmp_path / "asked.txt").read_text() == (
        f"bisect good=v1.0 bad=HEAD function=app.speech:say repository=. texts={evil} compare.catch_ratio=1.1 "
        f"out={outputs['folder']}\n"
    )
    assert not (tmp_path / "evil").exists()
    ending, line = ended(tmp_path, outputs)
    assert ending == ends
    assert line.startswith(said)


@pytest.mark.parametrize("code", [0, 2])
def test_a_board_that_is_not_fit_is_red_before_anything_is_measured(code: int, tmp_path: Path) -> None:
    f5bench = program(tmp_path / "f5bench", f'[ "$1" = doctor ] && echo "torch  missing"; exit {code}')
    ending, said, _ = run(script("board", "doctor"), tmp_path, tmp_path, F5BENCH=str(f5bench))
    assert ending == code
    assert ("::error title=f5bench doctor" in said) == (code != 0)
    assert (tmp_path / "summary.md").read_text() == "```\ntorch  missing\n```\n"
    steps = [step.get("name") or step.get("id") for step in job_of("board")["steps"]]
    assert steps.index("doctor") < steps.index("f5bench")


def test_a_board_takes_its_own_python_and_no_fork_unasked() -> None:
    job = job_of("board")
    assert job["if"].startswith("inputs.forks || github.event_name != 'pull_request' || ")
    assert job["if"].endswith("github.event.pull_request.head.repo.full_name == github.repository")
    assert workflow("board")[True]["workflow_call"]["inputs"]["forks"]["default"] is False
    for step in job["steps"]:
        if step.get("uses") == "./.f5bench":
            assert (step["with"]["python-version"], step["with"]["cache"]) == ("", "false")
    (measure,) = [step for step in job["steps"] if step.get("id") == "f5bench"]
    assert measure["with"]["settings"].splitlines() == ["device=${{ inputs.device }}", "${{ inputs.settings }}"]


@pytest.mark.parametrize("name", ["compare", "board", "nightly"])
def test_the_actions_outputs_are_handed_on(name: str) -> None:
    """Of the workflow, by its job, from the step that measured; what is a place on the machine stays there."""
    called = workflow(name)[True]["workflow_call"]["outputs"]
    assert set(called) == set(ACTION["outputs"]) - {"folder", "command"}
    for output, content in called.items():
        assert content["value"] == f"${{{{ jobs.{name}.outputs.{output} }}}}"
        assert job_of(name)["outputs"][output] == f"${{{{ steps.f5bench.outputs.{output} }}}}"


def test_a_walks_outputs_are_those_that_its_steps_say() -> None:
    called, job = workflow("bisect")[True]["workflow_call"]["outputs"], job_of("bisect")
    assert {name: content["value"] for name, content in called.items()} == {
        name: f"${{{{ jobs.bisect.outputs.{name} }}}}" for name in job["outputs"]
    }
    steps = {step["id"] for step in job["steps"] if "id" in step}
    assert {re.findall(r"steps\.(\w+)\.", value)[0] for value in job["outputs"].values()} <= steps
    for name in called:
        assert f"| `{name}` |" in PAGE.partition("output of `bisect.yml`")[2]


@pytest.mark.parametrize("name", CALLED)
def test_nothing_is_pasted_into_a_script_and_no_right_is_asked_for_unneeded(name: str) -> None:
    for step in job_of(name)["steps"]:
        assert "${{" not in step.get("run", "")
    if name != "comment":
        assert workflow(name)["permissions"] == {"contents": "read"}
