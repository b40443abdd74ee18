"""What of a COMPARISON or LOAD folder goes into MLflow: one run each, a function of the stored files only.

No number of a comparison whose environment was invalid or whose side failed, none of a load whose audio was invalid or
whose engine was not steady: such a run has its tags and its files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.tracking_runs import (
    FolderContent,
    RunContent,
    default_settings,
    files_of,
    run_tags,
    unix_ms,
)
from experiments.tracking_series import Point
from experiments.tracking_tags import (
    as_tags,
    environment_tags,
    fingerprint,
    outcome_tags,
    quotable,
    settings_params,
)
from metrics.record import RecordError

VERDICT, PAIRS, LOAD, REQUESTS = "verdict.json", "pairs.jsonl", "load.json", "requests.jsonl"
COMPARISON_FILES = (VERDICT, "summary.md", "junit.xml", PAIRS, "log.txt")
LOAD_FILES = (LOAD, "load.md", REQUESTS)
SAME_RUN = "same-run"
WITHOUT_NUMBERS = ("INVALID_ENV", "FAILED")
PERCENTILES = ("p50", "p95", "p99")


def is_comparison(folder: Path) -> bool:
    """A verdict of experiments.compare; other verdicts belong to a run."""
    path = folder / VERDICT
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("kind") == SAME_RUN


def is_load(folder: Path) -> bool:
    return (folder / LOAD).is_file()


def verdict_folder(folder: Path) -> FolderContent:
    """Of a comparison or a load. Raises RecordError for files that these did not write."""
    make = _comparison if is_comparison(folder) else _load
    name = VERDICT if make is _comparison else LOAD
    try:
        return make(folder, json.loads((folder / name).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{folder / name}: holds what cannot be tracked ({error}); measure it again") from error


def _comparison(folder: Path, verdict: Mapping[str, Any]) -> FolderContent:
    outcome, end_ms = str(verdict["outcome"]), unix_ms(verdict["created"])
    sides = {name: side for name, side in verdict.get("sides", {}).items() if "config" in side}
    configs = {name: side["config"] for name, side in sides.items()}
    run_uuid = quotable(f"{folder.name} {verdict['created']}")
    tags: dict[str, str | None] = {
        **run_tags("compare", "experiments.compare", run_uuid, "failed" if outcome == "FAILED" else "ok"),
        **environment_tags(verdict.get("environment", {})),
        **outcome_tags(outcome),
        "verdict.reason": verdict.get("reason"),
    }
    params: dict[str, str] = {}
    for name, side in sides.items():
        tags[f"{name}.git.commit"] = side.get("commit")
        params.update(settings_params(f"{name}.", side["config"], side.get("facts") or {}))
    if configs:
        asked = [config.get("workload") for config in configs.values()]
        tags["harness.fingerprint"] = fingerprint(asked, *configs.values())
    countable = outcome not in WITHOUT_NUMBERS
    run = RunContent(
        key=".",
        run_uuid=run_uuid,
        name=folder.name,
        status="FAILED" if outcome == "FAILED" else "FINISHED",
        start_ms=end_ms - round(1000 * float(verdict.get("wall_s", 0.0))),
        end_ms=end_ms,
        tags=as_tags(tags),
        params=params,
        summary=_ratios(verdict) if countable else {},
        points=_turns(folder, end_ms) if countable else (),
        texts={},
        files=files_of(folder, COMPARISON_FILES),
    )
    tracking = verdict.get("tracking") or configs.get("candidate", {}).get("tracking") or {}
    return FolderContent(folder=folder, parent=run, children=(), settings={**default_settings(), **tracking})


def _ratios(verdict: Mapping[str, Any]) -> dict[str, float]:
    """Per gated metric the ratio candidate / reference with the bounds that decided, and each side's median call."""
    found: dict[str, Any] = {"num_blocks": verdict["num_blocks"], "num_turns": verdict["num_turns"]}
    sentinel = verdict.get("sentinel")
    named = [(finding["metric"], finding) for finding in verdict["findings"]]
    for name, finding in [*named, *([("sentinel", sentinel)] if sentinel else [])]:
        found[f"{name}/ratio"] = finding["ratio"]
        found.update({f"{name}/ratio_{end}": finding[end] for end in ("low", "high")})
        found.update({f"{name}/{side}_p50_s": seconds for side, seconds in finding["median_s"].items()})
    return _finite(found)


def _turns(folder: Path, end_ms: int) -> tuple[Point, ...]:
    """Every timed call of every side; step: its turn, counted through all blocks."""
    lines = (folder / PAIRS).read_text(encoding="utf-8").splitlines()
    turns = [entry for entry in map(json.loads, lines) if entry["kind"] == "turn"]
    return tuple(
        Point(key=f"turn/{side}_wall_s", value=float(seconds), timestamp_ms=end_ms, step=step)
        for step, turn in enumerate(turns)
        for side, seconds in turn["wall_s"].items()
    )


def _load(folder: Path, load: Mapping[str, Any]) -> FolderContent:
    end_ms, config, status = unix_ms(load["created"]), load["config"], str(load["status"])
    run_uuid = quotable(f"{folder.name} {load['created']}")
    tags = {
        **run_tags("load", "experiments.load", run_uuid, status),
        **environment_tags(load["environment"]),
        "harness.label": load["label"],
        "harness.reason": load["reason"],
        "harness.fingerprint": fingerprint(load["workload"].get("identity_sha256"), config),
        "workload": str(load["workload"].get("name")),
        "load.scenario": load["settings"]["scenario"],
        "audio.valid": "invalid" if load["audio"]["num_invalid"] else "valid",
        "timing.unsteady": load["reason"] if status == "unsteady" else None,
        "random_weights": "true" if (load.get("facts") or {}).get("random_weights") else None,
    }
    for name in ("leak", "search"):
        if load.get(name):
            tags[f"load.{name}"] = load[name]["outcome"]
    asked = {f"load.{key}": value for key, value in load["settings"].items()}
    run = RunContent(
        key=".",
        run_uuid=run_uuid,
        name=folder.name,
        status="FAILED" if status == "failed" else "FINISHED",
        start_ms=_load_start_ms(folder),
        end_ms=end_ms,
        tags=as_tags(tags),
        params=settings_params("", {**config, **asked}, load.get("facts") or {}),
        summary=_load_summary(load),
        points=_level_points(load.get("levels") or [], end_ms),
        texts={},
        files=files_of(folder, LOAD_FILES),
    )
    settings = {**default_settings(), **(config.get("tracking") or {})}
    return FolderContent(folder=folder, parent=run, children=(), settings=settings)


def _load_summary(load: Mapping[str, Any]) -> dict[str, float]:
    """What the load was for: the rate that holds, the leak's slope, cold over warm."""
    found: dict[str, Any] = {}
    if search := load.get("search"):
        found.update({f"search/{end}_per_s": search[f"{end}_per_s"] for end in ("holds", "fails")})
    if leak := load.get("leak"):
        low, high = leak["interval_bytes_per_h"] or (None, None)
        slope = {"": leak["slope_bytes_per_h"], "_low": low, "_high": high}
        found.update({f"leak/bytes_per_h{end}": value for end, value in slope.items()})
    ratio = (load.get("cold_vs_warm") or {}).get("ratio")
    if ratio:
        found.update({f"cold_over_warm/{key}": ratio[key] for key in ("ratio", "low", "high")})
    return _finite(found)


def _load_start_ms(folder: Path) -> int:
    with (folder / REQUESTS).open(encoding="utf-8") as journal:
        return unix_ms(json.loads(journal.readline())["created"])


def _level_points(levels: Sequence[Mapping[str, Any]], end_ms: int) -> tuple[Point, ...]:
    """Step: the level's place in the load. A percentile that had too few requests has no point."""
    points = []
    for step, level in enumerate(levels):
        values = {f"load/{name}_s": level[f"latency_{name}"]["value_s"] for name in PERCENTILES}
        values.update({f"load/{name}": level[name] for name in ("requests_per_s", "generated_s_per_s", "error_frac")})
        values["load/queue_mean"] = level["queue"]["mean"]
        values.update({f"load/{name}": value for name, value in level["setting"].items()})
        points += [
            Point(key=key, value=value, timestamp_ms=end_ms, step=step) for key, value in _finite(values).items()
        ]
    return tuple(points)


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    """Without what was not measured and what is no number."""
    numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
    return {key: float(value) for key, value in numbers.items() if not isinstance(value, bool) and math.isfinite(value)}
