"""Names by which MLflow finds a run again: parameters from its configuration, tags from its host and its verdict."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from baselines.class_history import MACHINE, machine_fault
from experiments.tracking.runs import Dataset
from metrics.record import RunRecord, to_json
from metrics.speed.trials import speed_of
from metrics.typed import part_of
from metrics.verdict import OLD_WORDS
from reports.data.quality import is_random
from reports.words import count

MAX_PARAM_CHARS = 250
MAX_TAG_CHARS = 2000
DIGEST_CHARS = 12
# What is fixed for one workload: two runs may be compared when these and the host class agree.
FINGERPRINTED = ("model", "engine", "solver", "vocoder")
NAMED_GROUPS = ("engine", "solver", "model", "vocoder", "workload", "measure", "quality")
QUALITY_GATE = "quality_gate"
UNREADABLE = "unreadable"


def fingerprint(workload: Any, *configs: Mapping[str, object]) -> str:
    """Same workload, model, engine, solver and vocoder settings: same fingerprint. The host is a tag of its own."""
    settings = [{group: config.get(group) for group in FINGERPRINTED} for config in configs]
    identity = to_json([workload, *settings])
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def host_tags(record: RunRecord) -> dict[str, str | None]:
    return {**environment_tags(record.environment), **({"random_weights": "true"} if is_random(record) else {})}


def environment_tags(known: Mapping[str, object]) -> dict[str, str | None]:
    """env.valid: whether the machine was as fast as its class; no tag where nobody could say."""
    names = {"host_class": "host.class", "device": "device", "gpu": "gpu", "power_mode": "power_mode"}
    tags = {tag: None if known.get(key) is None else str(known[key]) for key, tag in names.items()}
    if fault := machine_fault(known):
        tags.update({"env.valid": "false", "env.reason": fault})
    elif part_of(known, MACHINE).get("valid") is True:
        tags["env.valid"] = "true"
    commit, dirty = known.get("git_commit"), known.get("git_dirty")
    if commit is not None:
        tags.update({"git.commit": str(commit), "mlflow.source.git.commit": str(commit)})
    if dirty is not None:
        tags["git.dirty"] = str(bool(dirty)).lower()
    return tags


def verdict_tags(folder: Path, run_id: str | None = None) -> dict[str, str | None]:
    """Of a speed gate, and of a quality gate in its folder below the run."""
    speed = _outcome(folder / "verdict.json")
    return {**({} if speed is None else outcome_tags(speed)), "quality.verdict": quality_verdict(folder, run_id)}


def quality_verdict(folder: Path, run_id: str | None) -> str | None:
    """pass, fail, inconclusive, ... of a run's quality gate; None where nobody judged this run. A verdict of the run
    that lay here before, measured again since, is not its own."""
    path = folder / QUALITY_GATE / "verdict.json"
    outcome = _outcome(path)
    if outcome is None or _is_of_another(path, run_id):
        return None
    return outcome.lower()


def _is_of_another(path: Path, run_id: str | None) -> bool:
    """Whether a readable verdict names a candidate that is not this run; old ones name none."""
    try:
        judged = json.loads(path.read_text(encoding="utf-8"))["candidate"]["run_id"]
    except (ValueError, KeyError, TypeError):
        return False
    return run_id is not None and judged is not None and judged != run_id


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
    """What tells one run from another; the whole configuration is an artifact."""
    environment = record.environment
    found = variant_params("", record.config, record.facts or {})
    measured = {
        "workload": record.workload.get("name"),
        "device": environment.get("device"),
        "threads": environment.get("threads"),
        "evals": count(speed_of(record.trials).evals_per_call) if _has_speed(record) else None,
    }
    return found | _texts("", measured)


def variant_params(prefix: str, config: Mapping[str, object], facts: Mapping[str, object]) -> dict[str, str]:
    """Of one variant, as it was asked for and, where the engine says so, as it was built."""
    groups = {name: part_of(config, name) for name in (*NAMED_GROUPS, "reference", "device")}
    engine, solver, device = groups["engine"], groups["solver"], groups["device"]
    values = {
        **{name: groups[name].get("name") for name in NAMED_GROUPS},
        "precision": facts.get("precision") or engine.get("precision"),
        "steps": facts.get("steps") or solver.get("steps"),
        "cfg_strength": facts.get("cfg_strength", solver.get("cfg_strength")),
        "voices": groups["reference"].get("name"),
        "device": device.get("kind"),
        "threads": facts.get("num_threads") or device.get("threads"),
        "seed": config.get("seed"),
    }
    return _texts(prefix, values)


def asked_params(prefix: str, settings: Mapping[str, object]) -> dict[str, str]:
    """Settings of a verb of its own, each by its key."""
    return _texts(prefix, settings)


def _texts(prefix: str, values: Mapping[str, object]) -> dict[str, str]:
    """As MLflow stores parameters, without those that are not set; long ones are in the folder's own files only."""
    found = {}
    for key, value in values.items():
        name = prefix + re.sub(r"[^\w\-. ]", "_", str(key), flags=re.ASCII)
        text = value if isinstance(value, str) else to_json(plain(value))
        if value is not None and len(text) <= MAX_PARAM_CHARS:
            found[name] = text
    return found


def _has_speed(record: RunRecord) -> bool:
    return sum(trial.audio_s for trial in record.steady_trials) > 0


def dataset_of(workload: Mapping[str, object]) -> Dataset | None:
    """None for a record that never came to its workload."""
    identity = workload.get("identity_sha256")
    if not identity or not workload.get("name"):
        return None
    listed = workload.get("utterances")
    spoken = listed if isinstance(listed, Sequence) else ()
    sentences = {str(entry.get("id")): entry.get("text") for entry in spoken}
    return Dataset(
        name=str(workload["name"]),
        digest=str(identity)[:DIGEST_CHARS],
        source={"workload": workload["name"], "identity_sha256": identity},
        profile={"num_sentences": len(spoken), "sentences": sentences} if sentences else {},
    )


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
