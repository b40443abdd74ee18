"""What of a COMPARISON or LOAD folder goes into MLflow: one run each, a function of the stored files only.

No number of a comparison whose environment was invalid or whose side failed, none of a load whose audio was invalid or
whose engine was not steady: such a run has its tags and its files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from experiments.common.journal import KINDS
from experiments.common.plain import as_config
from experiments.compare.settings import is_read
from experiments.tracking.runs import (
    FolderContent,
    RunContent,
    files_of,
    owner_of,
    run_tags,
    settings_of,
    unix_ms,
)
from experiments.tracking.series import Point
from experiments.tracking.stored import AudioEntry, LevelEntry, LoadFile, SideContent, VerdictFile
from experiments.tracking.tags import (
    as_tags,
    asked_params,
    dataset_of,
    environment_tags,
    fingerprint,
    outcome_tags,
    quotable,
    variant_params,
)
from metrics.journal_lines import read_lines, torn_text
from metrics.record import RecordError

VERDICT, PAIRS, LOAD, REQUESTS = "verdict.json", "pairs.jsonl", "load.json", "requests.jsonl"
COMPARISON_FILES = (VERDICT, "summary.md", "junit.xml", PAIRS, "log.txt")
LOAD_FILES = (LOAD, "load.md", REQUESTS)
SAME_RUN, FAILED = "same-run", "FAILED"
WITHOUT_NUMBERS = ("INVALID_ENV", FAILED)


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


def _comparison(folder: Path, verdict: VerdictFile) -> FolderContent:
    outcome, end_ms = str(verdict["outcome"]), unix_ms(verdict["created"])
    has_failed, countable = outcome == FAILED, outcome not in WITHOUT_NUMBERS
    sides = {name: side for name, side in verdict.get("sides", {}).items() if "config" in side}
    run_uuid = quotable(f"{folder.name} {verdict['created']}")
    tags: dict[str, str | None] = {
        **run_tags("compare", "compare", run_uuid, "failed" if has_failed else "ok"),
        **environment_tags(verdict.get("environment", {})),
        "mlflow.user": owner_of(folder),
        "mlflow.note.content": _verdict_note(verdict, sides),
        **({"verdict": FAILED.lower()} if has_failed else outcome_tags(outcome)),
        "verdict.reason": verdict.get("reason"),
        "journal.torn": _torn(folder / PAIRS),
        "random_weights": "true" if any(side["facts"].get("random_weights") for side in sides.values()) else None,
    }
    params: dict[str, str] = {}
    for name, side in sides.items():
        tags[f"{name}.git.commit"] = side.get("commit")
        read = {group: value for group, value in side["config"].items() if is_read(group)}
        params.update(variant_params(f"{name}.", read, side["facts"]))
    if workload := verdict.get("workload"):
        tags["workload"] = workload["name"]
        # Not the revisions: HEAD against the one before is the same question in every pull request
        tags["harness.fingerprint"] = fingerprint(
            workload["identity_sha256"], *(side["config"] for side in sides.values())
        )
    run = RunContent(
        key=".",
        run_uuid=run_uuid,
        name=folder.name,
        status="FAILED" if has_failed else "FINISHED",
        start_ms=end_ms - round(1000 * float(verdict.get("wall_s", 0.0))),
        end_ms=end_ms,
        tags=as_tags(tags),
        params=params,
        summary=_ratios(verdict) if countable else {},
        points=_turns(folder, end_ms) if countable else (),
        texts={},
        files=files_of(folder, COMPARISON_FILES),
        dataset=dataset_of(verdict.get("workload") or {}),
    )
    # Verdicts once held it with the candidate's other settings only
    tracking = verdict.get("tracking")
    if not tracking and "candidate" in sides:
        tracking = as_config(sides["candidate"]["config"]).get("tracking")
    settings = settings_of(tracking)
    return FolderContent(folder=folder, parent=run, children=(), settings=settings)


def _verdict_note(verdict: VerdictFile, sides: Mapping[str, SideContent]) -> str:
    """The verdict in a sentence, for MLflow's description of the run."""
    labels = " against ".join(str(sides[name]["label"]) for name in ("candidate", "reference") if name in sides)
    return f"{verdict['outcome']}{': ' if labels else ''}{labels}" + (
        f". {verdict['reason']}" if verdict.get("reason") else ""
    )


def _ratios(verdict: VerdictFile) -> dict[str, float]:
    """Per gated metric the ratio candidate / reference with the bounds that decided, and each side's median call."""
    found: dict[str, object] = {"num_blocks": verdict["num_blocks"], "num_turns": verdict["num_turns"]}
    sentinel = verdict.get("sentinel")
    named = [(finding["metric"], finding) for finding in verdict["findings"]]
    for name, finding in [*named, *([("sentinel", sentinel)] if sentinel else [])]:
        found[f"{name}/ratio"] = finding["ratio"]
        found |= {f"{name}/ratio_low": finding["low"], f"{name}/ratio_high": finding["high"]}
        found.update({f"{name}/{side}_p50_s": seconds for side, seconds in finding["median_s"].items()})
    return _finite(found)


def _turns(folder: Path, end_ms: int) -> tuple[Point, ...]:
    """Every timed call of every side; step: its turn, counted through all blocks."""
    lines = read_lines(folder / PAIRS, KINDS)
    turns = [entry for entry in lines.entries if entry["kind"] == "turn"]
    if lines.torn and not turns:
        raise ValueError(f"{PAIRS}: {torn_text(lines.torn)}, and no turn is whole")
    return tuple(
        Point(key=f"turn/{side}_wall_s", value=float(seconds), timestamp_ms=end_ms, step=step)
        for step, turn in enumerate(turns)
        for side, seconds in turn["wall_s"].items()
    )


def _load(folder: Path, load: LoadFile) -> FolderContent:
    end_ms, config, status = unix_ms(load["created"]), load["config"], str(load["status"])
    facts, reason, levels = load.get("facts") or {}, load.get("reason"), load.get("levels") or []
    answered = bool(load.get("cold_vs_warm")) or any(level["num_ok"] for level in levels)
    if status == "ok" and not answered:
        status, reason = "failed", "no request was answered"
    countable = answered and status in ("ok", "failed")
    run_uuid = quotable(f"{folder.name} {load['created']}")
    tags = {
        **run_tags("load", "load", run_uuid, status),
        **environment_tags(load["environment"]),
        "mlflow.user": owner_of(folder),
        "mlflow.note.content": f"{status}: {reason}" if reason else None,
        "harness.label": load["label"],
        "harness.reason": reason,
        "harness.fingerprint": fingerprint(load["workload"].get("identity_sha256"), config),
        "workload": str(load["workload"].get("name")),
        "load.scenario": load["settings"]["scenario"],
        "audio.valid": _validity(load["audio"], bool(facts.get("random_weights"))),
        "timing.unsteady": reason if status == "unsteady" else None,
        "journal.torn": _torn(folder / REQUESTS),
        "random_weights": "true" if facts.get("random_weights") else None,
    }
    for name, found in (("leak", load.get("leak")), ("search", load.get("search")), ("target", load.get("target"))):
        if found:
            tags[f"load.{name}"] = found["outcome"]
    run = RunContent(
        key=".",
        run_uuid=run_uuid,
        name=folder.name,
        status="FAILED" if status == "failed" else "FINISHED",
        start_ms=_load_start_ms(folder),
        end_ms=end_ms,
        tags=as_tags(tags),
        params=variant_params("", config, facts) | asked_params("load.", load["settings"]),
        summary=_load_summary(load) if countable else {},
        points=(),
        texts={},
        files=files_of(folder, LOAD_FILES),
        dataset=dataset_of(load["workload"]),
    )
    settings = settings_of(config.get("tracking"))
    return FolderContent(folder=folder, parent=run, children=(), settings=settings)


def _validity(audio: AudioEntry, is_random: bool) -> str | None:
    """In the words of a run's tag; None where nothing was heard."""
    if not audio["num_heard"]:
        return None
    return "invalid" if audio["num_invalid"] else "random" if is_random else "valid"


def _load_summary(load: LoadFile) -> dict[str, float]:
    """The levels, or what else the load was for: the rate that holds, the leak's slope, cold over warm."""
    found: dict[str, object] = {}
    if search := load.get("search"):
        found |= {"search/holds_per_s": search["holds_per_s"], "search/fails_per_s": search["fails_per_s"]}
    else:  # a search's levels are probes, of which it has made its own sense
        for level in load.get("levels") or []:
            found.update(_level(level))
    if leak := load.get("leak"):
        low, high = leak["interval_bytes_per_h"] or (None, None)
        slope = {"": leak["slope_bytes_per_h"], "_low": low, "_high": high}
        found.update({f"leak/bytes_per_h{end}": value for end, value in slope.items()})
    compared = load.get("cold_vs_warm")
    if compared and (ratio := compared["ratio"]):
        found |= {f"cold_over_warm/{key}": value for key, value in ratio.items() if key in ("ratio", "low", "high")}
    return _finite(found)


def _load_start_ms(folder: Path) -> int:
    started = [entry for entry in read_lines(folder / REQUESTS, KINDS).entries if entry["kind"] == "start"]
    if not started:
        raise ValueError(f"{REQUESTS} does not say when it was begun")
    return unix_ms(started[0]["created"])


def _torn(path: Path) -> str | None:
    """What of a journal was lost, for its run's tag."""
    torn = read_lines(path, KINDS).torn if path.is_file() else ()
    return f"{path.name}: {torn_text(torn)}" if torn else None


def _level(level: LevelEntry) -> dict[str, object]:
    """Named by the level, so that no figure of one stands beside those of another as if they were of one."""
    if level.get("refusal"):
        return {f"load/{level['name']}/error_frac": level["error_frac"]}
    found: dict[str, object] = {
        "p50_s": level["latency_p50"]["value_s"], "p95_s": level["latency_p95"]["value_s"],
        "p99_s": level["latency_p99"]["value_s"], "requests_per_s": level["requests_per_s"],
        "generated_s_per_s": level["generated_s_per_s"], "error_frac": level["error_frac"],
        "queue_mean": level["queue"]["mean"],
    }  # fmt: skip
    return {f"load/{level['name']}/{name}": value for name, value in found.items()}


def _finite(values: Mapping[str, object]) -> dict[str, float]:
    """Without what was not measured and what is no number."""
    numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
    return {key: float(value) for key, value in numbers.items() if not isinstance(value, bool) and math.isfinite(value)}
