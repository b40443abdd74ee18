"""The example workflows: a stranger's pull request gets no token, and every exit code of the gate is handled."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments import cli
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
    comment = workflow("bench-comment.yml")
    assert triggers(comment)["workflow_run"]["workflows"] == [workflow("bench.yml")["name"]]
    assert comment["permissions"] == {"actions": "read", "pull-requests": "write"}
    used = [step["uses"] for step in steps(comment)]
    assert not any("checkout" in name for name in used)
    assert not any("run" in step for step in steps(comment))


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
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run(
        [bash, "-e", "-o", "pipefail", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == (0 if code in NEUTRAL else code), done.stderr
    assert ("::error" in done.stdout) == (code not in NEUTRAL)
    assert ("::warning" in done.stdout) == (code in NEUTRAL - {0})
    asked = (tmp_path / "asked.txt").read_text()
    assert "engine=bf16" in asked
    assert "reference.revision=1234abcd candidate.revision=head" in asked
