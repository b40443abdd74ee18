"""Measured variants -> one judged course per host class, variant and figure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from baselines.history.course import Change, Course, CourseLimits, judge_course
from metrics.verdict import SEVERITY, Outcome, worst
from reports.history.figures import FIGURES, Figure
from reports.history.reading import LeftOut, Measured, Reading


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """values: what is judged, of each run; is_paced: brought to the usual pace of the machine by each run's own
    calibration, so that they are not the figures as measured (`raw`)."""

    host_class: str
    variant: str
    task: str
    figure: Figure
    runs: tuple[Measured, ...]
    values: tuple[float, ...]
    is_paced: bool
    course: Course

    @property
    def raw(self) -> tuple[float, ...]:
        return tuple(run.figures[self.figure.key] for run in self.runs)

    @property
    def num_now(self) -> int:
        """Runs since the last change."""
        return len(self.values) - self.course.levels[-1][0]

    def changes_since(self, since: datetime) -> list[Change]:
        return [change for change in self.course.changes if self.runs[change.found].created >= since]


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """Of everything that was read, the worst first. since: the first moment under review; the last is the newest
    run's, so a history of old runs is reviewed as it was then."""

    series: tuple[Series, ...]
    left_out: tuple[LeftOut, ...]
    limits: CourseLimits
    since: datetime
    until: datetime

    @property
    def outcome(self) -> Outcome:
        return worst(one.course.outcome for one in self.series)

    def counted(self) -> Mapping[Outcome, int]:
        outcomes = [one.course.outcome for one in self.series]
        return {outcome: outcomes.count(outcome) for outcome in reversed(SEVERITY) if outcome in outcomes}


def history_of(reading: Reading, limits: CourseLimits, review: timedelta) -> History:
    """Raises ValueError where nothing was measured."""
    if not reading.measured:
        raise ValueError("nothing was measured")
    until = max(run.created for run in reading.measured)
    since = until - review
    found = [
        _series(runs, figure, limits, since)
        for runs in _grouped(reading.measured)
        for figure in FIGURES
        if any(figure.key in run.figures for run in runs)
    ]
    found.sort(key=lambda one: (-SEVERITY.index(one.course.outcome), one.host_class, one.variant))
    return History(series=tuple(found), left_out=reading.left_out, limits=limits, since=since, until=until)


def _grouped(measured: Iterable[Measured]) -> list[list[Measured]]:
    groups: dict[tuple[str, str, str], list[Measured]] = {}
    for run in measured:
        groups.setdefault((run.host_class, run.variant, run.task), []).append(run)
    return [sorted(runs, key=lambda run: (run.created, run.run_id)) for _, runs in sorted(groups.items())]


def _series(runs: Sequence[Measured], figure: Figure, limits: CourseLimits, since: datetime) -> Series:
    having = tuple(run for run in runs if figure.key in run.figures)
    paces_s = [run.pace_s for run in having if run.pace_s is not None]
    is_paced = figure.is_paced and len(paces_s) == len(having)
    usual_s = statistics.median(paces_s) if is_paced else 1.0
    values = tuple(run.figures[figure.key] * (usual_s / (run.pace_s or 1.0) if is_paced else 1.0) for run in having)
    first = next((place for place, run in enumerate(having) if run.created >= since), len(having))
    # A mean error of exactly 0 has no logarithm
    is_ratio = figure.is_ratio and min(values) > 0
    course = judge_course(values, limits, better=figure.better, is_ratio=is_ratio, since=first)
    return Series(
        host_class=having[0].host_class, variant=having[0].variant, task=having[0].task, figure=figure, runs=having,
        values=values, is_paced=is_paced, course=course,
    )  # fmt: skip
