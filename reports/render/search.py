"""The front of a search: search.json as a table and a picture. Written by experiments.optimize."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metrics.record import RecordError
from reports.render.plots import DPI, Picture, save
from reports.words import significant

SEARCH = "search.json"
BYTES_PER_MIB = 1 << 20
MAX_PANELS = 3
GREY, RED, BLUE = "#BBBBBB", "#D55E00", "#0072B2"


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One trial with numbers, in the units of the report."""

    label: str
    values: tuple[float, ...]
    is_feasible: bool
    is_on_front: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """names: of the objectives, with their units; found: different variants only, each once."""

    names: tuple[str, ...]
    directions: tuple[str, ...]
    constraints: tuple[str, ...]
    found: tuple[Found, ...]
    num_without: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Front:
    """What a report says of a search."""

    sentence: str
    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def read_search(folder: Path) -> Search | None:
    """None where the folder is no search. Raises RecordError for a damaged search.json."""
    path = folder / SEARCH
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        names = [str(objective["name"]) for objective in data["objectives"]]
        by_label = {trial["label"]: trial for trial in data["trials"]}
        return Search(
            names=tuple(_with_unit(name) for name in names),
            directions=tuple(str(objective["direction"]) for objective in data["objectives"]),
            constraints=tuple(map(str, data["constraints"])),
            found=tuple(_found(trial, names) for trial in by_label.values() if trial["values"] is not None),
            num_without=sum(trial["values"] is None for trial in by_label.values()),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path}: damaged search file ({error}); go on with resume, or start it again") from error


def front_of(search: Search) -> Front:
    """The front from the best first objective on."""
    front = sorted((one for one in search.found if one.is_on_front), key=lambda one: one.values)
    if search.directions[0] == "maximize":
        front.reverse()
    num_missing = sum(not one.is_feasible for one in search.found)
    limits = f" under {' and '.join(search.constraints)}" if search.constraints else ""
    sentence = (
        f"{len(search.found)} variants measured, {num_missing} of them miss a condition, {search.num_without} more "
        f"have no number. No other variant{limits} is at least as good in {', '.join(search.names)} at once as one "
        f"of these {len(front)}. Figures are of one sweep: confirm a choice with experiments.compare."
    )
    lines = tuple((one.label, *(significant(value) for value in one.values)) for one in front)
    return Front(sentence=sentence, header=search.names, lines=lines)


def draw_search(search: Search, out: Path, num_colors: int | None = None) -> tuple[Picture, ...]:
    """Every pair of the first three objectives; nothing for a single one or without a number. num_colors: as
    `save` has it."""
    pairs = list(itertools.combinations(range(min(len(search.names), MAX_PANELS)), 2))
    if not pairs or not search.found:
        return ()
    figure = Figure(figsize=(5.2 * len(pairs), 4.4), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, len(pairs), squeeze=False)[0]
    for axes, (x, y) in zip(panels, pairs, strict=True):
        _panel(axes, search, x, y)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=9, frameon=False)
    words = "; ".join(f"{one.label} {significant(one.values[0])}" for one in search.found if one.is_on_front)
    alt = f"Search, {search.names[0]} of the front: {words or 'empty'}"
    return (Picture(path=save(figure, out, "search", num_colors), title="The front of the search", alt=alt),)


def _panel(axes: Axes, search: Search, x: int, y: int) -> None:
    kinds = (
        ("beaten by another", GREY, "o", [one for one in search.found if one.is_feasible and not one.is_on_front]),
        ("misses a condition", RED, "x", [one for one in search.found if not one.is_feasible]),
        ("on the front", BLUE, "o", [one for one in search.found if one.is_on_front]),
    )
    for name, color, marker, found in kinds:
        points = [(one.values[x], one.values[y]) for one in found]
        axes.scatter([p[0] for p in points], [p[1] for p in points], c=color, marker=marker, s=34, label=name, zorder=3)
    for one in search.found:
        if one.is_on_front:
            axes.annotate(
                one.label, (one.values[x], one.values[y]), fontsize=6, xytext=(3, 3), textcoords="offset points"
            )
    axes.set_xlabel(_axis(search, x), fontsize=9)
    axes.set_ylabel(_axis(search, y), fontsize=9)
    axes.grid(True, color="#EEEEEE", zorder=0)
    axes.tick_params(labelsize=8)


def _axis(search: Search, index: int) -> str:
    better = "lower" if search.directions[index] == "minimize" else "higher"
    return f"{search.names[index]} ({better} is better)"


class SearchTrial(TypedDict):
    """A trial as search.json has it, as far as it is drawn."""

    label: str
    values: list[float]
    is_feasible: bool
    is_on_front: bool


def _found(trial: SearchTrial, names: list[str]) -> Found:
    values = [
        value / BYTES_PER_MIB if name.endswith("_bytes") else float(value)
        for name, value in zip(names, trial["values"], strict=True)
    ]
    return Found(
        label=str(trial["label"]),
        values=tuple(values),
        is_feasible=bool(trial["is_feasible"]),
        is_on_front=bool(trial["is_on_front"]),
    )


def _with_unit(name: str) -> str:
    return f"{name.removesuffix('_bytes')} MiB" if name.endswith("_bytes") else name
