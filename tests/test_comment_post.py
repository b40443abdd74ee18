"""The comment is written once and then edited, the check says what a job cannot, an artifact that lies gets neither.

Against a GitHub of a few lines on this machine, by the very step of the action, in a Python without any package.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from metrics.record import RecordError, to_json
from reports.comment.artifact import measurements_in, pull_request_of
from reports.comment.github import GitHub
from reports.verdicts.comment import MARK
from tests.engines import ROOT
from tests.test_comment import CASES

pytestmark = pytest.mark.enable_socket
COMMIT = "c0ffee" * 6 + "c0ff"
ACTION = ROOT / ".github" / "actions" / "comment"
CODES = {"faster": 0, "slower": 10, "cannot_tell": 11, "invalid_machine": 12, "quality_worse": 10, "did_not_run": 14}


@dataclass
class Fake:
    """A GitHub with one pull request. comments: what stands there; asked: every request; status: of all answers."""

    head: str = COMMIT
    status: int = 200
    comments: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    url: str = ""

    def answer(self, method: str, path: str, content: Any) -> Any:
        self.asked.append((method, path, content))
        if path.endswith("/pulls/7"):
            return {"head": {"sha": self.head}}
        if method == "GET":
            page = int(path.rpartition("page=")[2])
            return self.comments[100 * (page - 1) : 100 * page]
        if path.endswith("/check-runs"):
            return {}
        if method == "POST":
            self.comments.append({"id": 1000 + len(self.comments), "user": {"type": "Bot"}, **content})
        else:
            number = int(path.rpartition("/")[2])
            next(one for one in self.comments if one["id"] == number).update(content)
        return {}

    @property
    def checks(self) -> list[tuple[str, str]]:
        made = [content for _, path, content in self.asked if path.endswith("/check-runs")]
        assert all(content["head_sha"] == COMMIT for content in made)
        return [(content["name"], content["conclusion"]) for content in made]


@pytest.fixture
def github() -> Iterator[Fake]:
    fake = Fake()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            content = json.loads(self.rfile.read(length)) if length else None
            is_known = self.headers["Authorization"] == "Bearer secret"
            body = json.dumps(fake.answer(self.command, self.path, content)).encode()
            self.send_response(fake.status if is_known else 401)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = handle_any

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        fake.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield fake
        server.shutdown()
        thread.join()


def artifact(workspace: Path, name: str, case: str | None, *, number: str = "7\n", code: str | None = None) -> Path:
    folder = workspace / ".f5bench-artifacts" / f"f5bench-{name}"
    for i, content in enumerate([] if case is None else CASES[case][1]()):
        (folder / str(i)).mkdir(parents=True)
        (folder / str(i) / "verdict.json").write_text(to_json(content))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pull_request.txt").write_text(number)
    (folder / "exit_code.txt").write_text(f"{CODES[case or 'slower']}\n" if code is None else code)
    return folder.parent


def post(workspace: Path, github: Fake, *, number: str = "", token: str = "secret") -> subprocess.CompletedProcess[str]:
    """The step `comment` of the action, as GitHub starts it, with a python3 that finds no installed package."""
    action = yaml.safe_load((ACTION / "action.yml").read_text("utf-8"))
    script = next(step["run"] for step in action["runs"]["steps"] if step.get("name") == "comment")
    programs = workspace / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "python3").write_text(f'#!/bin/bash\nexec {sys.executable} -S "$@"\n')
    (programs / "python3").chmod(0o755)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}", "GITHUB_ACTION_PATH": str(ACTION),
        "GITHUB_WORKSPACE": str(workspace), "GITHUB_API_URL": github.url, "GITHUB_REPOSITORY": "theirs/speech",
        "GITHUB_TOKEN": token, "COMMIT": COMMIT,
        "NUMBER": number, "LINK": "https://github.example/theirs/speech/actions/runs/5#artifacts",
        "HOME": str(workspace), "PYTHONDONTWRITEBYTECODE": "1", "no_proxy": "127.0.0.1",
    }  # fmt: skip
    bash = shutil.which("bash")
    assert bash is not None
    return subprocess.run(
        [bash, "-e", "-o", "pipefail", "-c", script], cwd=workspace, env=environment, capture_output=True, text=True
    )


def test_one_comment_is_written_and_then_edited(tmp_path: Path, github: Fake) -> None:
    github.comments = [{"id": i, "user": {"type": "User"}, "body": f"{MARK} quoted by a person"} for i in range(130)]
    artifact(tmp_path / "first", "speed", "slower")
    done = post(tmp_path / "first", github)
    assert (done.returncode, "the comment was written" in done.stderr) == (0, True), done.stderr
    artifact(tmp_path / "second", "speed", "faster")
    assert "the comment was edited" in post(tmp_path / "second", github).stderr
    mine = [one["body"] for one in github.comments if one["user"]["type"] == "Bot"]
    assert len(mine) == 1
    assert mine[0].startswith(f"{MARK}\n\n### 🟢 12 % faster")
    assert "runs/5#artifacts" in mine[0]
    assert len(github.comments) == 131, "what people wrote is theirs"
    assert github.checks == [("f5bench speed", "failure"), ("f5bench speed", "success")]


@pytest.mark.parametrize("case", CODES)
def test_the_check_says_what_a_job_cannot(case: str, tmp_path: Path, github: Fake) -> None:
    artifact(tmp_path, "speed", case)
    assert post(tmp_path, github).returncode == 0
    wanted = {0: "success", 10: "failure", 11: "neutral", 12: "neutral", 14: "failure"}[CODES[case]]
    assert github.checks == [("f5bench speed", wanted)]


def test_several_measurements_are_one_comment_with_a_check_each(tmp_path: Path, github: Fake) -> None:
    artifact(tmp_path, "cpu", "faster")
    artifact(tmp_path, "gpu", "cannot_tell")
    assert post(tmp_path, github).returncode == 0
    assert github.checks == [("f5bench cpu", "success"), ("f5bench gpu", "neutral")]
    (body,) = (one["body"] for one in github.comments)
    assert ("### 🟢 cpu: 12 % faster" in body, "### ⚪ gpu: cannot tell" in body) == (True, True)


def test_a_job_that_knows_its_pull_request_needs_no_word_of_the_artifact(tmp_path: Path, github: Fake) -> None:
    artifact(tmp_path, "speed", "faster", number="")
    assert post(tmp_path, github, number="7").returncode == 0
    assert len(github.comments) == 1


def test_a_commit_that_is_not_the_newest_any_more_says_nothing(tmp_path: Path, github: Fake) -> None:
    github.head = "d" * 40
    artifact(tmp_path, "speed", "faster")
    done = post(tmp_path, github)
    assert (done.returncode, github.checks, github.comments) == (0, [], [])
    assert "its newest run comments" in done.stderr


@pytest.mark.parametrize("number", ["", "8; rm", "../1", "7\n8", "0", "07", "7 ", "٧", "9" * 70])
def test_an_artifact_that_lies_about_its_pull_request_is_refused(number: str, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="names no pull request"):
        pull_request_of(artifact(tmp_path, "speed", "faster", number=number))


def test_two_measurements_of_two_pull_requests_are_refused(tmp_path: Path) -> None:
    artifact(tmp_path, "a", "faster", number="7")
    with pytest.raises(RecordError, match="or two"):
        pull_request_of(artifact(tmp_path, "b", "faster", number="8"))


@pytest.mark.parametrize("code", ["constructor", "-1", "0x0", "00", "11 ", "__proto__", "14", "", "256"])
def test_an_exit_code_that_is_none_is_no_success(code: str, tmp_path: Path) -> None:
    (found,) = measurements_in(artifact(tmp_path, "speed", "faster", code=code), None)
    assert found.conclusion == "failure"


@pytest.mark.parametrize("name", ["A", "a b", "-a", "a" * 41, "ä"])
def test_a_folder_whose_name_is_none_is_left_alone(name: str, tmp_path: Path) -> None:
    artifact(tmp_path, name, "faster")
    assert [one.name for one in measurements_in(artifact(tmp_path, "b", "faster"), None)] == ["b"]


def test_a_verdict_that_cannot_be_read_is_red_and_hides_no_other(tmp_path: Path) -> None:
    artifact(tmp_path, "b", "faster")
    root = artifact(tmp_path, "a", "faster")
    (root / "f5bench-a" / "0" / "verdict.json").write_text("{")
    broken, fine = measurements_in(root, None)
    assert (broken.conclusion, fine.conclusion) == ("failure", "success")
    assert "cannot be read" in broken.sentence


def test_a_link_in_an_artifact_is_not_followed(tmp_path: Path) -> None:
    root = artifact(tmp_path, "speed", None)
    artifact(tmp_path / "elsewhere", "speed", "faster")
    verdict = tmp_path / "elsewhere" / ".f5bench-artifacts" / "f5bench-speed" / "0" / "verdict.json"
    (root / "f5bench-speed" / "verdict.json").symlink_to(verdict)
    (found,) = measurements_in(root, None)
    assert (found.conclusion, "is a link" in found.spoken[0].notes[0]) == ("failure", True)


def test_a_github_that_refuses_is_one_line_with_the_remedy(tmp_path: Path, github: Fake) -> None:
    artifact(tmp_path, "speed", "faster")
    done = post(tmp_path, github, token="wrong")
    assert done.returncode == 2
    assert done.stderr.startswith("error: GET pulls/7: GitHub says 401")
    assert "pull-requests: write" in done.stderr


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"GITHUB_TOKEN": ""}, "GITHUB_TOKEN: is not set"), ({"GITHUB_REPOSITORY": "a/b/c"}, "must be OWNER/NAME"),
        ({"GITHUB_API_URL": "http://evil.example"}, "must begin with https://"),
    ],
)  # fmt: skip
def test_a_token_goes_to_github_alone(changes: dict[str, str], said: str) -> None:
    whole = {"GITHUB_API_URL": "https://api.example", "GITHUB_REPOSITORY": "a/b", "GITHUB_TOKEN": "secret", **changes}
    with pytest.raises(RecordError, match=said):
        GitHub.of(whole)
