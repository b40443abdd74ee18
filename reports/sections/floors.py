"""Every score of every row on one page, between the two floors: the same run again, and another seed."""

from __future__ import annotations

from collections.abc import Mapping

from metrics.fidelity.catalog import by_name
from metrics.fidelity.floors import position
from metrics.record import Floor
from reports.data.quality import summaries_of
from reports.data.table import Row, Table
from reports.sections.scores import score_scale, score_text
from reports.words import ABSENT

EXPLANATION = (
    "Mean over the sentences; in brackets the position between identical audio (0) and another seed of the same model "
    "(1): a full-reference score can pass a variant early, but at 1 it says no more than that this is another reading. "
    "The floors are of the reference: the same run again shows the metric's own noise, and a margin under it is not "
    "testable; for scores without another side the floor is the standard deviation of one sentence over seeds (sd)."
)
NO_FLOOR = (
    "No floor was made for these sentences and weights: `python -m experiments.scoring.floor` with the same overrides."
)


def quality_header(table: Table) -> tuple[str, ...]:
    return ("score", "same run again", "another seed", *(row.label for row in _rows(table)), "recipe")


def quality_lines(table: Table) -> list[tuple[str, ...]]:
    """One line per score that any row has a number for, in the catalogue's order."""
    rows = _rows(table)
    floors = floors_of(table)
    summaries = {row.label: summaries_of(row.cell.record, row.is_reference) for row in rows if row.cell.record}
    recipes: dict[str, str] = {}
    for row in rows:
        recipes |= {name: str(recipe) for name, recipe in (row.cell.record.recipes if row.cell.record else {}).items()}
    lines = []
    for metric in by_name():
        means = [found[metric].mean if metric in (found := summaries[row.label]) else None for row in rows]
        if all(mean is None for mean in means):
            continue
        floor = floors.get(metric)
        cells = [_cell(metric, mean, floor) for mean in means]
        name = metric if score_scale(metric) == 1 else f"{metric} in percent"
        lines.append((name, *_floor_cells(metric, floor), *cells, recipes.get(metric, ABSENT)))
    return lines


def floors_of(table: Table) -> Mapping[str, Floor]:
    """By metric; all rows of one table share their reference."""
    return {floor.metric: floor for record in table.records for floor in record.floors}


def _rows(table: Table) -> list[Row]:
    return [row for row in table.timed_rows if row.cell.record is not None and row.validity != "random"]


def _cell(metric: str, mean: float | None, floor: Floor | None) -> str:
    if mean is None:
        return ABSENT
    place = position(metric, mean, floor) if floor is not None else None
    return score_text(mean, metric) + (f" ({place:.2f})" if place is not None else "")


def _floor_cells(metric: str, floor: Floor | None) -> tuple[str, str]:
    if floor is None:
        return ABSENT, ABSENT
    again = ABSENT if floor.repeat is None else score_text(floor.repeat, metric)
    if floor.other_seed is not None:
        return again, score_text(floor.other_seed, metric)
    return again, ABSENT if floor.other_seed_sd is None else f"sd {score_text(floor.other_seed_sd, metric)}"
