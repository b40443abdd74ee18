"""Environment before performance: which settings must match before two runs may be compared, and which differ."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

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
# A setting -> how the keys begin that differ where it does; no circles
FOLLOWS: Mapping[str, tuple[str, ...]] = {
    "environment.device": (
        "environment.host_class", "environment.cpu_flags", "environment.power_mode", "facts.precision",
    ),
    "environment.host_class": ("environment.cpu_flags", "environment.power_mode", "environment.threads"),
    "environment.threads": ("facts.num_threads",),
    "environment.versions.torch": ("facts.versions.torch",),
    "facts.name": ("facts.denoiser", "facts.precision", "facts.versions", "facts.num_threads"),
    "facts.model": ("facts.weights_sha256", "facts.random_weights"),
    "facts.solver": (
        "facts.steps", "facts.evals_per_step", "facts.time_grid", "facts.sway", "facts.cfg_strength",
        "facts.solver_options", "num_evals.",
    ),
}  # fmt: skip
Differing = tuple[str, object, object]  # key, value in the baseline, value in the new run


def differing_findings(baselines: Sequence[RunRecord], new: RunRecord) -> list[Finding]:
    """One INVALID_ENV finding per setting in which `new` differs from a session of the baseline."""
    return _findings(baselines, lambda baseline: differing_keys(baseline, new))


def foreseen_findings(baselines: Sequence[RunRecord], planned: RunRecord) -> list[Finding]:
    """The same of a run that is not made yet: what its record, or a session's, has no word of is left to the run."""

    def known(baseline: RunRecord) -> list[Differing]:
        found = differing_keys(baseline, planned)
        return [(key, old, now) for key, old, now in found if old is not None and now is not None]

    return _findings(baselines, known)


def folded(findings: Sequence[Finding]) -> list[tuple[Finding, tuple[str, ...]]]:
    """(a setting that differs, the keys that differ because it does), so that one cause is told once."""
    keys = [finding.metric for finding in findings]
    cause_of = {key: cause for cause, starts in FOLLOWS.items() if cause in keys for key in keys
                if key != cause and key.startswith(starts)}  # fmt: skip
    roots = [finding for finding in findings if finding.metric not in cause_of]
    return [(one, tuple(key for key in keys if _root(key, cause_of) == one.metric != key)) for one in roots]


def _root(key: str, cause_of: Mapping[str, str]) -> str:
    while key in cause_of:
        key = cause_of[key]
    return key


def _findings(baselines: Sequence[RunRecord], differing: Callable[[RunRecord], Sequence[Differing]]) -> list[Finding]:
    found: dict[str, Finding] = {}
    for baseline in baselines:
        for key, old, now in differing(baseline):
            then, today = _short(old), _short(now)
            explanation = f"{key} is {today} here and {then} in the baseline: their numbers cannot be compared"
            found.setdefault(
                key,
                Finding(metric=key, outcome="INVALID_ENV", explanation=explanation, baseline=then, new=today),
            )
    return list(found.values())


def differing_keys(baseline: RunRecord, new: RunRecord) -> list[Differing]:
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
