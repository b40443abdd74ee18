"""A git revision as a side: its own temporary worktree, whose engine and configuration are then used."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.contract import ConfigError
from engine.paths import ROOT
from experiments.common.repository import GitRefused, commit_of, git, refusal

MEASURED = ("engine", "conf")  # what a side runs; the measuring code is always this tree's


def refuse_uncommitted(key: str, root: Path = ROOT) -> None:
    """A tree that is compared with a revision must be one itself, or the verdict names code that nobody can find."""
    done = _answered(key, "(this tree)", root, "status", "--porcelain", "--", *MEASURED)
    if done.returncode != 0:
        raise refusal(root, done).of(key, "(this tree)")
    if done.stdout.strip():
        changed = done.stdout.split("\n")[0].strip()
        raise ConfigError(
            key, "(this tree)", f"has uncommitted changes ({changed})", f"commit or stash them, or set {key}=HEAD"
        )


@contextmanager
def worktree(key: str, revision: str, root: Path = ROOT, holds: str | None = "engine/build.py") -> Iterator[Path]:
    """A checkout of the revision, gone afterwards. holds: a file that it must have. Raises ConfigError."""
    commit = commit_of(key, revision, root)
    with tempfile.TemporaryDirectory(prefix="f5bench-") as folder:
        tree = Path(folder).resolve() / "tree"
        done = git(root, "worktree", "add", "--detach", "--force", str(tree), commit, timeout_s=None)
        if done.returncode != 0:
            raise refusal(root, done).of(key, revision)
        try:
            if holds is not None and not (tree / holds).is_file():
                raise ConfigError(key, revision, "has no engine package", "choose a later commit")
            yield tree
        finally:
            git(root, "worktree", "remove", "--force", str(tree), timeout_s=None)


def _answered(key: str, value: str, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return git(root, *arguments)
    except GitRefused as refused:
        raise refused.of(key, value) from None
