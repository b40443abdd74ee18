"""The review of a history in Markdown: what changed and its suspects, what cannot be told, what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from baselines.history.course import RULE, Change
from reports.history.courses import History, Series
from reports.history.suspects import SHORT, Log, Suspects, content_of, suspects_of
from reports.words import listed, plural, significant

SCHEMA_VERSION = 1
PERCENT = 100.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One change of one course with what may have made it."""

    series: Series
    change: Change
    suspects: Suspects


def found_in(history: History, log: Log) -> list[Found]:
    """The changes of the time under review, the worst first."""
    found = [
        Found(series=series, change=change, suspects=suspects_of(series, change, log))
        for series in history.series
        for change in series.changes_since(history.since)
    ]
    return sorted(found, key=lambda one: not one.change.is_worse)


def sentence(history: History, found: Sequence[Found]) -> str:
    """The history in one sentence, after what there is too little of where courses are too short to be judged."""
    worse = {id(one.series) for one in found if one.change.is_worse}
    better = {id(one.series) for one in found} - worse
    unsure = sum(one.course.outcome == "INCONCLUSIVE" for one in history.series)
    said = [
        f"{plural(len(worse), 'course')} of {len(history.series)} worse" if worse
        else f"None of {plural(len(history.series), 'course')} worse"
    ]  # fmt: skip
    said += [f"{len(better)} better"] if better else []
    said += [f"{unsure} cannot tell"] if unsure else []
    return f"{_too_short(history)}{', '.join(said)}, {period(history)}."


def _too_short(history: History) -> str:
    num = sum(one.course.outcome == "INCONCLUSIVE" and one.num_now < history.limits.fewest for one in history.series)
    if num == 0:
        return ""
    needed = f"A course needs {history.limits.fewest} runs of one level before it can be judged"
    return f"{needed}; {num} of {len(history.series)} {'has' if num == 1 else 'have'} fewer. "


def period(history: History) -> str:
    return f"from {history.since:%Y-%m-%d} to {history.until:%Y-%m-%d}"


def error_rate(history: History) -> str:
    """By what right it is said."""
    limits = history.limits
    alarms, caught = PERCENT * limits.false_alarm_frac, PERCENT * (limits.catch_ratio - 1)
    return (
        f"Rule {RULE}: of courses in which nothing changes at most {alarms:g} % alarm in {limits.runs_a_month} runs, "
        f"where runs do not hang together (a permutation test at p <= {limits.p_limit:.2g} a run). INCONCLUSIVE: "
        f"a change of {caught:g} % might not be found within {limits.found_within} runs."
    )


def change_text(found: Found) -> str:
    """+5.1 % (+3.9 to +6.4 %), or the difference in the figure's own unit."""
    change, is_ratio = found.change, found.series.figure.is_ratio
    if is_ratio:
        low, middle, high = (PERCENT * (value - 1) for value in (change.low, change.effect, change.high))
        return f"{middle:+.1f} % ({low:+.1f} to {high:+.1f} %)"
    return f"{change.effect:+.3g} ({change.low:+.3g} to {change.high:+.3g})"


def when_text(found: Found) -> str:
    """The first run of the new level, and between which runs that may be."""
    runs, change = found.series.runs, found.change
    said = f"{runs[change.place].created:%Y-%m-%d %H:%M}"
    if change.first == change.last:
        return said
    return f"{said} (of {change.last - change.first + 1} runs any)"


def suspects_text(suspects: Suspects) -> str:
    """In one cell: other things first, for they are fewer."""
    said = list(suspects.other)
    commits = suspects.commits
    if commits.listed:
        said.append(f"{plural(commits.num_all, 'commit')}: {listed([name[:SHORT] for name, _ in commits.listed], 4)}")
    elif commits.reason:
        said.append(commits.reason)
    if suspects.is_dirty:
        said.append("uncommitted changes")
    return "; ".join(said)


def review(history: History, found: Sequence[Found]) -> str:
    """The whole text."""
    lines = ["# History", "", sentence(history, found), "", error_rate(history), ""]
    for title, wanted in (("Worse", True), ("Better", False)):
        rows = [one for one in found if one.change.is_worse is wanted]
        if rows:
            lines += [f"## {title}", "", *_changes(rows), "", *_named(rows)]
    lines += ["## Courses by verdict", "", *_counts(history), ""]
    lines += _unsure(history)
    if history.left_out:
        lines += ["## Left out", "", *(f"- {one.where}: {_cell(one.reason)}" for one in history.left_out), ""]
    return "\n".join(lines)


def _changes(rows: Sequence[Found]) -> Iterator[str]:
    yield "| host class | variant | figure | change | since | found | suspects |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for one in rows:
        series, change = one.series, one.change
        cells = (
            series.host_class, series.variant, series.figure.title, change_text(one), when_text(one),
            f"after {plural(change.found - change.place + 1, 'run')}, p {change.p_value:.1g}",
            suspects_text(one.suspects),
        )  # fmt: skip
        yield f"| {' | '.join(map(_cell, cells))} |"


def _named(rows: Sequence[Found]) -> Iterator[str]:
    """The commits with their subjects, once a span."""
    spans = {(one.suspects.before, one.suspects.after): one.suspects for one in rows if one.suspects.commits.listed}
    for suspects in spans.values():
        commits = suspects.commits
        more = commits.num_all - len(commits.listed)
        yield f"Commits after {str(suspects.before)[:SHORT]} up to {str(suspects.after)[:SHORT]}:"
        yield ""
        yield from (f"- `{name[:SHORT]}` {subject}" for name, subject in commits.listed)
        if more:
            yield f"- and {more} more"
        yield ""


def _counts(history: History) -> Iterator[str]:
    yield "| host class | courses | runs | PASS | WARN | FAIL | INCONCLUSIVE |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for host in sorted({one.host_class for one in history.series}):
        own = [one for one in history.series if one.host_class == host]
        counts = Counter(one.course.outcome for one in own)
        runs = len({run.run_id for one in own for run in one.runs})
        cells = (counts[outcome] for outcome in ("PASS", "WARN", "FAIL", "INCONCLUSIVE"))
        yield f"| {host} | {len(own)} | {runs} | {' | '.join(map(str, cells))} |"


def _unsure(history: History) -> list[str]:
    reasons = Counter(one.course.reason for one in history.series if one.course.outcome == "INCONCLUSIVE")
    lines = [f"- {plural(num, 'course')}: {reason}" for reason, num in reasons.most_common()]
    return ["## Cannot tell", "", *lines, ""] if lines else []


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def content(history: History, found: Sequence[Found]) -> dict[str, Any]:
    """history.json: every course with its runs, for machines and for the page."""
    return {
        "schema_version": SCHEMA_VERSION, "rule": RULE, "outcome": history.outcome,
        "since": history.since.isoformat(), "until": history.until.isoformat(),
        "limits": {
            "catch_ratio": history.limits.catch_ratio, "false_alarm_frac": history.limits.false_alarm_frac,
            "runs_a_month": history.limits.runs_a_month, "found_within": history.limits.found_within,
        },
        "series": [_series(one, found) for one in history.series],
        "left_out": [{"where": one.where, "reason": one.reason} for one in history.left_out],
    }  # fmt: skip


def _series(series: Series, found: Sequence[Found]) -> dict[str, object]:
    suspects = {one.change.place: content_of(one.suspects) for one in found if one.series is series}
    course = series.course
    return {
        "host_class": series.host_class, "variant": series.variant, "task": series.task, "figure": series.figure.key,
        "is_paced": series.is_paced, "outcome": course.outcome, "reason": course.reason, "sd": course.sd,
        "detectable": course.detectable, "levels": [list(level) for level in course.levels],
        "changes": [
            {
                "place": one.place, "first": one.first, "last": one.last, "found": one.found, "effect": one.effect,
                "low": one.low, "high": one.high, "p_value": one.p_value, "is_worse": one.is_worse,
                "suspects": suspects.get(one.place),
            }
            for one in course.changes
        ],
        "runs": [
            {"run_id": run.run_id, "created": run.created.isoformat(), "commit": run.commit, "value": value, "raw": raw}
            for run, value, raw in zip(series.runs, series.values, series.raw, strict=True)
        ],
    }  # fmt: skip


def newest(series: Series) -> str:
    return significant(series.values[-1])
