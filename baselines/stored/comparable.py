"""Environment before performance: which settings must match before two runs may be compared, and which differ."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence

from baselines.stored.verdict import Finding
from metrics.record import RecordError, RunRecord
from metrics.typed import part_of

# Everything that changes what is computed or what it is computed on. Precision, grid and counted evaluations are here
# because an engine of the same name that does other work is another engine.
ENVIRONMENT_KEYS = ("host_class", "device", "power_mode", "threads")
FACT_KEYS = (
    "name",
    "denoiser",
    "precision",
    "solver",
    "steps",
    "evals_per_step",
    "time_grid",
    "sway",
    "cfg_strength",
    "solver_options",
    "enhance",
    "vocoder",
    "model",
    "weights_sha256",
    "random_weights",
    "num_threads",
    "versions",
)


def differing_findings(baselines: Sequence[RunRecord], new: RunRecord) -> list[Finding]:
    """One INVALID_ENV finding per setting in which `new` differs from a session of the baseline."""
    found: dict[str, Finding] = {}
    for baseline in baselines:
        for key, old, now in differing_keys(baseline, new):
            then, today = _short(old), _short(now)
            explanation = f"{key} is {today} here and {then} in the baseline: their numbers cannot be compared"
            found.setdefault(
                key,
                Finding(metric=key, outcome="INVALID_ENV", explanation=explanation, baseline=then, new=today),
            )
    return list(found.values())


def differing_keys(baseline: RunRecord, new: RunRecord) -> list[tuple[str, object, object]]:
    """(key, value in baseline, value in new) for every setting that must match and does not."""
    old, now = dict(_identity(baseline)), dict(_identity(new))
    found = [(key, old.get(key), now.get(key)) for key in {**old, **now} if old.get(key) != now.get(key)]
    # A sentence that only one side spoke is not another setting; the validity check names it
    then, today = _evals(baseline), _evals(new)
    return found + [(f"num_evals.{u}", then[u], today[u]) for u in then if u in today and then[u] != today[u]]


def _evals(run: RunRecord) -> dict[str, list[int]]:
    """Counted evaluations by utterance: every value that occurred in the steady trials."""
    counts: dict[str, set[int]] = {}
    for trial in run.steady_trials:
        counts.setdefault(trial.utterance_id, set()).add(trial.num_evals)
    return {name: sorted(seen) for name, seen in sorted(counts.items())}


def _identity(run: RunRecord) -> Iterator[tuple[str, object]]:
    for key in ENVIRONMENT_KEYS:
        yield f"environment.{key}", run.environment.get(key)
    if run.environment.get("device") == "cpu":  # finer than the host class: which kernels it can run
        yield "environment.cpu_flags", run.environment.get("cpu_flags")
    yield "environment.versions.torch", (run.environment.get("versions") or {}).get("torch")
    yield "workload.identity_sha256", run.workload.get("identity_sha256")
    facts: Mapping[str, object] = run.facts or {}
    for key in FACT_KEYS:
        yield from flatten(f"facts.{key}", _as_json(facts.get(key)))
    yield "config.measure.calibration", part_of(run.config, "measure").get("calibration")


def flatten(key: str, value: object) -> Iterator[tuple[str, object]]:
    """Leaves of nested mappings as (dotted key, value); lists are leaves."""
    if not isinstance(value, Mapping):
        yield key, value
        return
    for name in sorted(value):
        yield from flatten(f"{key}.{name}" if key else str(name), value[name])


def check_numbers(run: RunRecord) -> None:
    """Raises RecordError for a time of a trial or of a calibration that is not a number above zero."""
    for trial in run.trials:
        times = {
            "wall_s": trial.wall_s,
            "cpu_s": trial.cpu_s,
            "calibration_s": trial.calibration_s,
            "calibration_cpu_s": trial.calibration_cpu_s,
        }
        for name, value in times.items():
            if value is not None and (not math.isfinite(value) or value <= 0):
                raise RecordError(
                    f"{run.run_id}: {name}={value} of {trial.utterance_id} repeat {trial.repeat} "
                    "is not a number above 0; run again"
                )
    for reading in run.calibrations:
        for name, value in (("wall_s", reading.wall_s), ("cpu_s", reading.cpu_s)):
            if not math.isfinite(value) or value <= 0:
                raise RecordError(
                    f"{run.run_id}: {name}={value} of the {reading.work} calibration of repeat {reading.repeat} "
                    "is not a number above 0; run again"
                )


def _as_json(value: object) -> object:
    """Tuples to lists, as reading back from disk does, so that a fresh record equals a stored one."""
    return json.loads(json.dumps(value))


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
