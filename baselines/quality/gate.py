"""Is run B as good as run A? Paired non-inferiority, metric by metric, as a pure function of two scored records.

Acceptance is an intersection-union test: every rule must hold, each at alpha, so that a candidate at any one margin is
accepted in at most alpha of gates. Alarms and claims of better are Bonferroni's: each has alpha over the number of
rules, so that all together are wrong in at most alpha. A sentence that the candidate failed is a failure, never a
missing value.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from baselines.quality.noninferiority import (
    Answer,
    Precision,
    QualityOutcome,
    Question,
    answer,
    answer_share,
    precision_of,
    share_bounds,
)
from baselines.quality.rules import QualityLimits, QualityRule
from baselines.quality.sentences import Pairs, expected_ids, pair_scores
from baselines.quality.verdict import AS_OUTCOME, QualityFinding, QualityVerdict, Side
from baselines.stored.quality import identical_audio, judge_validity
from metrics.fidelity.catalog import by_name
from metrics.fidelity.floors import not_testable
from metrics.model_identity import spelt
from metrics.paired import Errors
from metrics.record import RunRecord
from metrics.verdict import EXIT_CODES, EXIT_RUN_FAILED, Outcome, worst

RULE = "paired-noninferiority-1"


def judge_quality(baseline: RunRecord, candidate: RunRecord, limits: QualityLimits) -> QualityVerdict:
    """The candidate against the baseline by every rule. Never raises for what the records lack: it says so."""
    refusal = _refusal(baseline, candidate)
    if refusal is not None:
        return _verdict((), limits, *refusal)
    validity = judge_validity(candidate, expected_ids(baseline))
    said: QualityOutcome = (
        "worse" if validity.outcome == "FAIL" else "not worse" if validity.outcome == "PASS" else "inconclusive"
    )
    num = len(expected_ids(baseline))
    findings = [
        QualityFinding(
            rule=validity.metric, metric=validity.metric, kind="failures", outcome=said,
            explanation=validity.explanation, num_sentences=num, num_expected=num,
        )
    ]  # fmt: skip
    findings += [judge_rule(baseline, candidate, rule, limits) for rule in limits.rules]
    verdict = _verdict(findings, limits, _outcome(findings), None)
    return replace(verdict, precision=pairing_precision(baseline, candidate))


def _outcome(findings: Sequence[QualityFinding]) -> Outcome:
    """Of what was judged; where that is the audio's validity alone, nothing says how good it is."""
    judged = [f for f in findings if f.outcome != "not judged"]
    is_silent = len(findings) > 1 and all(f.outcome == "not judged" for f in findings[1:])
    found = worst(AS_OUTCOME[f.outcome] for f in judged)
    return worst([found, "INCONCLUSIVE"]) if is_silent else found


def pairing_precision(baseline: RunRecord, candidate: RunRecord) -> dict[str, Precision]:
    """Metric -> standard errors by pairs and unpaired, of the scores that describe one recording alone."""
    found = {}
    for name, metric in by_name().items():
        if metric.towards or not candidate.scores_of(name):
            continue
        pairs = pair_scores(baseline, candidate, name)
        precision = precision_of([pairs.first[key] for key in pairs.second], list(pairs.second.values()))
        if precision is not None:
            found[name] = precision
    return found


def judge_rule(baseline: RunRecord, candidate: RunRecord, rule: QualityRule, limits: QualityLimits) -> QualityFinding:
    """One rule on two records of the same sentences."""
    pairs = pair_scores(baseline, candidate, rule.metric, is_difference=rule.kind == "difference")
    finding = QualityFinding(
        rule=rule.name, metric=rule.metric, kind=rule.kind, outcome="inconclusive", explanation="",
        num_sentences=len(pairs.second), num_expected=pairs.num_expected,
    )  # fmt: skip
    if rule.kind == "difference" and identical_audio([baseline], candidate):
        text = f"the audio of all {len(candidate.utterances)} sentences is bit-identical"
        return replace(
            finding, outcome="not worse", explanation=text, effect=0.0, low=0.0, high=0.0, method="bit-identical"
        )
    unscored = _unscored(baseline, candidate, rule)
    if unscored:
        said = f"the {' and the '.join(unscored)} {'hold' if len(unscored) > 1 else 'holds'} no score {rule.metric}"
        return replace(finding, outcome=limits.unscored, explanation=said, unscored=unscored)
    impossible = _impossible(baseline, candidate, rule)
    if impossible is not None:
        return replace(finding, outcome=limits.unscored, explanation=impossible)
    problem = _problem(baseline, candidate, rule, pairs, limits)
    if problem is not None:
        return replace(finding, explanation=problem)
    if rule.kind == "share":
        return _judge_share(finding, pairs, rule, limits)
    if not pairs.second:
        return replace(finding, outcome="worse", explanation=_failures(pairs))
    return _judge_mean(finding, pairs, rule, limits)


def _refusal(baseline: RunRecord, candidate: RunRecord) -> tuple[Outcome, str] | None:
    for side, run in (("baseline", baseline), ("candidate", candidate)):
        if run.status != "ok" or not run.utterances:
            return "INCONCLUSIVE", f"the {side} {run.label} is {run.status}: {run.reason or 'it spoke nothing'}"
        if (run.facts or {}).get("random_weights"):
            return "INCONCLUSIVE", f"the {side} {run.label} has random weights, which speak noise"
    ours, theirs = (run.workload.get("identity_sha256") for run in (baseline, candidate))
    if ours != theirs:
        return "INVALID_ENV", "the two runs spoke different workloads (texts, voices, seed): no sentence is a pair"
    if not expected_ids(baseline):
        return "INCONCLUSIVE", f"the baseline {baseline.label} has no sentence with valid audio"
    return None


def _unscored(baseline: RunRecord, candidate: RunRecord, rule: QualityRule) -> tuple[Side, ...]:
    """The sides for which nobody asked for the score; a score that was tried and failed is another matter."""
    sides: dict[Side, RunRecord] = {"candidate": candidate}
    if rule.kind == "difference":
        sides = {"baseline": baseline, **sides}
    return tuple(side for side, run in sides.items() if not run.scores_of(rule.metric))


def _impossible(baseline: RunRecord, candidate: RunRecord, rule: QualityRule) -> str | None:
    """Why no sentence of either run can have the score: its model is not installed, or hears another language. Where
    one run has a single number it is no matter of what is installed."""
    runs = (baseline, candidate) if rule.kind == "difference" else (candidate,)
    scores = [score for run in runs for score in run.scores_of(rule.metric)]
    if any(score.status not in ("unavailable", "not_applicable") for score in scores):
        return None
    return f"no sentence has the score {rule.metric}: {scores[0].reason}"


def _problem(
    baseline: RunRecord, candidate: RunRecord, rule: QualityRule, pairs: Pairs, limits: QualityLimits
) -> str | None:
    """Why the rule cannot be asked at all."""
    ours, theirs = (run.recipes.get(rule.metric) for run in (baseline, candidate))
    if rule.kind == "difference" and ours and theirs and ours != theirs:
        return f"the two runs were scored by different recipes ({ours} and {theirs}); score both again"
    standards = [run.reference for run in (baseline, candidate) if run.reference is not None]
    if "reference" in rule.metric and len({(one.weights_sha256, one.arch_sha256) for one in standards}) > 1:
        named = " and ".join(map(spelt, standards))
        return f"the two runs were scored against two models ({named}); run both with quality.reference_model=NAME"
    if rule.margin is not None:
        floors = {floor.metric: floor for run in (baseline, candidate) for floor in run.floors}
        blind = not_testable(rule.margin, floors.get(rule.metric))
        if blind is not None:
            return blind
    answered = len(pairs.second) + len(pairs.failed)
    if answered == 0 or answered < limits.coverage_frac * pairs.num_expected:
        name, reason = next(iter(pairs.lost.items()), ("-", "no sentence"))
        wanted = f"{100 * limits.coverage_frac:g} %"
        return f"{answered} of {pairs.num_expected} sentences have a pair, {wanted} are needed; {name}: {reason}"
    return None


def _judge_share(finding: QualityFinding, pairs: Pairs, rule: QualityRule, limits: QualityLimits) -> QualityFinding:
    assert rule.limit is not None
    events = [name for name, value in pairs.second.items() if value > 0] + list(pairs.failed)
    num = len(pairs.second) + len(pairs.failed)
    question = Question(
        limit=rule.limit, accept_error=limits.alpha, alarm_error=limits.alarm_error, is_difference=False
    )
    found = answer_share(len(events), num, question)
    text = f"{len(events)} of {num} clips ({100 * len(events) / num:.2g} %), the truth is under " + (
        f"{100 * found.bounds.high:.2g} % (limit {100 * rule.limit:g} %)"
    )
    if events:
        text += f": {', '.join(events[:5])}"
    if found.needed is not None:
        text += f"; {found.needed - num} more clips needed, were no further event to come ({found.needed} in all)"
    return replace(
        finding, outcome=found.outcome, explanation=text, num_sentences=num, candidate=len(events) / num,
        effect=len(events) / num, low=found.bounds.low, high=found.bounds.high, limit=rule.limit,
        method=found.bounds.method, needed=found.needed,
    )  # fmt: skip


def _judge_mean(finding: QualityFinding, pairs: Pairs, rule: QualityRule, limits: QualityLimits) -> QualityFinding:
    """A difference or a level, on the scale where more is better; told in the metric's own direction."""
    names = list(pairs.second)
    then, now = list(pairs.first.values()), [pairs.second[n] for n in names]
    is_difference, sign = rule.kind == "difference", rule.sign
    values = [sign * (pairs.second[n] - (pairs.first[n] if is_difference else 0.0)) for n in names]
    limit = -(rule.margin or 0.0) if is_difference else sign * (rule.limit or 0.0)
    question = Question(
        limit=limit, accept_error=limits.alpha, alarm_error=limits.alarm_error, is_difference=is_difference,
        method=rule.method,
    )  # fmt: skip
    found = answer(values, question)
    place = min(range(len(values)), key=values.__getitem__)
    is_broken = rule.worst is not None and values[place] < -rule.worst
    ends = sorted((sign * found.bounds.low, sign * found.bounds.high))
    outcome: QualityOutcome = "worse" if is_broken or pairs.failed else found.outcome
    finding = replace(
        finding, outcome=outcome, baseline=statistics.fmean(then) if then else None,
        candidate=statistics.fmean(now), effect=sign * found.bounds.estimate, low=_finite(ends[0]),
        high=_finite(ends[1]), limit=sign * limit, method=found.bounds.method, needed=found.needed,
        worst_sentence=names[place], worst_value=sign * values[place],
    )  # fmt: skip
    return replace(finding, explanation=_said(finding, rule, found, pairs, limits.alpha))


def _said(finding: QualityFinding, rule: QualityRule, found: Answer, pairs: Pairs, alpha: float) -> str:
    assert finding.effect is not None
    assert finding.limit is not None
    what = "mean difference" if rule.kind == "difference" else "mean"
    target = {"better": "better", "not worse": "not worse", "worse": "worse", "inconclusive": "not decided"}
    if rule.kind == "level":
        target = {"better": "met", "not worse": "met", "worse": "missed", "inconclusive": "not decided"}
    text = f"{target[found.outcome]}: {what} {finding.effect:+.4g} ({_bound(finding.low)} to {_bound(finding.high)})"
    text += f", limit {finding.limit:+.4g}, {finding.num_sentences} sentences, {finding.method}"
    if pairs.unasked:
        text += f"; {len(pairs.unasked)} have no such score ({next(iter(pairs.unasked.values()))})"
    if rule.worst is not None and finding.worst_value is not None and rule.sign * finding.worst_value < -rule.worst:
        text += (
            f"; {finding.worst_sentence} lost {finding.worst_value:+.4g}, more than one sentence may ({rule.worst:g})"
        )
    elif rule.worst is not None:
        seen = share_bounds(0, finding.num_sentences, Errors(low=alpha, high=alpha)).high
        text += f"; no sentence lost {rule.worst:g}, so fewer than {100 * seen:.2g} % do"
    if pairs.failed:
        text += f"; {_failures(pairs)}"
    if finding.outcome == "inconclusive":
        text += (
            "; no number of sentences in reach would settle it"
            if finding.needed is None
            else f"; {finding.needed - finding.num_sentences} more sentences needed, were mean and spread to stay"
        )
    return text


def _failures(pairs: Pairs) -> str:
    said = "; ".join(f"{name} ({reason})" for name, reason in list(pairs.failed.items())[:3])
    return f"{len(pairs.failed)} of {pairs.num_expected} sentences failed: {said}"


def _bound(value: float | None) -> str:
    return "unbounded" if value is None else f"{value:+.4g}"


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _verdict(
    findings: Sequence[QualityFinding], limits: QualityLimits, outcome: Outcome, reason: str | None
) -> QualityVerdict:
    failed = reason is not None and outcome == "INCONCLUSIVE"
    return QualityVerdict(
        rule=RULE, outcome=outcome, exit_code=EXIT_RUN_FAILED if failed else EXIT_CODES[outcome],
        findings=tuple(findings), alpha=limits.alpha, alarm_error=limits.alarm_error, reason=reason,
    )  # fmt: skip
