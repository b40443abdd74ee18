"""Small drawings for the page as inline SVG: classes instead of colours, so that they follow the page into the dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

BAR_WIDTH, BAR_HEIGHT = 150.0, 14.0
STAGE_CLASSES = ("s1", "s2", "s3", "s4", "s5")
STRIP_WIDTH, STRIP_HEIGHT = 360.0, 22.0
STRIP_ROWS = (0.0, 3.0, -3.0, 1.5, -1.5, 4.5, -4.5)  # a fixed pattern: the same picture each time
MOST_DOTS = 300
ONE_TWO_FIVE = (1.0, 2.0, 5.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class LogScale:
    """Values above 0 -> pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """1, 2, 5, 10 and so on within the scale; finer where that gives fewer than three."""
        for parts in (ONE_TWO_FIVE, (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0), tuple(1 + k / 10 for k in range(90))):
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            found = [part * 10.0**power for power in range(first, last + 1) for part in parts]
            shown = [value for value in found if self.low <= value <= self.high]
            if len(shown) >= 3:
                return shown
        return shown


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearScale:
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def interval_bar(value: float, low: float | None, high: float | None, most: float) -> Markup:
    """A bar from 0 with its interval as a whisker, on a scale up to `most`. The number stands beside it in words."""
    scale = LinearScale(low=0.0, high=most, start=1.0, end=BAR_WIDTH - 1.0)
    middle = BAR_HEIGHT / 2
    whisker = ""
    if low is not None and high is not None:
        a, b = scale(max(low, 0.0)), scale(min(high, most))
        whisker = (
            f'<path class="whisker" d="M{a:.1f} {middle}H{b:.1f}M{a:.1f} {middle - 4}V{middle + 4}'
            f'M{b:.1f} {middle - 4}V{middle + 4}"/>'
        )
    body = (
        f'<rect class="bar" x="1" y="2" width="{max(1.0, scale(value) - 1):.1f}" height="{BAR_HEIGHT - 4}"/>{whisker}'
    )
    return _hidden(BAR_WIDTH, BAR_HEIGHT, body)


def stage_bar(parts_pct: Sequence[float]) -> Markup:
    """Shares of a call beside each other, in the order of STAGE_CLASSES; the numbers stand in the row."""
    left, body = 0.0, ""
    for name, share in zip(STAGE_CLASSES, parts_pct, strict=False):
        width = share / 100 * BAR_WIDTH
        body += f'<rect class="{name}" x="{left:.1f}" y="1" width="{width:.1f}" height="{BAR_HEIGHT - 2}"/>'
        left += width
    return _hidden(BAR_WIDTH, BAR_HEIGHT, body)


def call_strip(times_ms: Sequence[float], p50_ms: float, scale: LogScale) -> Markup:
    """Every call as a dot, the median as a line; of more than MOST_DOTS calls evenly chosen ones in order of time."""
    ordered = sorted(times_ms)
    step = max(1, math.ceil(len(ordered) / MOST_DOTS))
    middle = STRIP_HEIGHT / 2
    dots = "".join(
        f'<circle cx="{scale(time):.1f}" cy="{middle + STRIP_ROWS[place % len(STRIP_ROWS)]}" r="1.8"/>'
        for place, time in enumerate(ordered[::step])
    )
    x = scale(p50_ms)
    return _hidden(STRIP_WIDTH, STRIP_HEIGHT, f'<g class="dots">{dots}</g><path class="whisker" d="M{x:.1f} 1V21"/>')


def symbol(kind: str, x: float, y: float, size: float = 6.5) -> str:
    """The mark of a verdict: its shape says what its colour says. Kinds of reports.data.judged."""
    points = {
        "lost": [(-1.1, -0.9), (1.1, -0.9), (0.0, 1.1)],
        "undecided": [(0.0, -1.2), (1.2, 0.0), (0.0, 1.2), (-1.2, 0.0)],
        "base": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        "reference": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    }.get(kind)
    if points is None:
        return f'<circle class="mark {kind}" cx="{x:.1f}" cy="{y:.1f}" r="{size}"/>'
    corners = " ".join(f"{x + size * dx:.1f},{y + size * dy:.1f}" for dx, dy in points)
    return f'<polygon class="mark {kind}" points="{corners}"/>'


def legend_symbol(kind: str) -> Markup:
    """The same mark for a line of words."""
    return _hidden(18.0, 18.0, symbol(kind, 9.0, 9.0))


def picture(kind: str, size: tuple[float, float], body: str, alt: str) -> Markup:
    """A drawing that says something of its own, with the same in words for those who cannot see it."""
    head = f'<svg class="chart {kind}" role="img" viewBox="0 0 {size[0]:g} {size[1]:g}" aria-label="{escape(alt)}">'
    return Markup(f"{head}{body}</svg>")


def _hidden(width: float, height: float, body: str) -> Markup:
    return Markup(f'<svg aria-hidden="true" width="{width:g}" height="{height:g}">{body}</svg>')
