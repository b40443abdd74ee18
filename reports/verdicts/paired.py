"""The verdict of same-run pairs: verdict.json, and the sheet that its other forms are rendered from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

from baselines.paired.data import CANDIDATE, REFERENCE, SENTINEL, Answers
from baselines.paired.rule import PairedFinding, PairedLimits, PairedVerdict
from metrics.verdict import WORDS, Outcome
from reports.verdicts.junit import KINDS, Case
from reports.verdicts.sheet import Line, Sheet
from reports.verdicts.spoken.plain import growth, is_bounded, mebibytes

COMPARISON_SCHEMA_VERSION = 1
QUALITY_GATE = "python -m experiments.quality_gate"
HOPELESS_RATIO = 3.0  # beyond it, how blind a machine is need not be said to three digits
INVALID = "this measurement proves nothing"


class SideContent(TypedDict, total=False):
    """One of a verdict's `sides`. Functions have no facts."""

    label: str
    commit: str | None
    config: Mapping[str, object]
    facts: Mapping[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What was compared and what came of it. sides: per side label, revision, facts; checked: audio that was;
    workload: its name and identity; answers: what both sides said, None where that was not kept; memory_bytes: resident
    peak of each side's process, None where that is not known of both."""

    verdict: PairedVerdict
    limits: PairedLimits
    labels: Mapping[str, str]
    sides: Mapping[str, SideContent]
    environment: Mapping[str, object]
    workload: Mapping[str, object]
    checked: Mapping[str, int]
    error_rate: str
    wall_s: float
    seconds_per_block: float | None
    answers: Answers | None = None
    memory_bytes: Mapping[str, float] | None = None


def comparison_content(comparison: Comparison, created: str, settings: Mapping[str, object]) -> dict[str, Any]:
    """verdict.json; everything else is rendered from the same values."""
    return {
        "schema_version": COMPARISON_SCHEMA_VERSION, "kind": "same-run", "created": created,
        **asdict(comparison.verdict), "limits": asdict(comparison.limits), "settings": dict(settings),
        "sides": {side: dict(content) for side, content in comparison.sides.items()},
        "audio_checked": dict(comparison.checked), "known_errors": comparison.error_rate,
        "environment": dict(comparison.environment), "workload": dict(comparison.workload), "wall_s": comparison.wall_s,
        "answers": None if comparison.answers is None else asdict(comparison.answers),
        "memory_bytes": None if comparison.memory_bytes is None else dict(comparison.memory_bytes),
    }  # fmt: skip


def failed_content(
    side: str, reason: str, remedy: str, created: str, asked: Mapping[str, object], environment: Mapping[str, object]
) -> dict[str, Any]:
    """verdict.json where a side could not be measured, or must not be: no figure at all. asked: per side its overrides
    and revision."""
    return {
        "schema_version": COMPARISON_SCHEMA_VERSION, "kind": "same-run", "created": created, "outcome": "FAILED",
        "exit_code": 14, "findings": [], "side": side, "reason": reason, "remedy": remedy,
        "sides": dict(asked), "environment": dict(environment),
    }  # fmt: skip


def comparison_sheet(comparison: Comparison) -> Sheet:
    """In junit.xml each gated metric is a case; where the environment was invalid, each is an error."""
    verdict, words = comparison.verdict, _words(comparison.verdict)
    invalid = verdict.outcome == "INVALID_ENV"
    cases = []
    for f in verdict.findings:
        text = f"{change(f)}, {_sentence(f, comparison)}"
        outcome: Outcome = "INVALID_ENV" if invalid else f.outcome
        cases.append(Case(f.metric, outcome, f"{words}; {text}" if invalid else text, kind=KINDS[outcome]))
    lines = [_line(f, comparison, _sentence(f, comparison)) for f in verdict.findings]
    if verdict.sentinel is not None:
        lines.append(_line(verdict.sentinel, comparison))
    return Sheet(
        outcome=verdict.outcome,
        title=f"{comparison.labels[CANDIDATE]} against {comparison.labels[REFERENCE]}",
        said=words,
        sentences=tuple(in_words(comparison)),
        evidence=_evidence(comparison),
        columns=("metric", "reference", "candidate", "ratio (bounds)", "catch"),
        lines=tuple(lines),
        notes=(comparison.error_rate,),
        background=(_environment(comparison),),
        suite="compare",
        label=comparison.labels[CANDIDATE],
        cases=tuple(cases),
        properties={"host_class": str(comparison.environment.get("host_class") or "")},
    )


def failed_sheet(side: str, reason: str, remedy: str) -> Sheet:
    case = Case("measurement", "FAILED", f"{side}: {reason}", kind="error")
    return Sheet(
        outcome="FAILED", title=side, sentences=(f"{reason}; {remedy}.",), suite="compare", label=side, cases=(case,)
    )


def _line(finding: PairedFinding, comparison: Comparison, explanation: str = "") -> Line:
    """The unchanged reference, timed a second time, explains nothing."""
    is_sentinel = finding is comparison.verdict.sentinel
    catch, side = f"x{comparison.limits.catch_ratio:g}", SENTINEL if is_sentinel else CANDIDATE
    return Line(
        name=f"{finding.metric} ({SENTINEL})" if is_sentinel else finding.metric,
        outcome=finding.outcome,
        change=f"{change(finding)} of the unchanged reference" if is_sentinel else change(finding),
        cells=(_ms(finding, REFERENCE), _ms(finding, side), change(finding), catch),
        explanation=explanation,
    )


def _words(verdict: PairedVerdict) -> str:
    return verdict.reason or (INVALID if verdict.outcome == "INVALID_ENV" else WORDS[verdict.outcome])


def in_words(comparison: Comparison) -> Iterator[str]:
    """Which side is faster and by how much; by how many evaluations; whether they say the same."""
    answers = comparison.answers
    for finding in comparison.verdict.findings:
        yield f"{_faster(finding, comparison.verdict)} (lower is better)."
    if comparison.memory_bytes is not None:
        yield _memory(comparison.memory_bytes)
    if answers is None:
        return
    if not answers.num_evals:
        yield _alike(answers)
        return
    counts = {side: _span(*answers.num_evals[side]) for side in (CANDIDATE, REFERENCE)}
    yield f"Evaluations a call: candidate {counts[CANDIDATE]}, reference {counts[REFERENCE]}."
    yield _alike(answers)


def _faster(finding: PairedFinding, verdict: PairedVerdict) -> str:
    of = f"{finding.metric} {change(finding)} of the reference's"
    decided = verdict.outcome != "INVALID_ENV" and finding.outcome in ("PASS", "WARN", "FAIL")
    if not decided:
        # The rule was not let decide (one set of processes, or out of time), though the bounds leave one side no chance
        was_stopped = verdict.outcome == "INCONCLUSIVE" and verdict.reason is not None
        if was_stopped and (finding.high < 1.0 or finding.low > 1.0):
            return f"In these processes the candidate was {'faster' if finding.high < 1.0 else 'slower'}: {of}"
        return f"Which side is faster is not decided: candidate {of}"
    if finding.high < 1.0:
        return f"The candidate is faster: {of}"
    if finding.low > 1.0:
        return f"The candidate is slower: {of}"
    return f"Neither side is shown to be faster: candidate {of}"


def _memory(peaks: Mapping[str, float]) -> str:
    before, after = peaks[REFERENCE], peaks[CANDIDATE]
    sizes = f"candidate {mebibytes(after)}, reference {mebibytes(before)}"
    return f"Peak memory of a process: {sizes} ({growth(before, after)}), not judged."


def _alike(answers: Answers) -> str:
    if answers.num_pairs == 0 and not answers.num_evals:
        return f"Their {answers.what} is of no kind that could be compared."
    if answers.num_equal == answers.num_pairs:
        return f"Their {answers.what} is equal bit for bit in all {answers.num_pairs} pairs, and so is its quality."
    distance = (
        ""
        if answers.log_mel_nats is None
        else (f", log-mels {answers.log_mel_nats:.3g} nats apart on {answers.num_sentences} sentence(s)")
    )
    same = f"equal in {answers.num_equal} of {answers.num_pairs} pairs" if answers.num_equal else "different"
    judge = f"use {QUALITY_GATE} on two scored runs" if answers.num_evals else "listen, or test it"
    return f"Their {answers.what} is {same}{distance}; quality is not judged here: {judge}."


def _span(least: int, most: int) -> str:
    return f"{least}" if least == most else f"{least} to {most}"


def change(finding: PairedFinding) -> str:
    """x1.012 (1.003 to 1.021)."""
    if not is_bounded(finding.low, finding.high):
        return f"x{finding.ratio:.3f} (no bounds yet)"
    return f"x{finding.ratio:.3f} ({finding.low:.3f} to {finding.high:.3f})"


def _sentence(finding: PairedFinding, comparison: Comparison) -> str:
    quick = comparison.limits.mode == "quick"
    unit, spread = ("pairs", "one pair") if quick else ("blocks", "one block")
    text = f"{spread} spreads by {100 * finding.sd_frac:.1f} %"
    if finding.detectable is not None and finding.detectable < HOPELESS_RATIO:
        text += f", so {comparison.limits.looks[-1]} blocks find x{finding.detectable:.3f} in 95 % of comparisons"
    if finding.outcome != "INCONCLUSIVE" or comparison.verdict.reason is not None:
        return text  # with a reason of its own: the rule was not allowed to decide, whatever the figures say
    if finding.needed is None:
        return f"{text}: more {unit} would not settle it in reach; quieten the machine or raise catch_ratio"
    more = finding.needed - (comparison.verdict.num_turns if quick else comparison.verdict.num_blocks)
    time = comparison.seconds_per_block
    cost = "" if quick or time is None or more <= 0 else f" (about {more * time:.0f} s)"
    return f"{text}: about {max(1, more)} more {unit}{cost} would settle it, were mean and spread to stay"


def _evidence(comparison: Comparison) -> str:
    verdict = comparison.verdict
    audio = sum(comparison.checked.values())
    of_functions = comparison.answers is not None and not comparison.answers.num_evals
    checked = "what functions return is not judged" if of_functions else f"audio of {audio} sentence(s) checked"
    return (
        f"{verdict.num_turns} pairs in {verdict.num_blocks} block(s) of fresh processes, {comparison.wall_s:.0f} s; "
        f"{checked}; budget: unchanged code fails in at most "
        f"{100 * verdict.false_alarm_frac:g} %, x{comparison.limits.catch_ratio:g} passes in at most "
        f"{100 * verdict.miss_frac:g} % (rule {verdict.rule})"
    )


def _environment(comparison: Comparison) -> str:
    environment = comparison.environment
    unknown = f"no commit ({environment.get('git_reason') or 'git gave none'})"
    commits = {side: content.get("commit") for side, content in comparison.sides.items()}
    revisions = ", ".join(f"{side} {str(commit)[:12] if commit else unknown}" for side, commit in commits.items())
    return (
        f"Host class {environment.get('host_class')}, device {environment.get('device')}, "
        f"{environment.get('threads')} threads; {revisions}."
    )


def _ms(finding: PairedFinding, side: str) -> str:
    seconds = finding.median_s.get(side)
    return "-" if seconds is None else f"{1000 * seconds:.0f} ms"
