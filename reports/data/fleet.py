"""A sweep on several host classes, as its fleet.json lists them: a folder with an ordinary sweep for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from metrics.record import RecordError
from metrics.typed import load_json

FLEET, FLEET_SCHEMA_VERSION = "fleet.json", 1


class HostEntry(TypedDict):
    """One of `hosts`."""

    name: str
    host_class: str
    reason: str | None


class FleetFile(TypedDict):
    """fleet.json."""

    schema_version: int
    hosts: list[HostEntry]


@dataclass(frozen=True, kw_only=True, slots=True)
class HostTable:
    """name: of the class, and of its folder. reason: why machines of one class are several tables."""

    name: str
    host_class: str
    reason: str | None


def host_tables(folder: Path) -> tuple[HostTable, ...]:
    """Raises RecordError for a file that this program has not written."""
    path = folder / FLEET
    try:
        content: FleetFile = load_json(path)
        if content["schema_version"] != FLEET_SCHEMA_VERSION:
            raise ValueError(f"schema version {content['schema_version']}, this program reads {FLEET_SCHEMA_VERSION}")
        found = [
            HostTable(name=str(host["name"]), host_class=str(host["host_class"]), reason=host["reason"])
            for host in content["hosts"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path}: damaged ({error}); start the sweep again") from error
    for host in found:
        if Path(host.name).name != host.name:
            raise RecordError(f"{path}: {host.name} leads out of the folder; start the sweep again")
    return tuple(found)
