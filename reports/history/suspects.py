"""What may have made a change: the commits between the runs before and after it, and what else was not the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from baselines.history.course import Change
from reports.history.courses import Series

MOST_COMMITS = 20
SHORT = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Commits:
    """Newest first, (hash, subject), at most MOST_COMMITS of num_all; reason: why there are none to name."""

    listed: tuple[tuple[str, str], ...] = ()
    num_all: int = 0
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspects:
    """before, after: the last commit surely of the old level, the first surely of the new one. other: versions and
    settings that changed meanwhile. is_dirty: whether one of the two had uncommitted changes."""

    before: str | None
    after: str | None
    commits: Commits
    other: tuple[str, ...]
    is_dirty: bool


# (the older commit, the newer one) -> those after the older, up to the newer
Log = Callable[[str, str], Commits]


def no_log(before: str, after: str) -> Commits:
    """Where there is no repository to ask."""
    return Commits(reason="no repository was asked")


def suspects_of(series: Series, change: Change, log: Log) -> Suspects:
    before, after = series.runs[change.first - 1], series.runs[change.last]
    names = sorted({*before.setting, *after.setting})
    pairs = ((name, before.setting.get(name, "none"), after.setting.get(name, "none")) for name in names)
    if before.commit is None or after.commit is None:
        commits = Commits(reason="a run does not know its commit")
    elif before.commit == after.commit:
        commits = Commits(reason="the code is of one commit")
    else:
        commits = log(before.commit, after.commit)
    return Suspects(
        before=before.commit, after=after.commit, commits=commits,
        other=tuple(f"{name} {old} -> {new}" for name, old, new in pairs if old != new),
        is_dirty=before.is_dirty or after.is_dirty,
    )  # fmt: skip


def content_of(suspects: Suspects) -> Mapping[str, object]:
    """For JSON."""
    return {
        "before": suspects.before, "after": suspects.after, "num_commits": suspects.commits.num_all,
        "commits": [{"commit": name, "subject": subject} for name, subject in suspects.commits.listed],
        "reason": suspects.commits.reason, "other": list(suspects.other), "is_dirty": suspects.is_dirty,
    }  # fmt: skip
