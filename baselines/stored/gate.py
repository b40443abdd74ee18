"""The gate: a new run against a stored baseline, as a pure function of records and limits.

Rule v2. Environment and state of the machine before performance; then CPU time finely and wall time coarsely
(baselines.stored.latency), peak memory, validity, steady counters and paired quality (baselines.stored.quality),
energy where the baseline has it (baselines.stored.energy). The worst finding decides. The false-alarm budget
1 - confidence is split evenly over the metrics that have noise (Bonferroni). A quality metric is one more function in
QUALITY; another rule is another function of the type `Rule`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from baselines.stored.comparable import check_numbers, differing_findings, foreseen_findings
from baselines.stored.energy import judge_energy
from baselines.stored.latency import Known, Question, gated_clocks, judge_clock
from baselines.stored.machine import machine_findings
from baselines.stored.quality import judge_memory, judge_snr, judge_steadiness, judge_validity
from baselines.stored.verdict import Finding, Limits, Verdict
from metrics.record import RecordError, RunRecord
from metrics.verdict import EXIT_CODES, EXIT_RUN_FAILED, Outcome, worst

NOTHING_KNOWN = Known()
RULE = "stored-baseline-2"

Rule = Callable[[Sequence[RunRecord], RunRecord, Limits, Known], Verdict]
# (sessions, new run, limits, share of the false-alarm budget) -> the finding of one paired quality metric
QualityRule = Callable[[Sequence[RunRecord], RunRecord, Limits, float], Finding]
QUALITY: tuple[QualityRule, ...] = (judge_snr,)


def judge(baselines: Sequence[RunRecord], new: RunRecord, limits: Limits, known: Known = NOTHING_KNOWN) -> Verdict:
    """`baselines`: one record per session; `known`: the calibrations that were chosen, the host class's noise.

    Raises RecordError for records without sessions or with broken numbers.
    """
    if not baselines:
        raise RecordError("a baseline without sessions; record it again")
    for run in (*baselines, new):
        check_numbers(run)
    budget = 1 - limits.confidence
    if new.status != "ok" or not new.steady_trials:
        return _verdict([_not_measured(new)], budget, len(baselines), EXIT_RUN_FAILED)
    different = differing_findings(baselines, new)
    if different:
        return _verdict(different, budget, len(baselines))
    changed = machine_findings(baselines, new, limits, known)
    if changed:
        return _verdict(changed, budget, len(baselines))
    clocks = gated_clocks(str(new.environment.get("device")), limits)
    share = budget / (len(clocks) + len(QUALITY))
    question = Question(baselines=baselines, new=new, limits=limits, known=known, false_alarm_frac=share)
    findings = [judge_validity(new, sorted({u.utterance_id for run in baselines for u in run.utterances}))]
    findings += judge_steadiness(new)
    findings += [judge_clock(clock, question) for clock in clocks]
    findings += [*judge_memory(baselines, new, limits), *judge_energy(baselines, new, limits)]
    findings += [rule(baselines, new, limits, share) for rule in QUALITY]
    return _verdict(findings, budget, len(baselines))


def foresee(baselines: Sequence[RunRecord], planned: RunRecord, limits: Limits) -> Verdict | None:
    """INVALID_ENV where a run that is not made yet cannot be compared; None where only the run can tell."""
    different = foreseen_findings(baselines, planned)
    return _verdict(different, 1 - limits.confidence, len(baselines)) if different else None


def _not_measured(new: RunRecord) -> Finding:
    reason = new.reason or "no steady trial"
    remedy = f"; {new.remedy}" if new.remedy else ""
    explanation = f"nothing to judge, run {new.status}: {reason}{remedy}"
    return Finding(metric="run", outcome="INCONCLUSIVE", explanation=explanation)


def _verdict(findings: Sequence[Finding], budget: float, num_sessions: int, exit_code: int | None = None) -> Verdict:
    outcome: Outcome = worst(finding.outcome for finding in findings)
    return Verdict(
        rule=RULE,
        outcome=outcome,
        exit_code=EXIT_CODES[outcome] if exit_code is None else exit_code,
        findings=tuple(findings),
        false_alarm_frac=budget,
        num_baseline_sessions=num_sessions,
    )
