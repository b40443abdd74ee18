"""Folders of nightly runs with known costs, for the tests of histories and of what watches them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from metrics.record import RunRecord, save_record
from tests.baseline_runs import IDS, QUIET, Recipe, World, make_run

FIRST_NIGHT = datetime(2026, 9, 1, 3, tzinfo=timezone.utc)


def night(number: int, slower: float = 1.0, world: World = QUIET, commit: str | None = None) -> RunRecord:
    """The run of that night. slower: factor on its times, not on its calibration."""
    run = make_run(number, Recipe(world=world, slower=slower, rounds=3, ids=IDS[:4]))
    created = (FIRST_NIGHT + timedelta(days=number)).isoformat()
    environment = {**run.environment, "git_commit": commit or f"{number // 7:040x}", "git_dirty": False}
    return replace(run, run_id=f"night-{number:03d}", created=created, environment=environment)


def write_nights(folder: Path, slower: Sequence[float], world: World = QUIET, commits: Sequence[str] = ()) -> Path:
    """One run folder a night."""
    for number, factor in enumerate(slower):
        commit = commits[number] if commits else None
        save_record(night(number, factor, world, commit), folder / f"night-{number:03d}" / "result.json")
    return folder
