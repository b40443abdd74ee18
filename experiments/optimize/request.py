"""What a search was asked for: read from the command line, checked, kept, read again where it goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.contract import ConfigError
from experiments.common.plain import Config, SweepSettings
from experiments.common.presets import own_folder
from experiments.measuring.running import default_out
from experiments.measuring.validate import validate, validate_out
from experiments.optimize.space import ENERGY_OBJECTIVES, SAMPLERS, Space, directions_of, read_constraints, read_space
from experiments.optimize.study import Search
from experiments.settings.compose import compose_config
from experiments.settings.keys import key_of
from experiments.sweep.cells import Sweep, read_cells
from experiments.sweep.ledger import REQUEST, Ledger, load_ledger, new_ledger
from experiments.sweep.running import resume_folder
from experiments.telemetry.backends import choose, missing_power
from experiments.workload.requests import load_workload
from metrics.record import RecordError, write_atomically
from metrics.typed import from_json, load_json

SEARCH_SWEEP, NUM_TRIALS = "sweep=search", "sweep.num_trials"


@dataclass(frozen=True, slots=True)
class _Request:
    """request.json: the command line that the search was started with, and the folder of own presets."""

    argv: tuple[str, ...]
    config_dir: str | None = None


def new_search(argv: Sequence[str], folder: Path | None = None) -> Search:
    """Everything is checked, the folder is made, the request is kept, before anything is measured.

    folder: of a host class that other machines measure; who asked keeps the request beside it.
    """
    space, config = asked(argv)
    validate(config, elsewhere=folder is not None)
    if folder is None:
        _refuse_without_energy(space, config)
    out = folder or search_folder(config)
    search = _search_of(space, config["sweep"], Sweep(folder=out, cells=[], ledger=new_ledger(out, [], [])))
    validate_out(out, int(config["sweep"]["num_trials"]) + 1, len(load_workload(config).lines))
    if folder is None:
        keep_request(out, argv)
    search.sweep.ledger.save()
    return search


def search_folder(config: Config) -> Path:
    """Where a new search goes."""
    return Path(config["out"] or default_out("search"))


def keep_request(folder: Path, argv: Sequence[str]) -> None:
    own = own_folder()
    write_atomically(folder / REQUEST, json.dumps({"argv": list(argv), "config_dir": own and str(own)}) + "\n")


def _refuse_without_energy(space: Space, config: Config) -> None:
    """Every trial would be measured and have no number. Raises ConfigError."""
    settings = config["sweep"]
    named = [
        *settings["objectives"], *(limit.metric for limit in read_constraints(settings["constraints"])),
    ]  # fmt: skip
    named = [name for name in named if name in ENERGY_OBJECTIVES]
    if not named or any(dimension.key.partition(".")[0] == "measure" for dimension in space.dimensions):
        return
    if not config["measure"].get("energy_busy_s"):
        raise ConfigError("sweep.objectives", named[0], "needs a pass of its own for energy", "add measure=energy")
    head = choose(str(config["device"]["kind"])).head()
    if not head.get("rule"):
        raise ConfigError(
            "sweep.objectives", named[0], f"has no source of power here: {missing_power(head)}",
            "f5bench telemetry watch shows what there is",
        )  # fmt: skip


def asked(argv: Sequence[str]) -> tuple[Space, Config]:
    """(what is searched, the configuration of all that is fixed). Raises ConfigError."""
    settings = [arg for arg in argv if key_of(arg).startswith("sweep.")]
    space = read_space(argv, compose_config([SEARCH_SWEEP, *settings])["sweep"]["space"])
    return space, compose_config([SEARCH_SWEEP, *space.fixed])


def request_of(folder: Path) -> tuple[list[str], Path | None]:
    """(overrides, own presets or None) that a search was started with. Raises RecordError."""
    try:
        request = from_json(_Request, load_json(folder / REQUEST))
    except (OSError, ValueError) as error:
        raise RecordError(
            f"{folder / REQUEST}: no such search; give the folder that experiments.optimize left"
        ) from error
    return list(request.argv), None if request.config_dir is None else Path(request.config_dir)


def folder_of(argv: Sequence[str]) -> Path:
    """DIR of resume=DIR, beside which the number of trials alone may be said. Raises ConfigError."""
    folder = resume_folder([arg for arg in argv if key_of(arg) != NUM_TRIALS])
    assert folder is not None
    return folder


def resumed_words(argv: Sequence[str]) -> list[str]:
    """The overrides that a search goes on with; only the number of its trials may be another."""
    more = [arg for arg in argv if key_of(arg) == NUM_TRIALS]
    first, _ = request_of(folder_of(argv))
    return [*[arg for arg in first if not more or key_of(arg) != NUM_TRIALS], *more]


def resumed_search(argv: Sequence[str], part: str = "", more: Sequence[str] = ()) -> Search:
    """The search of resume=DIR. part: the folder in it of a host class; more: overrides of that class."""
    folder = folder_of(argv) / part
    space, config = asked([*resumed_words(argv), *more])
    ledger: Ledger = load_ledger(folder)
    return _search_of(space, config["sweep"], Sweep(folder=folder, cells=read_cells(ledger), ledger=ledger))


def _search_of(space: Space, settings: SweepSettings, sweep: Sweep) -> Search:
    for key in ("num_trials", "sampler_seed"):
        if not isinstance(settings[key], int) or settings[key] < (key == "num_trials"):
            raise ConfigError(f"sweep.{key}", settings[key], "must be a whole number", f"use sweep.{key}=1")
    if settings["sampler"] not in SAMPLERS:
        raise ConfigError("sweep.sampler", settings["sampler"], f"must be one of {', '.join(SAMPLERS)}", "use tpe")
    return Search(
        sweep=sweep,
        space=space,
        settings=settings,
        objectives=tuple(settings["objectives"]),
        directions=directions_of(settings["objectives"]),
        constraints=read_constraints(settings["constraints"]),
    )
