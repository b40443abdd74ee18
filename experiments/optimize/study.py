"""The Optuna side of a search: the study in OUT/optuna.db, what it proposes and what it is told, search.json.

Only this file talks to Optuna, and imports it late.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from engine.contract import ConfigError
from experiments.common.plain import SweepSettings
from experiments.optimize.space import Constraint, NoFigure, Space, figure_of
from experiments.settings.compose import Cell
from experiments.sweep.cells import Sweep
from metrics.pareto import Direction, pareto_front
from metrics.record import RecordError, RunRecord, write_atomically

SEARCH, STUDY = "search.json", "optuna.db"


class SearchRow(TypedDict):
    """A trial as search.json has it. values: None without a number; constraints: by how much each is missed."""

    number: int
    label: str
    params: dict[str, object]
    values: list[float] | None
    constraints: dict[str, float]
    reason: str | None
    is_feasible: bool
    is_on_front: bool


@dataclass(slots=True, eq=False)
class Search:
    """A sweep that grows by what Optuna proposes. rows: its cells, each once, as search.json has them."""

    sweep: Sweep
    space: Space
    settings: SweepSettings
    objectives: tuple[str, ...]
    directions: tuple[Direction, ...]
    constraints: tuple[Constraint, ...]
    rows: list[SearchRow] = field(default_factory=list)

    @property
    def wanted(self) -> int:
        """How many different cells are to be told."""
        size, asked = self.space.size, int(self.settings["num_trials"])
        return asked if size is None else min(asked, size)

    def add(self, row: SearchRow) -> None:
        """A cell that is suggested once more is one row all the same."""
        if all(known["label"] != row["label"] for known in self.rows):
            self.rows.append(row)


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """values: the objectives, None without a number. excess: by how much each condition is missed (<= 0: met)."""

    values: tuple[float, ...] | None = None
    excess: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None


def figures_of(record: RunRecord, search: Search) -> Told:
    """What a scored record amounts to. A condition that cannot be judged is not met, so there is no number either."""
    try:
        values = tuple(figure_of(record, name) for name in search.objectives)
        excess = {str(limit): limit.excess(figure_of(record, limit.metric)) for limit in search.constraints}
    except NoFigure as error:
        return Told(reason=str(error))
    missed = [name for name, value in excess.items() if value > 0]
    return Told(values=values, excess=excess, reason=f"misses {', '.join(missed)}" if missed else None)


def open_study(search: Search, first: Cell) -> Any:
    """The study of this space with this code, these weights and this machine; another of them is another study.

    What an outdated one had tried is proposed first, so that its cells are measured again. Raises RecordError for a
    damaged one.
    """
    try:
        import optuna
        from sqlalchemy.exc import DatabaseError
    except ImportError as error:
        raise ConfigError("optuna", "(missing)", "is needed for a search", "pip install 'optuna>=5,<6'") from error
    try:
        return _opened(optuna, search, first)
    except (DatabaseError, optuna.exceptions.StorageInternalError) as error:
        raise RecordError(
            f"{search.sweep.folder / STUDY}: damaged ({str(error).splitlines()[0]}); delete it and resume the search: "
            "what was measured lies in cells/ and is not measured again"
        ) from error


def _opened(optuna: Any, search: Search, first: Cell) -> Any:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{(search.sweep.folder / STUDY).resolve()}"
    identity = search.sweep.identity_of(first.config)
    name = f"search-{identity.code}-{identity.weights}-{identity.environment}"
    outdated = [one for one in optuna.get_all_study_names(storage) if one != name]
    is_new = name not in optuna.get_all_study_names(storage)
    study = optuna.create_study(
        storage=storage, study_name=name, directions=list(search.directions), load_if_exists=True
    )
    if is_new and outdated:
        for frozen in optuna.load_study(study_name=outdated[-1], storage=storage).get_trials(deepcopy=False):
            study.enqueue_trial(frozen.params, skip_if_exists=True)
    # A resumed sampler begins anew: with the same seed it would propose the same things once more
    seed = int(search.settings["sampler_seed"]) + len(study.get_trials(deepcopy=False))
    makers = {
        "tpe": optuna.samplers.TPESampler,
        "nsga2": optuna.samplers.NSGAIISampler,
        "random": optuna.samplers.RandomSampler,
    }
    study.sampler = makers[search.settings["sampler"]](seed=seed)
    for frozen in study.get_trials(deepcopy=False):
        if frozen.state.is_finished():
            told = Told(
                values=tuple(frozen.values) if frozen.values else None,
                excess=frozen.user_attrs["excess"],
                reason=frozen.user_attrs["reason"],
            )
            search.add(row_of(frozen.number, frozen.user_attrs["label"], frozen.params, told))
    return study


def proposals(study: Any, search: Search) -> Iterator[Any]:
    """First those that a killed search had begun, then new ones until so many different cells have been told."""
    import optuna

    for frozen in study.get_trials(deepcopy=False):
        if frozen.state == optuna.trial.TrialState.RUNNING:
            yield optuna.trial.Trial(study, frozen._trial_id)
    while len(search.rows) < search.wanted:
        yield study.ask()


def tell(study: Any, trial: Any, label: str, told: Told) -> None:
    """Beside the numbers, what a resumed search needs to know without asking again."""
    import optuna

    for name, value in (("label", label), ("excess", dict(told.excess)), ("reason", told.reason)):
        trial.set_user_attr(name, value)
    for name, excess in told.excess.items():
        trial.set_constraint(name, excess)
    if told.values is None:
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    else:
        study.tell(trial.number, list(told.values))


def row_of(number: int, label: str, params: Mapping[str, object], told: Told) -> SearchRow:
    """A trial as search.json has it."""
    return {
        "number": number, "label": label, "params": dict(params),
        "values": None if told.values is None else list(told.values), "constraints": dict(told.excess),
        "reason": told.reason, "is_feasible": False, "is_on_front": False,
    }  # fmt: skip


def told_of(row: SearchRow) -> Told:
    values = row["values"]
    return Told(values=None if values is None else tuple(values), excess=row["constraints"], reason=row["reason"])


def save_search(search: Search) -> None:
    """search.json: every cell with its figures, and which ones no other beats; the report draws it."""
    for row in search.rows:
        excess = row["constraints"].values()
        row["is_feasible"], row["is_on_front"] = row["values"] is not None and all(v <= 0 for v in excess), False
    feasible = [(row, row["values"]) for row in search.rows if row["is_feasible"] and row["values"] is not None]
    for index in pareto_front([values for _, values in feasible], search.directions):
        feasible[index][0]["is_on_front"] = True
    objectives = [
        {"name": name, "direction": way} for name, way in zip(search.objectives, search.directions, strict=True)
    ]
    content = {
        "schema_version": 1, "objectives": objectives, "constraints": [str(limit) for limit in search.constraints],
        "trials": search.rows,
    }  # fmt: skip
    write_atomically(search.sweep.folder / SEARCH, json.dumps(content, indent=1, allow_nan=False) + "\n")
