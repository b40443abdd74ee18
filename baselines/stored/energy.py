"""Energy per second of speech of a new run against a stored baseline; nothing where the baseline has none.

A ratio without statistics, as memory: both figures are means over half a minute and more. Watts of another source, or
of another rule of the board's total, are another quantity (on one board two rules differ by half), so they are not
compared.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from baselines.stored.verdict import Finding, Limits
from metrics.power.figures import ENVIRONMENT, GROSS
from metrics.record import RunRecord

PER_SPEECH = "J per second of speech"


def judge_energy(baselines: Sequence[RunRecord], new: RunRecord, limits: Limits) -> list[Finding]:
    """FAIL beyond energy_ratio times the median of the baseline's sessions; none for a baseline without energy."""
    stored = [(run, value) for run in baselines if (value := _joules(run)) is not None]
    if not stored:
        return []
    now = _joules(new)
    if now is None:
        why = next(
            (score.reason for score in new.scores_of(GROSS) if score.reason),
            "measured without measure=energy, or interrupted in it",
        )
        explanation = f"the baseline has {PER_SPEECH}, this run has none: {why}"
        return [Finding(metric=GROSS, outcome="INCONCLUSIVE", explanation=explanation)]
    for run, _ in stored:
        then, today = _how(run), _how(new)
        if then != today:
            explanation = f"energy by {today} here and by {then} in the baseline: they are not the same quantity"
            return [Finding(metric=GROSS, outcome="INVALID_ENV", explanation=explanation, baseline=then, new=today)]
    base = statistics.median(value for _, value in stored)
    ratio = now / base
    explanation = (
        f"{now:.2f} {PER_SPEECH} against {base:.2f} (median of {len(stored)} session(s)), x{ratio:.3f}, allowed "
        f"x{limits.energy_ratio:g}; {_how(new)}; compared without statistics"
    )
    return [Finding(
        metric=GROSS, outcome="FAIL" if ratio > limits.energy_ratio else "PASS", explanation=explanation,
        baseline=base, new=now, effect=ratio, effect_kind="ratio", limit=limits.energy_ratio,
    )]  # fmt: skip


def _joules(run: RunRecord) -> float | None:
    return next((score.value for score in run.scores_of(GROSS) if score.status == "ok" and score.value), None)


def _how(run: RunRecord) -> str:
    found: object = run.environment.get(ENVIRONMENT)
    seen: Mapping[str, object] = found if isinstance(found, Mapping) else {}
    return f"source {seen.get('source', 'unknown')}, rule {seen.get('rule', 'unknown')}"
