"""A git revision as a side: its own temporary worktree, whose engine and configuration are then used."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.contract import ConfigError
from experiments.compose import ROOT

MEASURED = ("engine", "conf")  # what a side runs; the measuring code is always this tree's


def commit_of(key: str, revision: str, root: Path = ROOT) -> str:
    """The full hash. Raises ConfigError for what git does not know, or no git."""
    done = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if done.returncode != 0 or not revision:
        raise ConfigError(key, revision, "git knows no such commit here", "git log --oneline lists them")
    return done.stdout.strip()


def refuse_uncommitted(key: str, root: Path = ROOT) -> None:
    """A tree that is compared with a revision must be one itself, or the verdict names code that nobody can find."""
    done = _git(root, "status", "--porcelain", "--", *MEASURED)
    if done.returncode != 0 or done.stdout.strip():
        changed = done.stdout.split("\n")[0].strip() or "no git repository"
        raise ConfigError(
            key, "(this tree)", f"has uncommitted changes ({changed})", f"commit or stash them, or set {key}=HEAD"
        )


@contextmanager
def worktree(key: str, revision: str, root: Path = ROOT) -> Iterator[Path]:
    """A checkout of the revision, gone afterwards. Raises ConfigError."""
    commit = commit_of(key, revision, root)
    with tempfile.TemporaryDirectory(prefix="f5bench-") as folder:
        tree = Path(folder).resolve() / "tree"
        done = _git(root, "worktree", "add", "--detach", "--force", str(tree), commit)
        if done.returncode != 0:
            raise ConfigError(key, revision, f"git cannot check it out ({_line(done.stderr)})", "see git worktree list")
        try:
            if not (tree / "engine" / "build.py").is_file():
                raise ConfigError(key, revision, "has no engine package", "choose a later commit")
            yield tree
        finally:
            _git(root, "worktree", "remove", "--force", str(tree))


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    except FileNotFoundError:
        raise ConfigError("revision", arguments[-1], "needs git, which is not installed", "install git") from None


def _line(text: str) -> str:
    return " ".join(text.split())
