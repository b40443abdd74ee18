"""The commits of a walk, from git: the line from the revision that was fast to the one that is slow."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.contract import ConfigError
from experiments.common.repository import GitRefused, commit_of, git, refusal


@dataclass(frozen=True, kw_only=True, slots=True)
class Revision:
    commit: str
    subject: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """revisions: 0 is the one that was fast, then those after it that can matter. num_commits: after it in all.

    of: the folders by which they were chosen, none for all.
    """

    revisions: tuple[Revision, ...]
    num_commits: int
    of: tuple[str, ...]


def line_between(good: str, bad: str, root: Path, measured: Sequence[str] = ()) -> Line:
    """The first-parent line, oldest first: a merge stands for what it brought.

    measured: folders that are all of a revision that is measured; a commit that changes none of them is left out, for
    it is the same code as the one before. Raises ConfigError where good does not lie on the line to bad.
    """
    first, last = commit_of("good", good, root), commit_of("bad", bad, root)
    if first == last:
        raise ConfigError("bad", bad, f"is the same commit as good={good}", "name an earlier good, or a later bad")
    commits = _log(root, first, last)
    if not commits or commits[0][1].split(" ")[0] != first:
        listed = shlex.join(["git", "-C", str(root), "log", "--oneline", "--first-parent", last[:12]])
        remedy = f"choose one that this lists: {listed}"
        raise ConfigError("good", good, f"is not on the line of first parents that leads to bad={bad}", remedy)
    chosen = {commit for commit, _, _ in _log(root, first, last, measured)}
    after = [Revision(commit=commit, subject=subject) for commit, _, subject in commits if commit in chosen]
    if not after:
        said = f"none of the {len(commits)} commits after good={good} changes {' or '.join(measured)}"
        raise ConfigError("bad", bad, said, "what is measured is the same in both; look elsewhere for the cause")
    head = Revision(commit=first, subject=_said(root, "log", "-1", "--format=%s", first)[0])
    return Line(revisions=(head, *after), num_commits=len(commits), of=tuple(measured))


def inside_of_merge(commit: str, root: Path) -> tuple[str, str] | None:
    """(where the merged branch left the line, its tip); None for a commit that merged nothing, or several branches."""
    parents = _said(root, "log", "-1", "--format=%P", commit)[0].split()
    if len(parents) != 2:
        return None
    base = git(root, "merge-base", *parents)
    return (base.stdout.strip(), parents[1]) if base.returncode == 0 else None


def _log(root: Path, first: str, last: str, paths: Sequence[str] = ()) -> list[tuple[str, str, str]]:
    """(commit, parents, subject)."""
    below = ("--", *paths) if paths else ()
    asked = ("log", "--first-parent", "--reverse", "--format=%H%x09%P%x09%s", f"{first}..{last}", *below)
    fields = [line.split("\t", 2) for line in _said(root, *asked)]
    return [(commit, parents, subject) for commit, parents, subject in fields]


def _said(root: Path, *words: str) -> list[str]:
    """Lines. Raises ConfigError."""
    try:
        done = git(root, *words, timeout_s=None)
        if done.returncode != 0:
            raise refusal(root, done)
    except GitRefused as refused:
        raise refused.of("good", "(its log)") from None
    return done.stdout.splitlines()
