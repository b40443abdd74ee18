"""Speed against quality as inline SVG: up and to the right is better, and every point has its name beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

from reports.data.judged import Kind, judged_rows
from reports.data.quality import LOG_MEL, PESQ, WER
from reports.data.ratios import times_of
from reports.data.table import Row, Table
from reports.render.svg import LinearScale, LogScale, picture, symbol
from reports.sections.scores import score_scale, score_text
from reports.words import significant

LEFT, RIGHT, TOP, BOTTOM = 58.0, 16.0, 26.0, 46.0
CHAR, LINE = 6.6, 15.0  # of the labels' font, in pixels of the drawing
MOST_PANELS = 2
ROOM = 1.5  # of the speeds, at both ends
AXES = {
    LOG_MEL: ("distance from the reference, nats (log-mel error; up is closer)", False),
    WER: ("words misheard, % (up is fewer)", False),
    PESQ: ("PESQ-WB against the reference (up is closer)", True),
}
# Where a label may stand: offset of its nearer edge from the point, and how it hangs on it
PLACES = [
    (dx * radius, dy * radius, anchor)
    for radius in (11.0, 20.0, 32.0, 46.0, 62.0, 80.0, 102.0, 126.0)
    for dx, dy, anchor in (
        (1.0, 0.0, "start"), (-1.0, 0.0, "end"), (0.7, -0.8, "start"), (0.7, 0.8, "start"),
        (-0.7, -0.8, "end"), (-0.7, 0.8, "end"), (0.0, -1.3, "middle"), (0.0, 1.5, "middle"),
    )
]  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """What is drawn on, in pixels; the page shows one of the two by its own width."""

    kind: str
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.width - RIGHT

    @property
    def foot(self) -> float:
        return self.height - BOTTOM


SHEETS = (Sheet(kind="wide", width=640.0, height=430.0), Sheet(kind="narrow", width=360.0, height=440.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """x: speed; y: the score as printed; kind: what the row lost."""

    label: str
    kind: Kind
    x: float
    y: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def shared(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)


def scatters(table: Table) -> tuple[Markup, ...]:
    """One drawing per score, two at most, of scores that two rows have beside a speed; each once for every sheet."""
    drawn = []
    for metric in (LOG_MEL, WER, PESQ):
        points = points_of(table, metric)
        if len(points) > 1 and len({point.x for point in points}) > 1:
            drawn.append([_panel(points, metric, table, sheet) for sheet in SHEETS])
    return tuple(panel for panels in drawn[:MOST_PANELS] for panel in panels)


def drawn_kinds(table: Table) -> set[Kind]:
    """What a legend of the drawings has to explain."""
    return {point.kind for metric in AXES for point in points_of(table, metric)}


def points_of(table: Table, metric: str) -> list[Point]:
    """Rows with both; where there is a base, those with a ratio to it."""
    judged = judged_rows(table)
    found = []
    for row in table.timed_rows:
        summary, speed = row.quality.get(metric), _speed(row, table)
        if speed is not None and summary is not None and summary.mean is not None:
            y = summary.mean * score_scale(metric)
            found.append(Point(label=row.label, kind=judged[row.label].kind, x=speed, y=y))
    return found


def _speed(row: Row, table: Table) -> float | None:
    """Times as fast as the base, or as real time where there is no base."""
    if table.base_label is None:
        return 1 / row.timing.rtf if row.timing else None
    times = times_of(row, table)
    return None if times is None else times.ratio


def _panel(points: Sequence[Point], metric: str, table: Table, sheet: Sheet) -> Markup:
    name, up_is_more = AXES[metric]
    xs, ys = [point.x for point in points], [point.y for point in points]
    x_scale = LogScale(low=min(xs) / ROOM, high=max(xs) * ROOM, start=LEFT, end=sheet.right)
    margin = 0.12 * (max(ys) - min(ys)) or 0.1 * abs(max(ys)) or 0.1
    ends = (sheet.foot, TOP) if up_is_more else (TOP, sheet.foot)
    y_scale = LinearScale(low=min(ys) - margin, high=max(ys) + margin, start=ends[0], end=ends[1])
    speed = f"times as fast as {table.base_label}" if table.base_label else "times as fast as real time"
    placed = [(point, x_scale(point.x), y_scale(point.y)) for point in points]
    body = [*_grid(x_scale, y_scale, sheet), _front(placed)]
    body += [symbol(point.kind, x, y) for point, x, y in placed]
    body += _labels(placed, sheet)
    body.append(f'<text class="axis" x="4" y="14">{escape(name)}</text>')
    body.append(
        f'<text class="axis end" x="{sheet.right}" y="{sheet.height - 8}">{escape(speed)} (right is faster) →</text>'
    )
    said = "; ".join(
        f"{point.label} {significant(point.x)} times, {score_text(point.y / score_scale(metric), metric)}"
        for point in points
    )
    return picture(
        sheet.kind, (sheet.width, sheet.height), "".join(body), f"Speed against quality: {name}. {speed}: {said}"
    )


def _grid(x_scale: LogScale, y_scale: LinearScale, sheet: Sheet) -> list[str]:
    lines = []
    for tick in x_scale.ticks():
        x = x_scale(tick)
        lines.append(f'<path class="grid" d="M{x:.1f} {TOP}V{sheet.foot}"/>')
        lines.append(f'<text class="tick mid" x="{x:.1f}" y="{sheet.foot + 16}">{tick:g}</text>')
    for tick in MaxNLocator(5).tick_values(y_scale.low, y_scale.high):
        if y_scale.low <= tick <= y_scale.high and tick >= 0:
            y = y_scale(tick)
            lines.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{sheet.right}"/>')
            lines.append(f'<text class="tick end" x="{LEFT - 6}" y="{y + 4:.1f}">{tick:g}</text>')
    return lines


def _front(placed: Sequence[tuple[Point, float, float]]) -> str:
    """Steps through the points that no other one beats in both: from the fastest on, each higher than all before."""
    corners: list[tuple[float, float]] = []
    for _, x, y in sorted(placed, key=lambda one: (-one[1], one[2])):
        if not corners or y < corners[-1][1]:
            corners.append((x, y))
    path = f"M{corners[0][0]:.1f} {corners[0][1]:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in corners[1:])
    return f'<path class="front" d="{path}"/>'


def _labels(placed: Sequence[tuple[Point, float, float]], sheet: Sheet) -> list[str]:
    """Each name, long ones first, at the nearest place where it covers nothing; with a line to its point if far."""
    marks = {point.label: Box(left=x - 7, top=y - 7, right=x + 7, bottom=y + 7) for point, x, y in placed}
    taken = list(marks.values())
    drawn = []
    for point, x, y in sorted(placed, key=lambda one: (-len(one[0].label), one[2], one[1])):
        boxes = [_box(point.label, x + dx, y + dy, anchor) for dx, dy, anchor in PLACES]
        others = [box for box in taken if box != marks[point.label]]
        place = min(range(len(PLACES)), key=lambda index: (_cost(boxes[index], others, sheet), index))
        dx, dy, anchor = PLACES[place]
        taken.append(boxes[place])
        if place >= 8:  # beyond the first ring
            drawn.append(f'<path class="leader" d="M{x:.1f} {y:.1f}L{x + dx:.1f} {y + dy:.1f}"/>')
        drawn.append(f'<text class="name {anchor}" x="{x + dx:.1f}" y="{y + dy + 4:.1f}">{escape(point.label)}</text>')
    return drawn


def _cost(box: Box, taken: Sequence[Box], sheet: Sheet) -> float:
    """What a label would cover, and what of it would lie outside."""
    frame = Box(left=2.0, top=TOP, right=sheet.width, bottom=sheet.foot)
    outside = (box.right - box.left) * (box.bottom - box.top) - box.shared(frame)
    return round(5 * outside + sum(box.shared(other) for other in taken), 1)


def _box(label: str, x: float, y: float, anchor: str) -> Box:
    width = CHAR * len(label)
    left = x if anchor == "start" else x - width if anchor == "end" else x - width / 2
    return Box(left=left, top=y - LINE / 2, right=left + width, bottom=y + LINE / 2)
