"""One MLflow run to be, and what every kind of output folder says of itself in the same way."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import cast

import yaml

from experiments.common.plain import TrackingSettings
from experiments.tracking.series import Point
from metrics.record import to_json

RUN_UUID = "harness.run_uuid"
RENDERED_FILES = ("verdict.json", "summary.md", "junit.xml", "report.md", "report.html", "rows.csv", "samples.parquet")
FOLDERS = {"audio": (".wav",), "plots": (".png", ".svg", ".html")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """What was spoken, as MLflow's dataset. digest: the first characters of the workload's identity.

    source and profile must follow from the identity alone: MLflow keeps those of the first run that brings it.
    """

    name: str
    digest: str
    source: Mapping[str, object]
    profile: Mapping[str, object]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RunContent:
    """One MLflow run to be. `key` names it below its folder ("." the folder itself, else the cell's folder).

    former_uuid: what an earlier form called it. texts: artifact path -> content made here; files: artifact path -> file
    on disk. end_ms is None while it runs.
    """

    key: str
    run_uuid: str
    name: str
    status: str
    start_ms: int
    end_ms: int | None
    tags: Mapping[str, str]
    params: Mapping[str, str]
    summary: Mapping[str, float]
    points: tuple[Point, ...]
    texts: Mapping[str, str]
    files: Mapping[str, Path]
    dataset: Dataset | None = None
    former_uuid: str | None = None

    def sha256(self) -> str:
        """Over everything but the files on disk."""
        parts = [self.run_uuid, self.name, self.status, self.start_ms, self.end_ms, dict(self.tags), dict(self.params)]
        numbers = [dict(self.summary), [asdict(point) for point in self.points], dict(self.texts)]
        spoken = asdict(self.dataset) if self.dataset is not None else None
        return hashlib.sha256(to_json([parts, numbers, spoken]).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FolderContent:
    """A folder's run and the runs below it, with the tracking settings it was measured under.

    shared: runs that other folders hold a copy of. MLflow has each once, below none of them.
    """

    folder: Path
    parent: RunContent
    children: tuple[RunContent, ...]
    settings: TrackingSettings
    shared: tuple[RunContent, ...] = ()

    def runs(self) -> Iterator[RunContent]:
        yield from self.shared
        yield self.parent
        yield from self.children


def settings_of(stored: TrackingSettings | None) -> TrackingSettings:
    """As stored with the runs, over conf/tracking/local.yaml."""
    path = Path(__file__).resolve().parents[2] / "conf" / "tracking" / "local.yaml"
    usual = cast(TrackingSettings, yaml.safe_load(path.read_text(encoding="utf-8")))
    return {**usual, **stored} if stored else usual


def run_tags(kind: str, verb: str, run_uuid: str, state: str) -> dict[str, str | None]:
    """verb: as f5bench calls it; MLflow shows it as the run's source."""
    return {
        RUN_UUID: run_uuid,
        "harness.kind": kind,
        "harness.status": state,
        "mlflow.source.name": f"f5bench {verb}",
        "mlflow.source.type": "LOCAL",
    }


def owner_of(folder: Path) -> str:
    """Whose folder it is: its user's name, or their number where the machine has no name for it."""
    try:
        return folder.owner()
    except KeyError:
        return f"uid {folder.stat().st_uid}"


def unix_ms(stamp: str) -> int:
    """Milliseconds since 1970 of an ISO time; one without a zone is UTC. Python 3.10 does not read a trailing Z."""
    moment = datetime.fromisoformat(re.sub(r"Z$", "+00:00", stamp))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return int(moment.timestamp() * 1000)


def files_of(folder: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """artifact path -> file, for those of `names` that are there and for audio and plots."""
    found = {name: folder / name for name in names if (folder / name).is_file()}
    for below, endings in FOLDERS.items():
        paths = sorted((folder / below).glob("*")) if (folder / below).is_dir() else []
        found.update({f"{below}/{path.name}": path for path in paths if path.suffix in endings and path.is_file()})
    return found
