"""What a finished run is scored towards, found from where it lies: its reference, and the oracle of its sweep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.paths import find_file
from experiments.common.plain import Config, QualitySettings, as_config
from experiments.measuring.job import RESULT
from experiments.settings.compose import Cell, compose_config
from experiments.settings.reference import is_reference, needs_reference, reference_config, reference_key
from metrics.record import RecordError, RunRecord, load_record

CELLS, REFERENCE = "cells", "reference"


def widened(quality: QualitySettings, name: str) -> QualitySettings:
    """The `quality` group of a run with the scores of another choice besides; its models and limits stay its own."""
    asked = compose_config([f"quality={name}"])["quality"]
    metrics = list(dict.fromkeys([*quality["metrics"], *asked["metrics"]]))
    return {**quality, "name": name, "enabled": True, "metrics": metrics}


def sides_of(folder: Path, quality_set: str | None = None) -> tuple[Path | None, Path | None]:
    """(reference, oracle) of a run or of a cell of a sweep; None where there is none. Raises RecordError for no run.

    quality_set: as `widened` takes it, where more is scored than the run asked for.
    """
    record = load_record(folder / RESULT)
    if "quality" not in record.config:
        raise RecordError(f"{folder / RESULT}: config.quality is missing; run again")
    quality = as_config(record.config)["quality"]
    config = {**record.config, "quality": quality if quality_set is None else widened(quality, quality_set)}
    return _reference(folder, as_config(config)), _oracle(folder, record)


def runs_in(folder: Path) -> list[Path]:
    """The run of a folder, or the cells of a sweep that were measured to their end. Raises RecordError for none."""
    if (folder / RESULT).exists() or not (folder / CELLS).is_dir():
        return [folder]
    found = [cell for cell, _ in _records(sorted((folder / CELLS).iterdir()))]
    if not found:
        raise RecordError(f"{folder}: no variant of this sweep was measured to its end; go on with it first")
    return found


def _reference(folder: Path, config: Config) -> Path | None:
    """As a run and a sweep take it: the one that is named, else a cell of the sweep, else the one kept beside."""
    if not needs_reference(config):
        return None
    given = config["quality"]["reference_dir"]
    if given is not None:
        return find_file(str(given))
    if is_reference(config):
        return None
    key = reference_key(config)
    beside = [folder / REFERENCE, *(sorted(_sweep(folder).glob(f"{REFERENCE}*")) if _is_cell(folder) else [])]
    for other, theirs in _records([*_neighbours(folder), *beside]):
        known = as_config(theirs.config)
        if is_reference(known) and reference_key(known) == key:
            return other
    return None


def _oracle(folder: Path, record: RunRecord) -> Path | None:
    """The float32 cell on the same grid."""

    found = dict(_records(_neighbours(folder)))
    cells = {other: _cell(theirs) for other, theirs in found.items()}
    oracle = oracle_of(list(cells.values()), _cell(record))
    return next((other for other, cell in cells.items() if cell is oracle), None)


def _cell(record: RunRecord) -> Cell:
    return Cell(label=record.label, overrides=(), config=as_config(record.config))


def _neighbours(folder: Path) -> list[Path]:
    return sorted(folder.resolve().parent.iterdir()) if _is_cell(folder) else []


def _is_cell(folder: Path) -> bool:
    return folder.resolve().parent.name == CELLS


def _sweep(folder: Path) -> Path:
    return folder.resolve().parent.parent


def _records(folders: list[Path]) -> Iterator[tuple[Path, RunRecord]]:
    """Of what was measured to its end; what was not is nothing to compare with."""
    for folder in folders:
        try:
            record = load_record(folder / RESULT)
        except RecordError:
            continue
        if record.status == "ok":
            yield folder, record


def oracle_of(cells: Sequence[Cell], cell: Cell) -> Cell | None:
    """The float32 cell on the same grid, None for itself or where there is none."""
    wanted = {**{key: cell.config.get(key) for key in ORACLE_KEYS}, "engine": reference_config(cell.config)["engine"]}
    if cell.config["engine"] == wanted["engine"]:
        return None
    return next((other for other in cells if all(other.config.get(key) == wanted[key] for key in wanted)), None)


# What an engine is compared with at the same grid must agree in these
ORACLE_KEYS = ("model", "solver", "vocoder", "reference", "workload", "seed", "text", "enhance")
