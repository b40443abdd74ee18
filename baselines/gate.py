"""The gate: a new run against a stored baseline, as a pure function of records and limits.

Rule v1. Environment before performance; then CPU time finely and wall time coarsely (baselines.latency), peak memory,
validity and paired SNR (baselines.quality). The worst finding decides. The false-alarm budget 1 - confidence is split
evenly over the metrics that have noise (Bonferroni). Another rule is another function of the type `Rule`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from baselines.comparable import check_numbers, differing_findings
from baselines.latency import gated_clocks, judge_clock
from baselines.quality import judge_memory, judge_snr, judge_validity
from baselines.verdict import EXIT_CODES, EXIT_RUN_FAILED, Finding, Limits, Outcome, Verdict, worst
from metrics.record import RecordError, RunRecord

RULE = "stored-baseline-1"

Rule = Callable[[Sequence[RunRecord], RunRecord, Limits], Verdict]


def judge(baselines: Sequence[RunRecord], new: RunRecord, limits: Limits) -> Verdict:
    """`baselines`: one record per session. Raises RecordError for records without sessions or with broken numbers."""
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
    clocks = gated_clocks(str(new.environment.get("device")), limits)
    share = budget / (len(clocks) + 1)
    findings = [judge_validity(new, sorted({u.utterance_id for run in baselines for u in run.utterances}))]
    findings += [judge_clock(baselines, new, clock, limits, share) for clock in clocks]
    findings += judge_memory(baselines, new, limits)
    findings.append(judge_snr(baselines, new, limits, share))
    return _verdict(findings, budget, len(baselines))


def _not_measured(new: RunRecord) -> Finding:
    reason = new.reason or "no steady trial"
    remedy = f"; {new.remedy}" if new.remedy else ""
    explanation = f"nothing to judge, run {new.status}: {reason}{remedy}"
    return Finding(metric="run", outcome="CANNOT_TELL", explanation=explanation)


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
