"""Charts of a table: speed against quality, where the time goes, how calls scatter. PNG, drawn without a display."""

from __future__ import annotations

import itertools
import statistics
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image

from reports.data.context import Context
from reports.data.quality import LOG_MEL, PESQ
from reports.data.scale import PERCENT, trial_ms
from reports.data.table import Row, Table
from reports.render.labels import PointLabel, place_labels
from reports.words import in_lines, significant

PLOTS = "plots"
DPI = 130
# Okabe and Ito's palette: told apart by colour-blind readers too; yellow is left out, it cannot be read as text
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F")
STAGES = (
    ("front end", "#009E73"),
    ("denoise", "#0072B2"),
    ("vocoder", "#E69F00"),
    ("join", "#CC79A7"),
    ("enhance", "#56B4E9"),
)
MARKERS = {"euler": "o", "midpoint": "^", "heun": "s", "rk4": "D", "fitted": "P"}
SHARE_WITH_TEXT_PCT = 7.0
LABEL_CHARS = 80  # of the axis label under one panel
ROW_INCHES = 0.36
WIDE_AXIS_RATIO = 6.0
WIDE_TICKS = (1.0, 2.0, 5.0)
NARROW_TICKS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 2.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A drawn file: its path relative to the report, what it shows, and the same in words for those who cannot see."""

    path: str
    title: str
    alt: str


def draw_charts(table: Table, context: Context, out: Path, num_colors: int | None = None) -> tuple[Picture, ...]:
    """Draw what the rows have figures for; a chart without any is left out. num_colors: as `save` has it."""
    drawn = (
        _quality_chart(table, context, out, num_colors),
        _stage_chart(table, out, num_colors),
        _latency_chart(table, context, out, num_colors),
    )
    return tuple(picture for picture in drawn if picture is not None)


def save(figure: Figure, out: Path, name: str, num_colors: int | None = None) -> str:
    """Write plots/NAME.png without a time or version in it, so that drawing it again gives the same file.

    num_colors: reduce to a palette of so many colours; a spectrogram is then a quarter of the size.
    """
    path = out / PLOTS / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    if num_colors is None:
        figure.savefig(path, metadata={"Software": None})
    else:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        picture.quantize(num_colors, dither=Image.Dither.NONE).save(path)
    return f"{PLOTS}/{name}.png"


def _quality_chart(table: Table, context: Context, out: Path, num_colors: int | None) -> Picture | None:
    metrics = [metric for metric in (LOG_MEL, PESQ) if _points(table, metric)]
    if not metrics:
        return None
    figure = Figure(figsize=(6.2 * len(metrics), 5.2), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    colors = engine_colors(table)
    for axes, metric in zip(panels, metrics, strict=True):
        _quality_panel(axes, table, metric, colors)
    label = f"RTF, wall seconds per generated second ({context.seconds}); left is faster"
    figure.supxlabel(textwrap.fill(label, LABEL_CHARS * len(metrics)), fontsize=9)
    figure.suptitle("Speed against quality: up and left is better", fontsize=11)
    FigureCanvasAgg(figure).draw()
    figure.set_layout_engine("none")  # the labels are placed in this layout; a second one would move the points
    for axes, metric in zip(panels, metrics, strict=True):
        points = _points(table, metric)
        place_labels(
            figure,
            axes,
            [PointLabel(x=x, y=y, text=in_lines(row.label), color=colors[row.engine]) for row, x, y in points],
        )
    words = "; ".join(f"{row.label} RTF {significant(x)}" for row, x, _ in _points(table, metrics[0]))
    return Picture(
        path=save(figure, out, "rtf_quality", num_colors),
        title="Speed against quality",
        alt=f"RTF against quality: {words}",
    )


def _points(table: Table, metric: str) -> list[tuple[Row, float, float]]:
    """(row, RTF, mean score) of the rows that have both."""
    found = []
    for row in table.timed_rows:
        summary = row.quality.get(metric)
        if row.timing is not None and summary is not None and summary.mean is not None:
            found.append((row, row.timing.rtf, summary.mean))
    return found


def _quality_panel(axes: Axes, table: Table, metric: str, colors: dict[str, str]) -> None:
    lower = metric == LOG_MEL
    points = _points(table, metric)
    front = _front([(x, y) for _, x, y in points], lower)
    axes.step(*zip(*front, strict=True), where="post", color="#BBBBBB", linewidth=1.2, linestyle="--", zorder=1)
    for row, x, y in points:
        marker = MARKERS.get(row.solver.split("_")[0], "o")
        axes.scatter(
            [x], [y], color=colors[row.engine], marker=marker, s=44, zorder=3, edgecolor="white", linewidth=0.6
        )
    reference = next((row.timing.rtf for row in table.timed_rows if row.is_reference and row.timing), None)
    spots = [x for _, x, _ in points] + ([reference] if reference else [])
    log_axis(axes, spots)
    room(axes, [y for _, _, y in points])
    reference_is_right = reference is not None and reference >= 1.0
    for line_x, text, is_right in (
        (1.0, "real time", not reference_is_right),
        (reference, "reference", reference_is_right),
    ):
        if line_x is not None and axes.get_xlim()[0] < line_x < axes.get_xlim()[1]:
            axes.axvline(line_x, color="#888888", linewidth=0.9, linestyle=":", zorder=0)
            axes.text(
                line_x,
                1.005,
                text,
                transform=axes.get_xaxis_transform(),
                fontsize=8,
                color="#555555",
                ha="left" if is_right else "right",
                va="bottom",
            )
    if lower:
        axes.invert_yaxis()
    axes.set_ylabel(
        "log-mel error vs reference, nats (axis upside down)" if lower else "PESQ-WB vs reference", fontsize=9
    )
    axes.grid(True, color="#EEEEEE", zorder=0)
    axes.tick_params(labelsize=8)


def _front(points: Sequence[tuple[float, float]], lower: bool) -> list[tuple[float, float]]:
    """The points that no other one beats in both speed and quality, from fast to slow."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], point[1] if lower else -point[1])):
        if not front or (y < front[-1][1] if lower else y > front[-1][1]):
            front.append((x, y))
    return front


def _stage_chart(table: Table, out: Path, num_colors: int | None) -> Picture | None:
    rows = [row for row in table.timed_rows if row.timing and row.timing.stages]
    if not rows:
        return None
    figure = _row_figure(len(rows))
    shares, times = figure.subplots(1, 2, sharey=True)
    for place, row in enumerate(rows):
        timing = row.timing
        assert timing is not None
        assert timing.stages is not None
        left_pct = 0.0
        for (_, color), share in zip(STAGES, timing.stages.parts, strict=False):
            shares.barh(place, share, left=left_pct, color=color, height=0.66)
            times.barh(
                place,
                share / PERCENT * timing.p50_ms,
                left=left_pct / PERCENT * timing.p50_ms,
                color=color,
                height=0.66,
            )
            if share >= SHARE_WITH_TEXT_PCT:
                shares.text(
                    left_pct + share / 2, place, f"{share:.0f}", ha="center", va="center", color="white", fontsize=8
                )
            left_pct += share
        times.text(timing.p50_ms, place, f" {significant(timing.p50_ms)}", va="center", fontsize=8)
    _row_axis(shares, rows)
    shares.set_xlim(0, 100)
    times.set_xlim(0, times.get_xlim()[1] * 1.08)
    shares.set_xlabel("share of a call, %", fontsize=9)
    times.set_xlabel("median call, ms", fontsize=9)
    shown = STAGES[: max(len(row.timing.stages.parts) for row in rows if row.timing and row.timing.stages)]
    handles = [shares.barh(0, 0, color=color, label=name) for name, color in shown]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(shown), fontsize=9, frameon=False)
    alt = "; ".join(
        f"{row.label} denoise {row.timing.stages.denoise_pct:.0f} %" for row in rows if row.timing and row.timing.stages
    )
    return Picture(path=save(figure, out, "stages", num_colors), title="Where the time goes", alt=f"Stage split: {alt}")


def _latency_chart(table: Table, context: Context, out: Path, num_colors: int | None) -> Picture | None:
    rows = list(table.timed_rows)
    if not rows:
        return None
    figure = _row_figure(len(rows))
    calls, scatter = figure.subplots(1, 2, sharey=True)
    colors = engine_colors(table)
    for place, row in enumerate(rows):
        timing, record = row.timing, row.cell.record
        assert timing is not None
        assert record is not None
        times_ms = [trial_ms(trial) for trial in record.steady_trials]
        _strip(calls, times_ms, place, colors[row.engine])
        calls.plot([timing.p50_ms] * 2, [place - 0.36, place + 0.36], color="black", linewidth=1.8, zorder=4)
        if timing.p95_ms is not None:
            calls.plot([timing.p95_ms] * 2, [place - 0.36, place + 0.36], color="#D00000", linewidth=1.5, zorder=4)
        deviations = _deviations_pct(row)
        _strip(scatter, deviations, place, colors[row.engine])
        if not deviations:
            scatter.text(0, place, "one round only", fontsize=8, color="#555555", ha="center", va="center", bbox=WHITE)
    _row_axis(calls, rows)
    log_axis(calls, [trial_ms(t) for row in rows if row.cell.record for t in row.cell.record.steady_trials], room=1.15)
    widest = max([5.0, *(abs(x) for row in rows for x in _deviations_pct(row))])
    scatter.set_xlim(-1.1 * widest, 1.1 * widest)
    scatter.axvline(0, color="#888888", linewidth=0.9, zorder=0)
    calls.set_xlabel("every timed call, ms (black: median; red: p95 where there are 59 calls)", fontsize=9)
    scatter.set_xlabel("call against the median of its own sentence, %", fontsize=9)
    figure.suptitle(f"How the calls scatter ({context.seconds})", fontsize=11)
    alt = "; ".join(f"{row.label} median {significant(row.timing.p50_ms)} ms" for row in rows if row.timing)
    return Picture(
        path=save(figure, out, "latency", num_colors),
        title="How the calls scatter",
        alt=f"Latency of every call: {alt}",
    )


def _deviations_pct(row: Row) -> list[float]:
    """Each call against the median of its sentence; empty where every sentence was spoken once."""
    groups: dict[str, list[float]] = {}
    for trial in row.cell.record.steady_trials if row.cell.record else ():
        groups.setdefault(trial.utterance_id, []).append(trial.wall_s)
    repeated = [times for times in groups.values() if len(times) > 1]
    return [(time / statistics.median(times) - 1) * PERCENT for times in repeated for time in times]


def _strip(axes: Axes, values: Sequence[float], place: int, color: str) -> None:
    """Points beside each other in a fixed pattern: random jitter would draw another picture each time."""
    heights = itertools.islice(itertools.cycle((0.0, 0.16, -0.16, 0.08, -0.08, 0.24, -0.24)), len(values))
    axes.scatter(values, [place + height for height in heights], s=13, color=color, alpha=0.55, linewidth=0, zorder=3)


def _row_figure(num_rows: int) -> Figure:
    return Figure(figsize=(11.5, 1.5 + ROW_INCHES * num_rows), dpi=DPI, layout="constrained")


def _row_axis(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=9)
    for panel in axes.figure.axes:
        panel.tick_params(axis="x", labelsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)


def log_axis(axes: Axes, values: Iterable[float], room: float = 1.6) -> None:
    """Logarithmic x with plain numbers as ticks and room at both ends for the labels."""
    values = list(values)
    axes.set_xlim(min(values) / room, max(values) * room)
    axes.set_xscale("log")
    is_wide = max(values) * room > WIDE_AXIS_RATIO * min(values) / room
    axes.xaxis.set_major_locator(LogLocator(subs=WIDE_TICKS if is_wide else NARROW_TICKS))
    axes.xaxis.set_major_formatter(_PLAIN)
    axes.xaxis.set_minor_formatter(NullFormatter())


def room(axes: Axes, values: Sequence[float]) -> None:
    """Above and below the values."""
    low, high = min(values), max(values)
    margin = 0.14 * (high - low) or 0.1 * abs(high) or 0.1
    axes.set_ylim(low - margin, high + margin)


def engine_colors(table: Table) -> dict[str, str]:
    """One colour an engine, the same in every chart of a table."""
    engines = list(dict.fromkeys(row.engine for row in table.rows))
    return dict(zip(engines, itertools.cycle(COLORS), strict=False))


def _plain(value: float, _: int) -> str:
    return f"{value:g}"


_format: Callable[[float, int], str] = _plain
_PLAIN = FuncFormatter(_format)
