"""Baselines on disk: baselines/records/HOST-CLASS/NAME.json, one record per session, written to be reviewed in a diff.

Audio is not stored; its hashes and the scores of every sentence are.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from baselines.class_history import MACHINE
from baselines.refused import MachineRefused
from baselines.stored.comparable import check_numbers, differing_keys, flatten
from baselines.stored.quality import VALID, is_valid
from metrics.record import RecordError, RunRecord, record_from_dict, to_json, write_atomically
from metrics.speed.steady import REMEDY, unsteady_reason
from metrics.typed import from_json, load_json

BASELINE_SCHEMA_VERSION = 2  # 2 has the calibrations that fit and an approval
RECORDS = Path(__file__).resolve().parents[1] / "records"
USABLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=+-]{0,99}")
ROWS = ("trials", "scores", "utterances", "calibrations", "cold_starts")
# What differs between any two runs and says nothing about either.
VOLATILE = ("config.out", "environment.started", "environment.load_1min", "environment.other_cpu_frac")


class NoBaseline(RecordError):
    """There is no baseline of this name for this host class; says which there are."""


class BaselineRefused(RecordError):
    """A run that must not become a baseline: why, and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The calibration that a clock is divided by, and the relative spread that each kind of work left."""

    work: str
    spread_frac: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Approval:
    """Somebody looked at this content and believes it. content_sha256: of the file without its approval."""

    by: str
    when: str
    why: str
    content_sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """One or more sessions of the same variant on the same host class. git_commit: of the first session.

    calibrations: by the metric of their clock; empty where nothing was calibrated.
    """

    name: str
    host_class: str
    recorded: str
    recorded_by: str
    why: str
    git_commit: str | None
    runs: tuple[RunRecord, ...]
    calibrations: Mapping[str, Choice] = field(default_factory=dict)
    approval: Approval | None = None
    schema_version: int = BASELINE_SCHEMA_VERSION


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A setting that differs between a baseline and a run, by its dotted key."""

    key: str
    baseline: object
    new: object


def baseline_path(records: Path, host_class: str, name: str) -> Path:
    """Raises RecordError for a name that is not a plain file name."""
    for what, value in (("baseline name", name), ("host class", host_class)):
        if not USABLE_NAME.fullmatch(value):
            raise RecordError(f"{what} {value!r}: cannot be a file name; use letters, digits, _ . = + -")
    return records / host_class / f"{name}.json"


def refuse_unusable(runs: Sequence[RunRecord]) -> None:
    """Raises BaselineRefused unless each run is there once, was measured, speaks validly, and all can be compared;
    MachineRefused for one that its machine voids."""
    if not runs:
        raise BaselineRefused("no run to record; give --run RUN_DIR")
    _refuse_repeated(runs)
    for run in runs:
        if run.status != "ok":
            raise BaselineRefused(
                f"{run.run_id}: status {run.status} ({run.reason}); {run.remedy or 'only a finished run is a baseline'}"
            )
        if not run.steady_trials or not run.utterances:
            raise BaselineRefused(f"{run.run_id}: no steady trial; raise measure.rounds and run again")
        check_numbers(run)
        valid = {s.utterance_id: s for s in run.scores_of(VALID)}
        spoken = {u.utterance_id for u in run.utterances} | {t.utterance_id for t in run.steady_trials}
        bad = [
            f"{name} ({valid[name].reason if name in valid else 'not checked'})"
            for name in sorted(spoken)
            if name not in valid or not is_valid(run, valid[name])
        ]
        if bad:
            raise BaselineRefused(f"{run.run_id}: audio is not valid: {'; '.join(bad)}; repair the engine first")
        machine = run.environment.get(MACHINE) or {}
        if machine.get("valid") is False:
            raise MachineRefused(f"{run.run_id}: the machine was not in order: {machine.get('reason')}; run again")
        unsteady = unsteady_reason(run)
        if unsteady is not None:
            raise BaselineRefused(f"{run.run_id}: not steady: {unsteady}; {REMEDY}")
        for key, first, other in differing_keys(runs[0], run):
            raise BaselineRefused(
                f"{run.run_id}: {key}={to_json(other)} where {runs[0].run_id} has {to_json(first)}; "
                "sessions of one baseline must be comparable"
            )


def _refuse_repeated(runs: Sequence[RunRecord]) -> None:
    """The same run twice would make the spread between sessions smaller than it is."""
    ids = [run.run_id for run in runs]
    for run_id in ids:
        if ids.count(run_id) > 1:
            raise BaselineRefused(
                f"{run_id}: the same run twice, and a session counts once; give each run once, or measure another one"
            )


def save_baseline(baseline: Baseline, records: Path) -> Path:
    """Check, then write atomically. Raises BaselineRefused, MachineRefused; RecordError where the name is no file's."""
    refuse_unusable(baseline.runs)
    path = baseline_path(records, baseline.host_class, baseline.name)
    for host_class, name in list_baselines(records):
        known, own = f"{host_class}/{name}", f"{baseline.host_class}/{baseline.name}"
        if known != own and known.casefold() == own.casefold():
            raise RecordError(f"baseline name {own}: is one file with {known} on many disks; choose another")
    write_atomically(path, text_of(baseline))
    return path


def load_baseline(records: Path, host_class: str, name: str) -> Baseline:
    """Raises NoBaseline: with the list of what there is, or for a file that cannot be used."""
    path = baseline_path(records, host_class, name)
    if not path.is_file():
        raise NoBaseline(_missing(records, host_class, name))
    return read_baseline(path)


def read_baseline(path: Path) -> Baseline:
    """Raises NoBaseline with the file's name: damaged, or of another schema version."""
    try:
        return _read(path)
    except RecordError as error:
        raise NoBaseline(str(error)) from error


def _read(path: Path) -> Baseline:
    remedy = "restore it from git or record it again"
    try:
        data = load_json(path)
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: damaged baseline ({error}); {remedy}") from error
    if not isinstance(data, dict) or "schema_version" not in data:
        raise RecordError(f"{path}: not a baseline (no schema_version); record it again")
    if data["schema_version"] != BASELINE_SCHEMA_VERSION:
        raise RecordError(
            f"{path}: schema_version {data['schema_version']}, this program reads {BASELINE_SCHEMA_VERSION}; "
            "record it again with --replace"
        )
    runs = data["runs"] if isinstance(data.get("runs"), list) else []
    for run in runs:
        record_from_dict(run, str(path))  # a session of another schema version is told as such
    try:
        baseline = from_json(Baseline, data)
    except ValueError as error:
        raise RecordError(f"{path}: damaged baseline ({error}); {remedy}") from error
    if (baseline.host_class, baseline.name) != (path.parent.name, path.stem):
        raise RecordError(f"{path}: holds {baseline.host_class}/{baseline.name}; put it where it belongs, or {remedy}")
    refuse_unusable(baseline.runs)
    return baseline


def list_baselines(records: Path) -> list[tuple[str, str]]:
    """(host class, name) of every stored baseline, sorted."""
    return sorted((path.parent.name, path.stem) for path in records.glob("*/*.json"))


def differences(baseline: RunRecord, new: RunRecord) -> list[Difference]:
    """Every setting, fact and environment value that differs, without what differs between any two runs."""
    old, now = dict(_settings(baseline)), dict(_settings(new))
    keys = [key for key in {**old, **now} if key not in VOLATILE]
    return [
        Difference(key=key, baseline=old.get(key), new=now.get(key)) for key in keys if old.get(key) != now.get(key)
    ]


def _settings(run: RunRecord) -> list[tuple[str, object]]:
    parts: Mapping[str, object] = {
        "config": run.config,
        "facts": run.facts or {},
        "environment": run.environment,
        "workload": run.workload,
    }
    return list(flatten("", json.loads(to_json(parts))))


def text_of(baseline: Baseline) -> str:
    """JSON with one trial, score or utterance a line: a diff then shows which ones changed."""
    data = asdict(replace(baseline, runs=()))
    head = [f' "{key}": {to_json(value)}' for key, value in sorted(data.items()) if key != "runs"]
    runs = ",\n".join(_run_text(run) for run in baseline.runs)
    return "{\n" + ",\n".join(head) + f',\n "runs": [\n{runs}\n ]\n}}\n'


def _run_text(run: RunRecord) -> str:
    data = asdict(replace(run, config=_portable(run.config)))
    fields = []
    for key, value in sorted(data.items()):
        rows = ",\n".join(f"    {to_json(row)}" for row in value) if key in ROWS else ""
        fields.append(f'   "{key}": ' + (f"[\n{rows}\n   ]" if rows else to_json(value)))
    return "  {\n" + ",\n".join(fields) + "\n  }"


def _portable(config: Mapping[str, object]) -> dict[str, object]:
    """Without the folders of the machine that measured: they mean nothing elsewhere."""
    kept = {**config, "out": None}
    quality = config.get("quality")
    if isinstance(quality, Mapping):
        kept["quality"] = {**quality, "reference_dir": None}
    return kept


def _missing(records: Path, host_class: str, name: str) -> str:
    stored = list_baselines(records)
    here = [other for host, other in stored if host == host_class]
    elsewhere = [f"{host}/{other}" for host, other in stored if host != host_class]
    return (
        f"no baseline {name} for host class {host_class}; for it there are: {', '.join(here) or 'none'}; "
        f"for others: {', '.join(elsewhere) or 'none'}; record one with "
        f"`python -m experiments.baseline record {shlex.quote(name)}`"
    )
