"""What git says of the folder that holds this code: a commit, or why there is none and what to do about it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

from engine.contract import ConfigError
from metrics.parts.environment import Commit

TIMEOUT_S = 10.0
NOTHING_SUCH = 1  # the exit code of `git rev-parse --verify --quiet` for what is no object; 128 where it did not look


class GitRefused(Exception):
    """Git gave no answer about this folder."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason, self.remedy = reason, remedy

    def of(self, key: str, value: object) -> ConfigError:
        """The same as a mistake in a setting."""
        return ConfigError(key, value, self.reason, self.remedy)


def git(root: Path, *arguments: str, timeout_s: float | None = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
    """Its answer in English, whatever its exit code. Raises GitRefused where the program is missing or hangs."""
    command = ["git", "-C", str(root), *arguments]
    english = {**os.environ, "LC_ALL": "C", "LANGUAGE": "C"}
    try:
        return subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", errors="replace", env=english,
            timeout=timeout_s, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise GitRefused("git is not installed", "apt-get install git") from None
    except subprocess.TimeoutExpired:
        raise GitRefused(f"git did not answer within {timeout_s:g} s", f"see {shlex.join(command)}") from None


def refusal(root: Path, done: subprocess.CompletedProcess[str]) -> GitRefused:
    """Why a call failed, from what git printed."""
    said = " ".join(done.stderr.split())
    if "dubious ownership" in said:
        owner = "git trusts no repository of another user (dubious ownership), and this folder is one"
        return GitRefused(owner, _trust(_untrusted(root, done.stderr)))
    if "not a git repository" in said:
        return GitRefused(f"{root} is no git repository", "make it with git clone: an archive holds no commits")
    first = said.removeprefix("fatal: ") or f"git ended with {done.returncode}"
    return GitRefused(f"git says: {first}", f"see {shlex.join(['git', '-C', str(root), 'status'])}")


def _untrusted(root: Path, stderr: str) -> str:
    """The folder as git wants to hear it, which for a worktree is another one than `root`."""
    found = re.search(r"safe\.directory (.+)$", stderr, re.MULTILINE)
    return shlex.split(found.group(1))[0] if found else str(root)


def _trust(folder: str) -> str:
    """For this user; where they have no home that could be written, for the programs of this shell."""
    home = os.environ.get("HOME", "")
    if home and os.access(home, os.W_OK):
        return shlex.join(["git", "config", "--global", "--add", "safe.directory", folder])
    return f"export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0={shlex.quote(folder)}"


def commit_of(key: str, revision: str, root: Path) -> str:
    """The full hash. Raises ConfigError for what git does not know, or where it gives no answer."""
    try:
        done = git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        if done.returncode == 0 and revision:
            return done.stdout.strip()
        if done.returncode not in (0, NOTHING_SUCH):
            raise refusal(root, done)
        raise _unknown(root, revision)
    except GitRefused as refused:
        raise refused.of(key, revision) from None


def _unknown(root: Path, revision: str) -> GitRefused:
    here = shlex.join(["git", "-C", str(root)])
    if git(root, "rev-parse", "--verify", "--quiet", "HEAD").returncode != 0:
        return GitRefused("this repository has no commit yet", "commit what is to be compared")
    if git(root, "rev-parse", "--is-shallow-repository").stdout.strip() == "true":
        count = git(root, "rev-list", "--count", "HEAD").stdout.strip()
        words = f"this clone is shallow: git knows {count} commit(s) before {revision} is reached"
        return GitRefused(words, f"{here} fetch --unshallow, or in part: {here} fetch --deepen=100")
    return GitRefused("git knows no such commit here", f"{here} log --oneline --all lists them, {here} fetch gets more")


def git_state(root: Path) -> Commit:
    """git_commit and git_dirty of the record; git_reason says why there is no commit, null where there is one."""
    try:
        done = git(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        if done.returncode == NOTHING_SUCH:
            raise GitRefused("this repository has no commit yet", "commit the code that is measured")
        status = git(root, "status", "--porcelain") if done.returncode == 0 else done
        if status.returncode != 0:
            raise refusal(root, status)
    except GitRefused as refused:
        return {"git_commit": None, "git_dirty": None, "git_reason": str(refused)}
    return {"git_commit": done.stdout.strip(), "git_dirty": bool(status.stdout.strip()), "git_reason": None}
