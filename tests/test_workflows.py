"""The example workflows: a stranger's pull request gets no token, and every exit code of the gate is handled."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.common import cli
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
    assert comment["permissions"] == {"actions": "read", "checks": "write", "pull-requests": "write"}
    used = [step["uses"] for step in steps(comment)]
    assert not any("checkout" in name for name in used)
    assert not any("run" in step for step in steps(comment))


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.name)
def test_every_workflow_has_the_least_rights_and_leaves_no_token_behind(path: Path) -> None:
    content = workflow(path.name)
    if "workflow_run" not in triggers(content):
        assert content["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in triggers(content)
    for step in steps(content):
        assert "checkout" not in step.get("uses", "") or step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.name)
def test_pull_requests_do_not_push_each_other_out_of_a_queue(path: Path) -> None:
    """GitHub keeps one waiting run of a group and cancels the others: a group that all share loses pull requests."""
    content = workflow(path.name)
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


STUBS = """
const made = [], posted = [], said = {};
const listComments = () => {}, one = async what => { posted.push(what.body); };
const github = {
  rest: {
    pulls: {get: async () => ({data: {head: {sha: process.env.PULL_HEAD}}})},
    checks: {create: async what => { made.push([what.name, what.conclusion, what.output.title]); }},
    issues: {listComments, updateComment: one, createComment: one},
  },
  paginate: async () => [],
};
const context = {repo: {owner: 'o', repo: 'r'}, payload: {workflow_run: {head_sha: 'abc'}}};
const core = {setFailed: text => { said.failed = text; }, notice: text => { said.notice = text; }};
"""


def checks_of(folder: Path, files: dict[str, str], head: str = "abc") -> dict[str, Any]:
    """What the script of bench-comment.yml makes of an artifact, in node as on GitHub, with a GitHub that listens."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here")
    for name, text in files.items():
        path = folder / "bench" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    script = next(step["with"]["script"] for step in steps(workflow("bench-comment.yml")) if "script" in step["uses"])
    program = (
        f"{STUBS}\n(async () => {{\n{script}\n}})().then(() => console.log(JSON.stringify({{made, posted, said}})));"
    )
    done = subprocess.run(
        [node, "-e", program],
        cwd=folder,
        env={**os.environ, "PULL_HEAD": head},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def test_a_verdict_that_cannot_tell_is_a_check_that_is_neither_green_nor_red(tmp_path: Path) -> None:
    wanted = {0: "success", 10: "failure", 11: "neutral", 12: "neutral"}
    files = {}
    for code in CODES:
        files[f"bench-e{code}/exit_code.txt"] = f"{code}\n"
    files["bench-none/summary.md"] = "never ended"
    files |= {f"{name.partition('/')[0]}/pull_request.txt": "7\n" for name in files}
    found = checks_of(tmp_path, files)
    assert found["said"] == {}
    conclusions = {name: conclusion for name, conclusion, _ in found["made"]}
    assert conclusions == {
        **{f"f5bench e{code}": wanted.get(code, "failure") for code in CODES}, "f5bench none": "failure",
    }  # fmt: skip
    assert "### e11: cannot tell" in found["posted"][0]


@pytest.mark.parametrize("number", ["", "8; rm", "../1", "7\n8"])
def test_an_artifact_that_lies_about_its_pull_request_is_refused(tmp_path: Path, number: str) -> None:
    found = checks_of(tmp_path, {"bench-a/pull_request.txt": number, "bench-a/exit_code.txt": "0"})
    assert (found["made"], found["posted"]) == ([], [])
    assert found["said"] == {"failed": "no pull request number in the artifact"}


@pytest.mark.parametrize("code", ["constructor", "-1", "0x0", "00", "11 ", "__proto__", "14"])
def test_an_exit_code_that_is_none_is_no_success(tmp_path: Path, code: str) -> None:
    found = checks_of(tmp_path, {"bench-a/pull_request.txt": "7", "bench-a/exit_code.txt": code})
    assert [conclusion for _, conclusion, _ in found["made"]] == ["neutral" if code.strip() == "11" else "failure"]


def test_a_commit_that_is_not_the_newest_any_more_says_nothing(tmp_path: Path) -> None:
    found = checks_of(tmp_path, {"bench-a/pull_request.txt": "7", "bench-a/exit_code.txt": "0"}, head="newer")
    assert (found["made"], found["posted"]) == ([], [])
