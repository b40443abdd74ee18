"""OUT/listening.json beside each run that was listened to: what every set that it was in found about it."""

from __future__ import annotations

import json
from pathlib import Path

from metrics.record import RecordError, write_atomically
from reports.listening.judging.stored import ListeningVerdict, RunPart
from reports.listening.judging.verdict import SCHEMA_VERSION, Findings

BESIDE_RUN = "listening.json"


def write_beside_runs(findings: Findings, data: ListeningVerdict) -> list[Path]:
    """OUT/listening.json in each run's folder: its part of every set it was in. Folders that are gone are left out."""
    written = []
    for system in findings.key.systems:
        folder = findings.key.folder / system["folder"]
        if not (folder / "result.json").is_file():
            continue
        path = folder / BESIDE_RUN
        sets = _known_sets(path)
        sets[findings.key.set_sha256] = _part_of(system["name"], data)
        content = {"schema_version": SCHEMA_VERSION, "kind": "listening-of-run", "sets": sets}
        write_atomically(path, json.dumps(content, allow_nan=False, indent=1, sort_keys=True) + "\n")
        written.append(path)
    return written


def _known_sets(path: Path) -> dict[str, RunPart]:
    """Of the sets a run was in before. Raises RecordError for a file that collect did not write: nothing is lost."""
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["sets"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecordError(
            f"{path}: not what collect leaves beside a run ({error}); move it away and collect every set again"
        ) from error


def _part_of(name: str, data: ListeningVerdict) -> RunPart:
    counted = data["counted"]
    return {
        "name": name,
        "method": data["method"],
        "key_sha256": data["key_sha256"],
        "status": data["status"],
        "num_listeners": sum(listener["is_counted"] for listener in data["listeners"]),
        "comparisons": [
            c for c in (counted["comparisons"] if counted else ()) if name in (c["baseline"], c["candidate"])
        ],
        "opinions": [o for o in (counted["opinions"] if counted else ()) if o["system"] == name],
    }
