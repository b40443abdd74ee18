"""The words of verdicts that judge finished runs: a stored baseline's, and the quality of two runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from metrics.verdict import OLD_WORDS, Outcome
from reports.verdicts.spoken.parts import UNSURE, Row, Spoken, interval, listed, machine_line, outcome_of, pick
from reports.verdicts.spoken.plain import (
    between,
    code,
    counted,
    growth,
    is_bounded,
    mebibytes,
    name_of,
    percent,
    score,
    speed,
)

CLOCKS = ("wall_time", "cpu_time", "device_time")
ENERGY = "energy_j_per_audio_s"
MEMORY = ("peak_rss_bytes", "peak_pss_bytes", "peak_device_bytes", "peak_unified_bytes")
SEVERITY = ("FAIL", "INCONCLUSIVE", "WARN", "PASS")
WORDS: Mapping[str, str] = {
    "PASS": "not worse", "WARN": "worse, but little", "FAIL": "**worse**", "INCONCLUSIVE": "cannot tell",
    "INVALID_ENV": "**differs**",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFinding:
    metric: str
    outcome: Outcome
    explanation: str
    baseline: float | str | None = None
    new: float | str | None = None
    effect: float | None = None
    interval: tuple[float, float] | None = None
    limit: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityFinding:
    metric: str
    kind: str
    outcome: Literal["better", "not worse", "worse", "inconclusive", "not judged"]
    num_sentences: int = 0
    num_expected: int = 0
    baseline: float | None = None
    candidate: float | None = None
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    needed: int | None = None


def spoken_gate(content: Mapping[str, object]) -> Spoken:
    """A new run against a stored baseline."""
    outcome = outcome_of(content)
    findings = [
        pick(StoredFinding, {**finding, "outcome": OLD_WORDS.get(str(finding["outcome"]), finding["outcome"])})
        for finding in listed(content, "findings")
    ]
    details = (*_baseline_lines(content), *machine_line(content))
    if outcome == "INVALID_ENV":
        differing = [f for f in findings if f.outcome == "INVALID_ENV"]
        names = ", ".join(dict.fromkeys(name_of(f.metric) for f in differing))
        notes = (f"What differs: {names}.",) if names else ()
        said = "no verdict: the machine or a setting is not what it was for the stored baseline"
        return Spoken(outcome=outcome, speed=said, notes=notes, details=(*details, *_explained(differing)))
    clock = _chosen(findings)
    rows = [_stored_row(f) for f in findings if f.effect is not None or f.outcome != "PASS"]
    ratio = None
    if clock is not None and clock.effect is not None and clock.interval is not None and is_bounded(*clock.interval):
        ratio = (clock.effect, *clock.interval)
    failed = [f for f in findings if f.outcome == "FAIL"]
    return Spoken(
        outcome=outcome, speed=None if clock is None else _stored_speed(clock), quality=_stored_sound(findings),
        memory=next((f"memory {growth(*sizes)}" for f in findings if (sizes := _sizes(f))), None), ratio=ratio,
        rows=tuple(rows), details=(*details, *_explained(failed)),
    )  # fmt: skip


def _explained(findings: Sequence[StoredFinding]) -> tuple[str, ...]:
    """The gate's own words, for who opens the fold."""
    return tuple(f"{name_of(f.metric)}: {code(f.explanation)}." for f in findings)


def _chosen(findings: Sequence[StoredFinding]) -> StoredFinding | None:
    """The clock that speaks for all: the worst verdict, of equals the narrowest interval."""

    def rank(finding: StoredFinding) -> tuple[int, float]:
        width = finding.interval[1] / finding.interval[0] if finding.interval and finding.interval[0] > 0 else 1e9
        return SEVERITY.index(finding.outcome), width

    clocks = [f for f in findings if f.metric in CLOCKS and f.outcome in SEVERITY]
    return min(clocks, key=rank) if clocks else None


def _stored_speed(clock: StoredFinding) -> str:
    lead = "" if clock.metric == "wall_time" else f"{name_of(clock.metric)} "
    if clock.effect is None or clock.interval is None or not is_bounded(*clock.interval):
        return UNSURE
    if clock.outcome == "INCONCLUSIVE":
        return f"{UNSURE} ({between(*clock.interval)})"
    said = speed(clock.effect, *clock.interval)
    if clock.outcome == "WARN" and clock.limit is not None:
        said = f"{said}, less than the {percent(clock.limit - 1)} % that count"
    return f"{lead}{said}"


def _stored_sound(findings: Sequence[StoredFinding]) -> str | None:
    """Sentences that came out whole, and how close they are to what the same model says in its best form."""
    heard = [f for f in findings if f.metric in ("audio_valid", "snr_vs_reference_db")]
    if not heard:
        return None
    worst = min((f.outcome for f in heard if f.outcome in SEVERITY), key=SEVERITY.index)
    return {"PASS": "sound not worse", "WARN": "sound not worse", "FAIL": "**sound worse**"}.get(
        worst, "cannot tell whether the sound is worse"
    )


def _sizes(finding: StoredFinding) -> tuple[float, float] | None:
    before, after = finding.baseline, finding.new
    if finding.metric not in MEMORY or not isinstance(before, (int, float)) or not isinstance(after, (int, float)):
        return None
    return (float(before), float(after)) if before > 0 else None


def _stored_row(finding: StoredFinding) -> Row:
    sizes, said = _sizes(finding), WORDS.get(finding.outcome, "")
    what = name_of(finding.metric)
    if sizes is not None:
        before, after = map(mebibytes, sizes)
        return Row(what=what, before=before, after=after, change=growth(*sizes), said=said)
    if finding.metric == ENERGY and finding.effect is not None:
        before, after = (_value(finding, side) for side in (finding.baseline, finding.new))
        return Row(what=what, before=before, after=after, change=growth(1.0, finding.effect), said=said)
    if finding.metric in CLOCKS and finding.effect is not None and finding.interval is not None:
        change = interval(finding.effect, *finding.interval)
        return Row(what=what, before="", after="", change=change, said=said)
    change = "" if finding.effect is None else score(finding.metric, finding.effect, sign=True)
    return Row(
        what=what,
        before=_value(finding, finding.baseline),
        after=_value(finding, finding.new),
        change=change,
        said=said,
    )


def _value(finding: StoredFinding | QualityFinding, value: float | str | None) -> str:
    if value is None:
        return ""
    return code(value) if isinstance(value, str) else score(finding.metric, value)


def _baseline_lines(content: Mapping[str, object]) -> tuple[str, ...]:
    stored, rule = pick(_Stored, content["baseline"]), pick(_Rule, content)
    lines = [
        f"Before: the stored baseline {code(stored.name)} of {code(stored.recorded)}, "
        f"{counted(rule.num_baseline_sessions, 'session')}.",
        f"After: {code(pick(_Label, content['run']).label)}.",
        f"Code that did not change is called worse in at most {percent(rule.false_alarm_frac)} % of such checks.",
    ]
    if stored.approval_problem:
        lines.append(f"Note on the baseline: {code(stored.approval_problem)}.")
    return tuple(lines)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stored:
    name: str
    recorded: str
    approval_problem: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rule:
    """By what the stored baseline's verdict was given."""

    num_baseline_sessions: int
    false_alarm_frac: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Judged:
    """By what the verdict on quality was given. reason: why there is nothing to compare, where that is so."""

    alpha: float
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Label:
    label: str


def spoken_quality(content: Mapping[str, object]) -> Spoken:
    """Whether one run sounds as good as another."""
    outcome = outcome_of(content)
    findings = [pick(QualityFinding, finding) for finding in listed(content, "findings")]
    judged = pick(_Judged, content)
    sides = {side: pick(_Label, content[side]).label for side in ("baseline", "candidate")}
    details = (
        f"Quality, before: {code(sides['baseline'])}, after: {code(sides['candidate'])}, sentence by sentence.",
        f"A change that is as bad as the limit allows passes in at most {percent(judged.alpha)} % of such checks.",
    )
    if outcome == "INVALID_ENV" or not findings:
        notes = () if judged.reason is None else (f"Quality: {code(judged.reason)}.",)
        return Spoken(outcome=outcome, quality="quality cannot be compared", notes=notes, details=details)
    sentences = max(max(f.num_sentences, f.num_expected) for f in findings)
    return Spoken(
        outcome=outcome, quality=_quality(outcome, findings, sentences),
        rows=tuple(_quality_row(f) for f in findings if f.outcome != "not judged" and not _is_silent(f)),
        notes=_not_judged(findings), details=details,
    )  # fmt: skip


def _is_silent(finding: QualityFinding) -> bool:
    """That every sentence came out whole is no news."""
    return finding.kind == "failures" and finding.outcome == "not worse"


def _quality(outcome: Outcome, findings: Sequence[QualityFinding], sentences: int) -> str:
    count = counted(sentences, "sentence")
    if outcome in ("PASS", "WARN"):
        return f"quality not worse ({count})"
    if outcome == "FAIL":
        worse = list(dict.fromkeys(name_of(f.metric) for f in findings if f.outcome == "worse"))
        return f"**quality worse** in {' and '.join(worse)} ({count})"
    needed = [f.needed for f in findings if f.outcome == "inconclusive" and f.needed is not None]
    more = f"; about {max(needed)} would do" if needed else ""
    return f"cannot tell whether quality is worse ({count}{more})"


def _quality_row(finding: QualityFinding) -> Row:
    words = {"better": "better", "not worse": "not worse", "worse": "**worse**", "inconclusive": "cannot tell"}
    what, change = name_of(finding.metric), ""
    if finding.kind == "level":
        what = f"{what}, against a fixed limit"
    elif finding.effect is not None and finding.kind == "difference":
        bounds = [
            score(finding.metric, end, sign=True).partition(" ")[0]
            for end in (finding.low, finding.high)
            if end is not None
        ]
        change = score(finding.metric, finding.effect, sign=True)
        change += f" ({' to '.join(bounds)})" if len(bounds) == 2 else ""
    return Row(
        what=what, before=_value(finding, finding.baseline), after=_value(finding, finding.candidate), change=change,
        said=words[finding.outcome],
    )  # fmt: skip


def _not_judged(findings: Sequence[QualityFinding]) -> tuple[str, ...]:
    names = list(dict.fromkeys(name_of(f.metric) for f in findings if f.outcome == "not judged"))
    return (f"Not judged, because it was not scored: {', '.join(names)}.",) if names else ()
