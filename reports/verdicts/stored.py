"""The verdict of a stored baseline: verdict.json, and the sheet that its other forms are rendered from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from baselines.stored.approval import approval_problem
from baselines.stored.comparable import folded
from baselines.stored.store import Baseline
from baselines.stored.verdict import Finding, Limits, Verdict
from metrics.record import RunRecord
from metrics.verdict import EXIT_RUN_FAILED, WORDS
from reports.verdicts.junit import KINDS, Case
from reports.verdicts.sheet import Line, Sheet
from reports.verdicts.spoken.plain import is_bounded

# 2 has what each metric can find, and the baseline's approval; 3 says INCONCLUSIVE where 2 said CANNOT_TELL
VERDICT_SCHEMA_VERSION = 3
NOT_MEASURED = "Nothing was measured: this was known before."
BOUNDS = (
    "Intervals are one-sided bounds: the one that fails a metric holds at its share of the false alarm rate, the one "
    "that passes it at {:g} %. Finds from: the slowdown that fails in 95 % of gates."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gated:
    """What was compared, by which limits, and what came of it. stored, same_run: the rates of error that
    baselines.paired.selftests knows of this rule and of the other on the host."""

    baseline: Baseline
    run: RunRecord
    limits: Limits
    verdict: Verdict
    stored: str
    same_run: str


def verdict_content(gated: Gated, created: str) -> dict[str, Any]:
    """verdict.json: the verdict, what was compared, the limits. Everything else is rendered from it."""
    return {
        "schema_version": VERDICT_SCHEMA_VERSION,
        "created": created,
        **asdict(gated.verdict),
        "baseline": {
            "name": gated.baseline.name,
            "host_class": gated.baseline.host_class,
            "recorded": gated.baseline.recorded,
            "git_commit": gated.baseline.git_commit,
            "recorded_by": gated.baseline.recorded_by,
            "why": gated.baseline.why,
            "approval": None if gated.baseline.approval is None else asdict(gated.baseline.approval),
            "approval_problem": approval_problem(gated.baseline),
            "calibrations": {metric: choice.work for metric, choice in gated.baseline.calibrations.items()},
            "run_ids": [run.run_id for run in gated.baseline.runs],
        },
        "run": {"run_id": gated.run.run_id, "label": gated.run.label, "status": gated.run.status},
        "limits": asdict(gated.limits),
        "known_errors": gated.stored,
        "same_run_errors": gated.same_run,
        "environment": dict(gated.run.environment),
    }


def gate_sheet(gated: Gated) -> Sheet:
    verdict, environment = gated.verdict, gated.run.environment
    failed = verdict.exit_code == EXIT_RUN_FAILED
    return Sheet(
        outcome=verdict.outcome,
        title=f"{gated.run.label} against baseline {gated.baseline.name}",
        said=WORDS[verdict.outcome],
        sentences=(NOT_MEASURED,) if verdict.outcome == "INVALID_ENV" and not gated.run.trials else (),
        evidence=_error_rate(verdict),
        columns=("metric", "baseline", "new", "change (interval)", "limit", "finds from"),
        lines=tuple(_line(finding, follow) for finding, follow in folded(verdict.findings)),
        warnings=tuple(_warnings(gated)),
        notes=(gated.stored, gated.same_run),
        background=(BOUNDS.format(100 * gated.limits.pass_confidence), _environment(gated)),
        suite=f"gate.{gated.baseline.name}",
        label=gated.run.label,
        cases=tuple(
            Case(one.metric, one.outcome, one.explanation, kind="error" if failed else KINDS[one.outcome])
            for one in verdict.findings
        ),
        properties={
            **{name: str(environment.get(name) or "") for name in ("host_class", "device", "git_commit")},
            "outcome": verdict.outcome,
        },
    )


def _line(finding: Finding, follow: Sequence[str]) -> Line:
    """follow: what differs because this one does."""
    finds = "-" if finding.detectable is None else f"x{finding.detectable:.3f}"
    values = (_value(finding, finding.baseline), _value(finding, finding.new), _change(finding))
    return Line(
        name=finding.metric, outcome=finding.outcome, change=_change(finding), explanation=_explained(finding, follow),
        cells=(*values, _limit(finding), finds),
    )  # fmt: skip


def _explained(finding: Finding, follow: Sequence[str]) -> str:
    if not follow:
        return finding.explanation
    return f"{finding.explanation}; and {len(follow)} that {'follows' if len(follow) == 1 else 'follow'} from it: " + (
        ", ".join(follow)
    )


def _warnings(gated: Gated) -> Iterator[str]:
    """Nobody vouches for the baseline, or the gate is blind to the limit."""
    problem = approval_problem(gated.baseline)
    if problem is not None:
        yield f"baseline {gated.baseline.name}: {problem}"
    for finding in gated.verdict.findings:
        if finding.detectable is not None and finding.limit is not None and finding.detectable > finding.limit:
            yield (
                f"{finding.metric}: this gate finds a slowdown surely from x{finding.detectable:.3f} on, not "
                f"from x{finding.limit:g}; for that use `python -m experiments.compare`, or a baseline of more sessions"
            )


def _environment(gated: Gated) -> str:
    environment, baseline = gated.run.environment, gated.baseline
    here, there = (str(commit or "no commit")[:12] for commit in (environment.get("git_commit"), baseline.git_commit))
    busy = environment.get("other_cpu_frac")
    others = "" if busy is None else f", other processes used {100 * busy:.0f} % of the CPU at the start"
    return (
        f"Host class {environment.get('host_class')}, device {environment.get('device')}, "
        f"{environment.get('threads')} threads{others}; this run {here}, "
        f"baseline {there} of {baseline.recorded} ({len(baseline.runs)} session(s))."
    )


def _error_rate(verdict: Verdict) -> str:
    return (
        f"False alarm rate at most {100 * verdict.false_alarm_frac:.2g} % for all metrics together "
        f"(rule {verdict.rule}, {verdict.num_baseline_sessions} session(s) of baseline)"
    )


def _change(finding: Finding) -> str:
    """The effect with its interval, in the words of its kind."""
    if finding.effect is None:
        return "-"
    ratio = finding.effect_kind == "ratio"
    effect = f"x{finding.effect:.3f}" if ratio else f"{finding.effect:+.2f} dB"
    if finding.interval is None:
        return effect
    low, high = finding.interval
    if ratio and not is_bounded(low, high):
        return f"{effect} (no bounds yet)"
    return f"{effect} ({low:.3f} to {high:.3f})" if ratio else f"{effect} ({low:+.2f} to {high:+.2f})"


def _value(finding: Finding, value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or "-"
    return f"{value / 2**20:.0f} MiB" if finding.metric.endswith("_bytes") else f"{value:.3f}"


def _limit(finding: Finding) -> str:
    if finding.limit is None:
        return "-"
    if finding.metric.endswith("_bytes"):
        return _value(finding, finding.limit)
    return f"x{finding.limit:g}" if finding.effect_kind == "ratio" else f"{finding.limit:g}"
