"""Point labels that do not cover each other: each takes the nearest free place around its point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

RADII_POINTS = (8.0, 13.0, 21.0, 31.0, 43.0, 57.0, 73.0)
NUM_ANGLES = 16
LEADER_FROM_POINTS = 12.0
LEADER_PARTS = 12
FRAME_PIXELS = 4.0
INK = "#222222"
MARKER_HALF_POINTS = 6.0
POINTS_PER_INCH = 72.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PointLabel:
    """A label for the point (x, y), in data units; in the point's own colour where points stand close together."""

    x: float
    y: float
    text: str
    color: str = INK


def place_labels(figure: Figure, axes: Axes, labels: Sequence[PointLabel], font_size: float = 8.0) -> None:
    """Draw the labels. Call it last: the layout must not move afterwards."""
    pixels = figure.dpi / POINTS_PER_INCH
    spots = [tuple(axes.transData.transform((label.x, label.y))) for label in labels]
    half = MARKER_HALF_POINTS * pixels
    taken = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in spots]
    frame = axes.get_window_extent().padded(-FRAME_PIXELS)
    for index in sorted(range(len(labels)), key=lambda i: spots[i]):
        label, spot = labels[index], spots[index]
        size = _size(figure, label.text, font_size)
        others = [box for place, box in enumerate(taken) if place != index]
        box = _nearest_free(spot, size, frame, others, pixels)
        leader = _leader(spot, box, pixels)
        taken.extend([box, *leader])
        to_data = axes.transData.inverted()
        if leader:
            ends = to_data.transform([spot, _edge(spot, box)])
            axes.plot(ends[:, 0], ends[:, 1], color=INK, linewidth=0.6, alpha=0.7, zorder=2)
        x, y = to_data.transform(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
        text = axes.text(x, y, label.text, fontsize=font_size, color=label.color, ha="center", va="center", zorder=2.5)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _size(figure: Figure, text: str, font_size: float) -> tuple[float, float]:
    """Width and height in pixels."""
    probe = figure.text(0, 0, text, fontsize=font_size)
    box = probe.get_window_extent(FigureCanvasAgg(figure).get_renderer())
    probe.remove()
    return box.width, box.height


def _nearest_free(
    spot: tuple[float, float], size: tuple[float, float], frame: Bbox, taken: Sequence[Bbox], pixels: float
) -> Bbox:
    """The first box, going outwards, that is inside the frame and covers nothing; else the one that covers least."""
    best: tuple[float, Bbox] | None = None
    for radius in RADII_POINTS:
        for turn in range(NUM_ANGLES):
            box = _box_around(spot, size, radius * pixels, 2 * math.pi * turn / NUM_ANGLES)
            parts = [box, *_leader(spot, box, pixels)]
            cover = sum(_overlap(part, other) for part in parts for other in taken) + _outside(box, frame)
            if cover == 0:
                return box
            if best is None or cover < best[0]:
                best = (cover, box)
    assert best is not None
    return best[1]


def _leader(spot: tuple[float, float], box: Bbox, pixels: float) -> list[Bbox]:
    """The line from a point to its label as small boxes; none where the label stands right beside it."""
    end = _edge(spot, box)
    if math.dist(spot, end) < LEADER_FROM_POINTS * pixels:
        return []
    steps = [step / LEADER_PARTS for step in range(1, LEADER_PARTS)]
    centers = [(spot[0] + part * (end[0] - spot[0]), spot[1] + part * (end[1] - spot[1])) for part in steps]
    return [Bbox.from_extents(x - pixels, y - pixels, x + pixels, y + pixels) for x, y in centers]


def _edge(spot: tuple[float, float], box: Bbox) -> tuple[float, float]:
    """The point of the box that is nearest to the spot."""
    return min(max(spot[0], box.x0), box.x1), min(max(spot[1], box.y0), box.y1)


def _box_around(spot: tuple[float, float], size: tuple[float, float], radius: float, angle: float) -> Bbox:
    """A box of the size whose nearest edge lies `radius` from the spot, in the direction of the angle."""
    center_x = spot[0] + math.cos(angle) * (radius + size[0] / 2)
    center_y = spot[1] + math.sin(angle) * (radius + size[1] / 2)
    return Bbox.from_bounds(center_x - size[0] / 2, center_y - size[1] / 2, size[0], size[1])


def _overlap(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return width * height if width > 0 and height > 0 else 0.0


def _outside(box: Bbox, frame: Bbox) -> float:
    return box.width * box.height - _overlap(box, frame)
