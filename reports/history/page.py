"""history.html: every course in one sortable table, what changed with its suspects, and a chart that can be zoomed.

One file, as all pages of f5bench: style, script and data inside it, nothing fetched from anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from metrics.verdict import WORDS, Outcome
from reports.history.courses import History, Series
from reports.history.review import Found, change_text, error_rate, sentence, suspects_text, when_text
from reports.history.suspects import SHORT
from reports.render.html import as_script, render_page
from reports.render.player import script_safe
from reports.words import ABSENT, significant

PERCENT = 100.0
BADGES: Mapping[Outcome, str] = {"PASS": "kept", "WARN": "undecided", "FAIL": "lost", "INCONCLUSIVE": "undecided"}
SPARK_WIDTH, SPARK_HEIGHT, MOST_SPARK = 120.0, 26.0, 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One course. place: in the data of the page; the numbers to sort by are None where there are none."""

    place: int
    series: Series
    badge: str
    spark: Markup
    newest: str
    change_pct: float | None
    detectable_pct: float | None

    @property
    def changed(self) -> str:
        return ABSENT if self.change_pct is None else f"{self.change_pct:+.1f} %"

    @property
    def detectable(self) -> str:
        return ABSENT if self.detectable_pct is None else f"{self.detectable_pct:.1f} %"


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """One change in words."""

    found: Found
    place: int
    change: str
    when: str
    suspects: str
    span: str


def render_history(history: History, found: Sequence[Found], markdown: str, content: Mapping[str, object]) -> str:
    """The whole file. content: what stands in history.json, for the chart."""
    lines = [_line(place, one) for place, one in enumerate(history.series)]
    sections = [("courses", "What the words mean")]
    sections += [("left-out", "Left out")] if history.left_out else []
    return render_page(
        "history.html.j2",
        title="f5bench: history",
        verdict=sentence(history, found),
        warnings=(),
        is_void=False,
        sections=sections,
        markdown=as_script(markdown),
        counts=[(outcome, BADGES[outcome], num, WORDS[outcome]) for outcome, num in history.counted().items()],
        error_rate=error_rate(history),
        worse=[_shown(one, history) for one in found if one.change.is_worse],
        better=[_shown(one, history) for one in found if not one.change.is_worse],
        lines=lines,
        hosts=sorted({one.host_class for one in history.series}),
        figures=list(dict.fromkeys(one.figure.title for one in history.series)),
        outcomes=list(history.counted()),
        left_out=history.left_out,
        data=as_script_value(content["series"]),
    )


def as_script_value(value: object) -> Markup:
    """A value as JSON that may stand in a script element."""
    return Markup(script_safe(json.dumps(value, ensure_ascii=False, separators=(",", ":"))))


def _line(place: int, series: Series) -> Line:
    course = series.course
    last = course.changes[-1] if course.changes else None
    is_ratio = series.figure.is_ratio
    return Line(
        place=place, series=series, badge=BADGES[course.outcome], spark=_spark(series),
        newest=significant(series.values[-1]),
        change_pct=PERCENT * (last.effect - 1) if last is not None and is_ratio else None,
        detectable_pct=None if course.detectable is None else PERCENT * (course.detectable - 1),
    )  # fmt: skip


def _shown(found: Found, history: History) -> Shown:
    suspects = found.suspects
    place = next(place for place, one in enumerate(history.series) if one is found.series)
    span = f"{(suspects.before or '')[:SHORT]}..{(suspects.after or '')[:SHORT]}"
    return Shown(
        found=found, place=place, change=change_text(found), when=when_text(found),
        suspects=suspects_text(suspects), span=span if suspects.commits.listed else "",
    )  # fmt: skip


def _spark(series: Series) -> Markup:
    """The newest runs as dots over their levels: decoration, the numbers stand beside it."""
    first = max(0, len(series.values) - MOST_SPARK)
    values = series.values[first:]
    low, high = min(values), max(values)
    spread = high - low or 1.0

    def x(place: float) -> float:
        return 3 + (SPARK_WIDTH - 6) * (place - first) / max(1, len(values) - 1)

    def y(value: float) -> float:
        clipped = min(max(value, low), high)
        return SPARK_HEIGHT - 4 - (SPARK_HEIGHT - 8) * ((clipped - low) / spread if high > low else 0.5)

    levels = series.course.levels
    ends = [place for place, _ in levels[1:]] + [len(series.values)]
    steps = "".join(
        f"M{x(max(start, first)):.1f} {y(value):.1f}H{x(end - 1):.1f}"
        for (start, value), end in zip(levels, ends, strict=True)
        if end > first
    )
    dots = "".join(f'<circle cx="{x(first + i):.1f}" cy="{y(value):.1f}" r="1.6"/>' for i, value in enumerate(values))
    return Markup(
        f'<svg aria-hidden="true" width="{SPARK_WIDTH:g}" height="{SPARK_HEIGHT:g}">'
        f'<path class="whisker" d="{steps}"/><g class="dots">{dots}</g></svg>'
    )
