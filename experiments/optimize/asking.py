"""A study asked and told: what it suggests is a cell, and what is known of a cell already is told without measuring."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engine.contract import ConfigError
from experiments.measuring.job import RESULT
from experiments.measuring.running import score
from experiments.measuring.validate import validate
from experiments.optimize.request import SEARCH_SWEEP
from experiments.optimize.study import (
    Search,
    Told,
    figures_of,
    open_study,
    proposals,
    row_of,
    save_search,
    tell,
    told_of,
)
from experiments.settings.compose import Cell, compose_cell, compose_config
from experiments.sweep.cells import Watch
from experiments.sweep.running import references_of
from metrics.record import load_record

MAX_IDLE = 50  # suggestions in a row that were measured before
IDLE = "the sampler only repeats itself: enough"


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A suggestion that has to be measured."""

    trial: Any
    cell: Cell


@dataclass(slots=True, eq=False)
class Asking:
    """elsewhere: the cells are measured by other machines."""

    search: Search
    study: Any
    trials: Iterator[Any]
    told: dict[str, Told]
    elsewhere: bool
    num_idle: int = 0

    def next(self) -> Asked | None:
        """What is to be measured next; None where all trials are made, or the sampler has no more to ask."""
        for trial in self.trials:
            cell = self._cell_of(trial)
            if not isinstance(cell, str) and cell.label not in self.told:
                self.num_idle = 0
                return Asked(trial, cell)
            label = cell if isinstance(cell, str) else cell.label
            self.num_idle = self.num_idle + 1 if label in self.told else 0
            self._tell(trial, label, self.told.setdefault(label, Told(reason=label)))
            if self.is_idle:
                break
        return None

    @property
    def is_idle(self) -> bool:
        return self.num_idle >= MAX_IDLE

    def batch(self, most: int) -> list[Asked]:
        """Suggestions for so many machines at once, none of which knows of the others' figures."""
        found: list[Asked] = []
        most = max(1, min(most, self.search.wanted - len(self.search.rows)))
        while len(found) < most and (one := self.next()) is not None:
            found.append(one)
        return found

    def tell(self, one: Asked, told: Told) -> None:
        self._tell(one.trial, one.cell.label, self.told.setdefault(one.cell.label, told))

    def _tell(self, trial: Any, label: str, told: Told) -> None:
        tell(self.study, trial, label, told)
        self.search.add(row_of(trial.number, label, trial.params, told))
        save_search(self.search)

    def _cell_of(self, trial: Any) -> Cell | str:
        """The cell that a suggestion names; a reason where it is no valid configuration."""
        space = self.search.space
        chosen = [f"{dimension.key}={dimension.suggest(trial)}" for dimension in space.dimensions]
        try:
            keys = [dimension.key for dimension in space.dimensions]
            cell = compose_cell((SEARCH_SWEEP, *space.fixed, *chosen), keys)
            validate(cell.config, check_texts=False, elsewhere=self.elsewhere)
        except ConfigError as error:
            return f"{' '.join(chosen)}: {error.allowed}"
        for known in self.search.sweep.cells:
            if known.label.casefold() == cell.label.casefold() and not set(chosen) <= set(known.overrides):
                other = f"has the folder of another cell, {known.label}; write one of the values otherwise"
                return f"{' '.join(chosen)}: {other}"
        return cell


def asking_of(search: Search, *, elsewhere: bool = False) -> Asking:
    """The study of the search, opened; what it had been told before is known."""
    study = open_study(search, first_cell(search))
    told = {row["label"]: told_of(row) for row in search.rows}
    return Asking(search, study, proposals(study, search), told, elsewhere)


def first_cell(search: Search) -> Cell:
    """All that is fixed, as a cell: of the device that is locked first, of the study's name."""
    config = compose_config([SEARCH_SWEEP, *search.space.fixed])
    return Cell(label="search", overrides=search.space.fixed, config=config)


def scored_figures(search: Search, index: int, watch: Watch) -> Told | None:
    """Of a cell that came to an end; None where its audio could not be scored."""
    sweep = search.sweep
    folder = sweep.dir_of(index)
    if not (folder / RESULT).is_file():  # of a machine that was lost too often
        return Told(reason=sweep.ledger.entries[index].reason)
    if sweep.ledger.entries[index].state == "ok" and not score(
        folder, references_of(sweep, watch, [index])[index], None
    ):
        return None
    return figures_of(load_record(folder / RESULT), search)


def front_lines(search: Search) -> list[str]:
    """The cells that no other beats, a line each, however often they were suggested."""
    lines = []
    for row in search.rows:
        if row["is_on_front"] and row["values"] is not None:
            figures = zip(search.objectives, row["values"], strict=True)
            lines.append(f"front    {row['label']}: {', '.join(f'{name} {value:.4g}' for name, value in figures)}")
    return lines
