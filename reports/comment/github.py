"""The five requests to GitHub that a comment and its check need. Standard library only: this job installs nothing.

GITHUB_API_URL, GITHUB_REPOSITORY and GITHUB_TOKEN are what Actions gives a step.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metrics.record import RecordError

LIMIT_S = 30.0
PER_PAGE = 100
MOST_PAGES = 30  # 3000 comments: a pull request of that length has ours on its first pages
REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class GitHub:
    """api: its address. repository: OWNER/NAME. token: may write comments and checks. Methods raise RecordError."""

    api: str
    repository: str
    token: str

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> GitHub:
        for name in ("GITHUB_API_URL", "GITHUB_REPOSITORY", "GITHUB_TOKEN"):
            if not environment.get(name):
                raise RecordError(
                    f"{name}: is not set; --post runs in a step of GitHub Actions, with GITHUB_TOKEN in env"
                )
        repository = environment["GITHUB_REPOSITORY"]
        if not REPOSITORY.fullmatch(repository):
            raise RecordError(f"GITHUB_REPOSITORY={repository}: must be OWNER/NAME; leave it as Actions sets it")
        api = environment["GITHUB_API_URL"].rstrip("/")
        if not re.match(r"https://|http://127\.0\.0\.1[:/]", api):
            raise RecordError(f"GITHUB_API_URL={api}: must begin with https://; leave it as Actions sets it")
        return cls(api=api, repository=repository, token=environment["GITHUB_TOKEN"])

    def head_of(self, number: int) -> str:
        """The newest commit of a pull request."""
        return str(self._ask("GET", f"pulls/{number}")["head"]["sha"])

    def upsert(self, number: int, mark: str, body: str) -> bool:
        """Edit the bot's comment that begins with `mark`, or write it. True where there was one."""
        for page in range(1, MOST_PAGES + 1):
            comments = self._ask("GET", f"issues/{number}/comments?per_page={PER_PAGE}&page={page}")
            for comment in comments:
                if comment["user"]["type"] == "Bot" and str(comment["body"]).startswith(mark):
                    self._ask("PATCH", f"issues/comments/{int(comment['id'])}", {"body": body})
                    return True
            if len(comments) < PER_PAGE:
                break
        self._ask("POST", f"issues/{number}/comments", {"body": body})
        return False

    def check(self, commit: str, name: str, conclusion: str, title: str, summary: str) -> None:
        """A check of its own on the commit: success, failure, or neutral, which a job by itself cannot be."""
        output = {"title": title[:250], "summary": summary}
        content = {"name": name, "head_sha": commit, "status": "completed", "conclusion": conclusion, "output": output}
        self._ask("POST", "check-runs", content)

    def _ask(self, method: str, path: str, content: Mapping[str, object] | None = None) -> Any:
        address = f"{self.api}/repos/{self.repository}/{path}"
        request = urllib.request.Request(
            address, method=method, data=None if content is None else json.dumps(content).encode(),
            headers={
                "Authorization": f"Bearer {self.token}", "Accept": "application/vnd.github+json",
                "Content-Type": "application/json", "X-GitHub-Api-Version": "2022-11-28", "User-Agent": "f5bench",
            },
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise RecordError(
                f"{method} {path}: GitHub says {error.code} {error.reason}; {_remedy(error.code)}"
            ) from error
        except (urllib.error.URLError, TimeoutError, ValueError) as error:
            raise RecordError(f"{method} {path}: no answer from GitHub ({error}); run the job again") from error


def _remedy(status: int) -> str:
    if status in (401, 403, 404):
        return "the job needs permissions: pull-requests: write, checks: write"
    return "run the job again"
