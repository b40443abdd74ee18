"""The example workflows: a stranger's pull request gets no token, and every exit code of the gate is handled."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.common import cli
from reports.comment.artifact import CODE_FILE, NUMBER_FILE, PREFIX
from tests.engines import ROOT

WORKFLOWS = ROOT / ".github" / "workflows"
NEUTRAL = {cli.EXIT_OK, cli.EXIT_UNSURE, cli.EXIT_ENVIRONMENT}
CODES = sorted(value for name, value in vars(cli).items() if name.startswith("EXIT_"))


def workflow(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((WORKFLOWS / name).read_text("utf-8")))


def triggers(content: dict[str, Any]) -> Any:
    return content[True]  # YAML 1.1 reads the key `on` as true


def steps(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in content["jobs"].values() for step in job["steps"]]


def test_the_job_that_runs_a_strangers_code_cannot_write() -> None:
    bench = workflow("bench.yml")
    assert list(triggers(bench)) == ["pull_request"]
    assert bench["permissions"] == {"contents": "read"}
    checkout = next(step for step in steps(bench) if "checkout" in step.get("uses", ""))
    assert checkout["with"]["persist-credentials"] is False


def test_the_job_that_can_write_runs_nothing_of_the_pull_request() -> None:
    """What a workflow_run checks out by default is the default branch; the action below runs no step of its own code
    but the one that posts (tests/test_comment_post.py)."""
    comment = workflow("bench-comment.yml")
    assert triggers(comment)["workflow_run"]["workflows"] == [workflow("bench.yml")["name"]]
    assert comment["permissions"] == {
        "actions": "read", "checks": "write", "contents": "read", "pull-requests": "write",
    }  # fmt: skip
    checkout, action = steps(comment)
    assert checkout["with"] == {"persist-credentials": False}
    assert action == {"uses": "./.github/actions/comment"}


def test_what_is_measured_is_what_the_comment_looks_for() -> None:
    upload = next(step for step in steps(workflow("bench.yml")) if "upload" in step.get("uses", ""))
    assert upload["with"]["name"].startswith(PREFIX)
    assert {f"out/{NUMBER_FILE}", f"out/{CODE_FILE}", "out/verdict.json"} <= set(upload["with"]["path"].split())


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.name)
def test_every_workflow_has_the_least_rights_and_leaves_no_token_behind(path: Path) -> None:
    content = workflow(path.name)
    if path.name not in ("bench-comment.yml", "comment.yml"):
        assert content["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in triggers(content)
    for step in steps(content):
        assert "checkout" not in step.get("uses", "") or step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.name)
def test_pull_requests_do_not_push_each_other_out_of_a_queue(path: Path) -> None:
    """GitHub keeps one waiting run of a group and cancels the others: a group that all share loses pull requests."""
    content = workflow(path.name)
    if "workflow_call" in triggers(content):
        assert "concurrency" not in content, "its caller knows what belongs together"
        return
    assert "concurrency" not in str(content["jobs"]), "the jobs of a matrix would share it"
    group = content["concurrency"]["group"]
    assert "pull_request.number" in group or "workflow_run.head_branch" in group


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.name)
def test_no_expression_is_pasted_into_a_script(path: Path) -> None:
    """A title or a branch name inside `${{ }}` in a script is a stranger's code in our shell."""
    for step in steps(workflow(path.name)):
        assert "${{" not in step.get("run", "")
        assert "${{" not in str(step.get("with", {}).get("script", ""))


@pytest.mark.parametrize("code", CODES)
def test_every_exit_code_of_the_gate_is_handled(code: int, tmp_path: Path) -> None:
    """The step itself, in bash as GitHub starts it, with a python that ends with the code."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    fake = tmp_path / ".venv/bin/python"
    fake.write_text(f'#!/bin/bash\necho "$@" > asked.txt\nexit {code}\n')
    fake.chmod(0o755)
    (tmp_path / "git").write_text("#!/bin/bash\necho 1234abcd\n")
    (tmp_path / "git").chmod(0o755)
    script = next(step["run"] for step in steps(workflow("bench.yml")) if step.get("name") == "compare")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "ENGINE": "bf16", "BASE": "base", "HEAD": "head"}
    environment["GITHUB_STEP_SUMMARY"] = str(tmp_path / "summary")
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, "-e", "-o", "pipefail", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == (0 if code in NEUTRAL else code), done.stderr
    assert ("::error" in done.stdout) == (code not in NEUTRAL)
    assert ("::warning" in done.stdout) == (code in NEUTRAL - {0})
    assert (tmp_path / "out" / "exit_code.txt").read_text() == f"{code}\n"
    assert (tmp_path / "summary").read_text().startswith("### bf16: ")
    asked = (tmp_path / "asked.txt").read_text()
    assert "engine=bf16" in asked
    assert "reference.revision=1234abcd candidate.revision=head" in asked
