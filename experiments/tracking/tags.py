"""Names by which MLflow finds a run again: parameters from its configuration, tags from its host and its verdict."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from baselines.class_history import machine_fault
from metrics.record import RunRecord, to_json
from metrics.verdict import OLD_WORDS
from reports.data.quality import is_random

MAX_PARAM_CHARS = 250
MAX_TAG_CHARS = 2000
# What is fixed for one workload: two runs may be compared when these and the host class agree.
FINGERPRINTED = ("model", "engine", "solver", "vocoder")
NOT_PARAMETERS = ("tracking", "out", "sweep")
QUALITY_GATE = "quality_gate"
UNREADABLE = "unreadable"


def fingerprint(workload: Any, *configs: Mapping[str, Any]) -> str:
    """Same workload, model, engine, solver and vocoder settings: same fingerprint. The host is a tag of its own."""
    settings = [{group: config.get(group) for group in FINGERPRINTED} for config in configs]
    identity = to_json([workload, *settings])
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def host_tags(record: RunRecord) -> dict[str, str | None]:
    return {**environment_tags(record.environment), **({"random_weights": "true"} if is_random(record) else {})}


def environment_tags(known: Mapping[str, Any]) -> dict[str, str | None]:
    names = {"host_class": "host.class", "device": "device", "gpu": "gpu", "power_mode": "power_mode"}
    tags = {tag: None if known.get(key) is None else str(known[key]) for key, tag in names.items()}
    if fault := machine_fault(known):
        tags.update({"env.valid": "false", "env.reason": fault})
    commit, dirty = known.get("git_commit"), known.get("git_dirty")
    if commit is not None:
        tags.update({"git.commit": str(commit), "mlflow.source.git.commit": str(commit)})
    if dirty is not None:
        tags["git.dirty"] = str(bool(dirty)).lower()
    return tags


def verdict_tags(folder: Path) -> dict[str, str | None]:
    """Of a speed gate, and of a quality gate in its folder below the run."""
    speed, quality = _outcome(folder / "verdict.json"), _outcome(folder / QUALITY_GATE / "verdict.json")
    return {**({} if speed is None else outcome_tags(speed)), "quality.verdict": quality and quality.lower()}


def outcome_tags(outcome: str) -> dict[str, str | None]:
    if outcome == UNREADABLE:
        return {"verdict": outcome}
    return {"verdict": outcome.lower(), "env.valid": "false" if outcome == "INVALID_ENV" else "true"}


def _outcome(path: Path) -> str | None:
    """None where nobody judged."""
    if not path.is_file():
        return None
    try:
        outcome = str(json.loads(path.read_text(encoding="utf-8")).get("outcome", "unknown"))
        return OLD_WORDS.get(outcome, outcome)
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError):
        return UNREADABLE


def params_of(record: RunRecord) -> dict[str, str]:
    """The configuration and, below `built.`, what the engine says of itself."""
    return settings_params("", record.config, record.facts or {})


def settings_params(prefix: str, config: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, str]:
    """Long values are in the folder's own files only."""
    config = {group: value for group, value in config.items() if group not in NOT_PARAMETERS}
    facts = {key: value for key, value in facts.items() if key not in ("proof", "versions", "environment")}
    flat = {**_flat(prefix, config), **_flat(f"{prefix}built.", facts)}
    return {key: value for key, value in flat.items() if len(value) <= MAX_PARAM_CHARS}


def _flat(prefix: str, value: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, entry in value.items():
        name = prefix + re.sub(r"[^\w\-. ]", "_", str(key), flags=re.ASCII)
        if isinstance(entry, Mapping):
            found.update(_flat(f"{name}.", entry))
        else:
            found[name] = entry if isinstance(entry, str) else to_json(plain(entry))
    return found


def plain(value: Any) -> Any:
    """Tuples as lists, mappings as dicts, a number that is none as text: what YAML and JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def as_tags(tags: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value[:MAX_TAG_CHARS] for key, value in tags.items() if value}


def quotable(run_uuid: str) -> str:
    """MLflow's filter language cannot escape a quote inside a string."""
    return re.sub(r"['\"`]", "_", run_uuid)
