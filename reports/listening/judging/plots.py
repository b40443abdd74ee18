"""Pictures of a listening test: comparisons with their intervals, mean ratings. PNG, drawn without a display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from reports.listening.judging.analysis import SHARES, Analysis
from reports.listening.judging.inference import Estimate
from reports.listening.judging.verdict import TITLES
from reports.render.plots import COLORS, save
from reports.words import slug

ROW_INCHES = 0.42


def draw(analysis: Analysis, out: Path) -> tuple[str, ...]:
    """One chart a measure, and the mean ratings; paths relative to `out`."""
    paths = []
    for measure in dict.fromkeys(comparison.measure for comparison in analysis.comparisons):
        own = [c for c in analysis.comparisons if c.measure == measure]
        labels = [f"{c.candidate}\nagainst {c.baseline}" for c in own]
        null = 0.5 if measure in SHARES else 0.0
        paths.append(_chart(out, measure, labels, ([c.estimate for c in own], TITLES[measure], null)))
    if analysis.opinions:
        labels = [opinion.system for opinion in analysis.opinions]
        estimates = [opinion.estimate for opinion in analysis.opinions]
        paths.append(_chart(out, "ratings", labels, (estimates, "mean rating", None)))
    return tuple(paths)


def _chart(out: Path, name: str, labels: Sequence[str], content: tuple[Sequence[Estimate], str, float | None]) -> str:
    """A row each, with its interval; the line of no difference."""
    estimates, title, null = content
    figure = Figure(figsize=(7.0, 1.1 + ROW_INCHES * 1.4 * len(labels)), layout="constrained")
    axes = figure.subplots()
    for row, estimate in enumerate(estimates):
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [row, row], color=COLORS[0], linewidth=2.5)
        axes.plot([estimate.mean], [row], "o", color=COLORS[0], markersize=7)
    if null is not None:
        axes.axvline(null, color="#7F7F7F", linewidth=1, linestyle="--")
    if null == 0.5:
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlabel(f"{title}, 95 % interval")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#E5E5E5")
    axes.set_axisbelow(True)
    return save(figure, out, slug(f"listening_{name}"))
