"""Charts of power: watts and heat over time, a strip a row; joules against speed with their front."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from metrics.pareto import pareto_front
from reports.data.power import Samples, power_of, samples_of
from reports.data.table import Row, Table
from reports.render.labels import PointLabel, place_labels
from reports.render.plots import DPI, Picture, engine_colors, log_axis, room, save
from reports.words import in_lines, significant

STRIP_INCHES = 0.75
MOST_STRIPS = 12  # a page of them; the files beside the runs have every row
RED = "#D00000"


def draw_power(table: Table, out: Path, num_colors: int | None = None) -> tuple[Picture, ...]:
    """Of rows that show a speed; nothing where nobody measured power. num_colors: as reports.render.plots.save."""
    drawn = (_strips(table, out, num_colors), _front_chart(table, out, num_colors))
    return tuple(picture for picture in drawn if picture is not None)


def _strips(table: Table, out: Path, num_colors: int | None) -> Picture | None:
    found = [(row, seen) for row in table.timed_rows if (seen := samples_of(table.source, row)) is not None]
    if not found:
        return None
    shown = found[:MOST_STRIPS]
    figure = Figure(figsize=(11.5, 1.3 + STRIP_INCHES * len(shown)), dpi=DPI, layout="constrained")
    panels = figure.subplots(len(shown), 2, sharex="col", sharey="col", squeeze=False)
    colors = engine_colors(table)
    for (row, seen), (watts, degrees) in zip(shown, panels, strict=True):
        _line(watts, seen.watts, seen, colors[row.engine])
        _line(degrees, seen.degrees, seen, colors[row.engine])
        watts.set_ylabel(row.label, fontsize=8, rotation=0, ha="right", va="center")
    panels[0][0].set_title("watts", fontsize=9)
    panels[0][1].set_title("hottest zone, °C", fontsize=9)
    for axes, read in zip(panels[-1], (lambda seen: seen.watts, lambda seen: seen.degrees), strict=True):
        axes.set_ylim(0, 1.15 * max((value for _, seen in shown for _, value in read(seen)), default=1.0))
        axes.set_xlabel("seconds; red: something throttled", fontsize=9)
    of = "" if len(shown) == len(found) else f" (the first {len(shown)} of {len(found)} rows)"
    figure.suptitle(f"Power and heat over time{of}", fontsize=11)
    words = "; ".join(f"{row.label} {_range(seen)}" for row, seen in shown)
    return Picture(path=save(figure, out, "power", num_colors), title="Power and heat over time",
                   alt=f"Watts over time: {words}")  # fmt: skip


def _line(axes: Axes, points: Sequence[tuple[float, float]], seen: Samples, color: str) -> None:
    axes.tick_params(labelsize=7)
    if not points:
        axes.tick_params(labelleft=False)
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, fontsize=8, color="#555555", ha="center")
        return
    axes.plot(*zip(*points, strict=True), color=color, linewidth=1.0)
    foot = [0.0] * len(seen.throttled_s)
    axes.scatter(seen.throttled_s, foot, color=RED, s=9, marker="|", clip_on=False, zorder=4)


def _range(seen: Samples) -> str:
    values = [value for _, value in seen.watts]
    return f"{min(values):.1f} to {max(values):.1f} W" if values else "without watts"


def _front_chart(table: Table, out: Path, num_colors: int | None) -> Picture | None:
    points = energy_points(table)
    if len(points) < 2:
        return None
    figure = Figure(figsize=(6.2, 5.2), dpi=DPI, layout="constrained")
    axes, colors = figure.subplots(), engine_colors(table)
    front = sorted(points[place][1:] for place in pareto_front([p[1:] for p in points], ("minimize", "minimize")))
    axes.step(*zip(*front, strict=True), where="post", color="#BBBBBB", linewidth=1.2, linestyle="--", zorder=1)
    for row, rtf, joules in points:
        axes.scatter([rtf], [joules], color=colors[row.engine], s=44, zorder=3, edgecolor="white", linewidth=0.6)
    log_axis(axes, [rtf for _, rtf, _ in points])
    room(axes, [joules for _, _, joules in points])
    axes.set_xlabel("RTF; left is faster", fontsize=9)
    axes.set_ylabel("J per second of speech; lower is better", fontsize=9)
    axes.grid(True, color="#EEEEEE", zorder=0)
    axes.tick_params(labelsize=8)
    figure.suptitle("Speed against energy: down and left is better", fontsize=11)
    FigureCanvasAgg(figure).draw()
    figure.set_layout_engine("none")  # as in the chart of quality: the labels are placed in this layout
    place_labels(figure, axes, [
        PointLabel(x=rtf, y=joules, text=in_lines(row.label), color=colors[row.engine]) for row, rtf, joules in points
    ])  # fmt: skip
    words = "; ".join(f"{row.label} RTF {significant(rtf)}, {significant(joules)} J" for row, rtf, joules in points)
    return Picture(path=save(figure, out, "rtf_energy", num_colors), title="Speed against energy",
                   alt=f"RTF against joules per second of speech: {words}")  # fmt: skip


def energy_points(table: Table) -> list[tuple[Row, float, float]]:
    """(row, RTF, joules per second of speech) of the rows that have both."""
    found = []
    for row in table.timed_rows:
        use = power_of(row)
        if row.timing is not None and use is not None and use.gross_j is not None:
            found.append((row, row.timing.rtf, use.gross_j))
    return found
