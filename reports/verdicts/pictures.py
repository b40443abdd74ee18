"""The plot beside a verdict or a load test: changes with their bounds, latency by level. PNG, without a display."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from reports.render.plots import COLORS, DPI, Picture, save
from reports.verdicts.spoken.load import load_levels
from reports.verdicts.spoken.parts import listed, pick
from reports.verdicts.spoken.plain import NAMES, is_bounded

ROW_INCHES, HEAD_INCHES = 0.4, 1.1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Change:
    """One of a verdict's findings: of a same-run comparison the first three, of a stored baseline the last."""

    metric: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    effect_kind: str | None = None
    effect: float | None = None
    interval: tuple[float, float] | None = None


def draw_ratios(content: Mapping[str, object], out: Path) -> Picture | None:
    """Every metric that is a ratio of after to before, with its bounds; None where the verdict holds no such one."""
    entries = listed(content, "findings") if "findings" in content else ()
    found = [bounds for entry in entries if (bounds := _ratio(entry)) is not None]
    if not found:
        return None
    figure = Figure(figsize=(7.0, HEAD_INCHES + ROW_INCHES * len(found)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.axvline(1.0, color="#7F7F7F", linewidth=1)
    for place, (_, ratio, low, high) in enumerate(found):
        color = COLORS[2] if high < 1.0 else COLORS[1] if low > 1.0 else COLORS[7]
        axes.plot([low, high], [place, place], color=color, linewidth=2, solid_capstyle="butt")
        axes.plot([ratio], [place], "o", color=color)
    axes.set_yticks(range(len(found)), [name for name, *_ in found])
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlabel("after / before, with bounds; left of 1 is less, and better", fontsize=9)
    words = "; ".join(f"{name} {ratio:.3f} ({low:.3f} to {high:.3f})" for name, ratio, low, high in found)
    return Picture(path=save(figure, out, "changes"), title="What changed", alt=f"After / before: {words}.")


def _ratio(entry: Mapping[str, object]) -> tuple[str, float, float, float] | None:
    """(name, ratio, low, high) of a same-run finding or of a stored baseline's."""
    found = pick(_Change, entry)
    ratio, low, high = found.ratio, found.low, found.high
    if ratio is None and found.effect_kind == "ratio" and found.interval is not None:
        ratio, (low, high) = found.effect, found.interval
    if ratio is None or low is None or high is None:
        return None
    name = NAMES.get(found.metric, found.metric)
    return (name, ratio, low, high) if is_bounded(low, high) else None


def draw_load(content: Mapping[str, object], out: Path) -> Picture | None:
    """Median and p95 latency by level; None where no level has figures."""
    levels = [level for level in load_levels(content) if level.latency_p50.value_s is not None]
    if not levels:
        return None
    figure = Figure(figsize=(7.0, 3.6), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    places = range(len(levels))
    for name, color, side in (("median", COLORS[0], -0.08), ("p95", COLORS[1], 0.08)):
        for place, level in zip(places, levels, strict=True):
            one = level.latency_p50 if name == "median" else level.latency_p95
            if one.value_s is None:
                continue
            low, high = one.interval_s or (one.value_s, one.value_s)
            axes.plot([place + side] * 2, [1e3 * low, 1e3 * high], color=color, linewidth=2)
            axes.plot([place + side], [1e3 * one.value_s], "o", color=color)
        axes.plot([], [], "o-", color=color, label=name)
    axes.set_xticks(places, [level.name for level in levels])
    axes.set_xlim(-0.5, len(levels) - 0.5)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("latency, ms (95 % interval)", fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    words = "; ".join(f"{level.name} median {1e3 * (level.latency_p50.value_s or 0):.0f} ms" for level in levels)
    return Picture(path=save(figure, out, "latency"), title="Latency by level", alt=f"Latency by level: {words}.")
