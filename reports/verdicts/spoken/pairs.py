"""The words of a same-run comparison: `experiments.compare` and `experiments.functions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from metrics.typed import part_of
from metrics.verdict import Outcome
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
    seconds,
    speed,
)

EXIT_USAGE = 2
SIDES: Mapping[str, str] = {"reference": "before", "candidate": "after", "sentinel": "before, a second time"}


@dataclass(frozen=True, kw_only=True, slots=True)
class PairFinding:
    metric: str
    outcome: Outcome
    ratio: float
    low: float
    high: float
    needed: int | None = None
    median_s: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class PairLimits:
    catch_ratio: float
    looks: tuple[int, ...]
    mode: Literal["blocks", "quick"] = "blocks"


@dataclass(frozen=True, kw_only=True, slots=True)
class PairCounts:
    """How much was measured, at which rates of error. reason: why nothing was decided, whatever the figures say."""

    num_turns: int
    num_blocks: int
    false_alarm_frac: float
    miss_frac: float
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PairSide:
    label: str = ""
    commit: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PairAnswers:
    num_pairs: int
    num_equal: int
    what: Literal["audio", "answer"] = "audio"


def spoken_pairs(content: Mapping[str, object]) -> Spoken:
    if content["outcome"] == "FAILED":
        side = SIDES.get(str(content.get("side")), "a side")
        if content.get("exit_code") == EXIT_USAGE:  # nothing of the change is at fault
            wrong = code(f"{content.get('reason')}; {content.get('remedy')}")
            said = "no figures: a setting of the measurement is wrong"
            return Spoken(
                outcome="FAILED", speed=said, notes=(f"What is wrong, in the code {side} the change: {wrong}.",)
            )
        why = f"Why: {code(str(content.get('reason')))}. What to do: {code(str(content.get('remedy')))}."
        return Spoken(outcome="FAILED", speed=f"no figures: the code {side} the change did not run", notes=(why,))
    outcome, limits = outcome_of(content), pick(PairLimits, content["limits"])
    findings = [pick(PairFinding, finding) for finding in listed(content, "findings")]
    counts = pick(PairCounts, content)
    first, reason = findings[0], counts.reason
    notes = list(_settling(first, limits, counts.num_turns if limits.mode == "quick" else counts.num_blocks))
    if outcome == "INVALID_ENV":
        said = "no verdict: the machine was not steady while it was measured"
        return Spoken(outcome=outcome, speed=said, notes=_why(reason), details=_details(content, counts, limits))
    rows = [_pair_row(finding, limits, decided=reason is None) for finding in findings]
    worse = [f for f in findings[1:] if f.outcome in ("FAIL", "WARN")]
    parts = [_pair_speed(first, limits, reason is None)]
    parts += [f"{name_of(f.metric)} {speed(f.ratio, f.low, f.high)}" for f in worse]
    memory, memory_rows = _memory(content.get("memory_bytes"))
    bounded = is_bounded(first.low, first.high)
    return Spoken(
        outcome=outcome, speed=", ".join(parts), quality=_same_audio(content.get("answers")), memory=memory,
        ratio=(first.ratio, first.low, first.high) if bounded else None, rows=(*rows, *memory_rows),
        notes=(*_why(reason), *(notes if reason is None else ())),
        details=_details(content, counts, limits), sides=_names(content),
    )  # fmt: skip


def _names(content: Mapping[str, object]) -> tuple[str, str]:
    """What to call the sides in a table: their own labels where one tree holds both."""
    sides = part_of(content, "sides")
    reference, candidate = (pick(PairSide, sides.get(side, {})) for side in ("reference", "candidate"))
    if reference.commit != candidate.commit or reference.label in ("", candidate.label) or not candidate.label:
        return SIDES["reference"], SIDES["candidate"]
    return code(reference.label), code(candidate.label)


def _pair_speed(finding: PairFinding, limits: PairLimits, decided: bool) -> str:
    if finding.outcome == "INCONCLUSIVE" or not decided:
        if not is_bounded(finding.low, finding.high):
            return UNSURE
        span = between(finding.low, finding.high)
        if finding.low > 1 or finding.high < 1:  # a direction, in these processes alone
            return f"not decided: {span} in this one set of processes, and the next may differ"
        return f"{UNSURE} ({span})"
    said = speed(finding.ratio, finding.low, finding.high)
    return (
        f"{said}, less than the {percent(limits.catch_ratio - 1)} % that count" if finding.outcome == "WARN" else said
    )


def _pair_row(finding: PairFinding, limits: PairLimits, *, decided: bool) -> Row:
    before, after = (finding.median_s.get(side) for side in ("reference", "candidate"))
    words = {
        "PASS": "not slower", "WARN": "slower, but little", "FAIL": "**slower**", "INCONCLUSIVE": "cannot tell",
    }  # fmt: skip
    return Row(
        what=name_of(finding.metric), before="" if before is None else seconds(before),
        after="" if after is None else seconds(after),
        change=interval(finding.ratio, finding.low, finding.high),
        said=words.get(finding.outcome, "") if decided else "cannot tell",
    )  # fmt: skip


def _settling(finding: PairFinding, limits: PairLimits, done: int) -> Sequence[str]:
    """What would decide."""
    if finding.outcome != "INCONCLUSIVE":
        return ()
    catch = f"{percent(limits.catch_ratio - 1)} %"
    if finding.needed is None:
        return (f"This machine is too restless to find {catch}: use a quieter one, or raise catch_ratio.",)
    times = max(1.1, finding.needed / max(1, done))
    return (f"About {times:.2g} times as many calls would decide it, or a quieter machine.",)


def _same_audio(answers: object) -> str | None:
    """What a comparison knows of quality: that nothing changed, where it is so."""
    if answers is None:
        return None
    counts = pick(PairAnswers, answers)
    return (
        f"the same {counts.what} bit for bit" if counts.num_pairs > 0 and counts.num_equal == counts.num_pairs else None
    )


def _memory(content: object) -> tuple[str | None, tuple[Row, ...]]:
    """Of each side's process, where it was kept."""
    if not content:
        return None, ()
    peaks = pick(_Peaks, content)
    change = growth(peaks.reference, peaks.candidate)
    row = Row(
        what="memory", before=mebibytes(peaks.reference), after=mebibytes(peaks.candidate), change=change,
        said="not judged",
    )  # fmt: skip
    return f"memory {change}", (row,)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Peaks:
    reference: float
    candidate: float


def _why(reason: str | None) -> tuple[str, ...]:
    return () if reason is None else (f"Why: {code(reason)}.",)


def _details(content: Mapping[str, object], counts: PairCounts, limits: PairLimits) -> tuple[str, ...]:
    lines, sides = [], part_of(content, "sides")
    for side in ("reference", "candidate"):
        found = pick(PairSide, sides.get(side, {}))
        commit = f" at {code(found.commit[:12])}" if found.commit else ""
        lines.append(f"{SIDES[side].capitalize()}: {code(found.label)}{commit}.")
    lines.append(
        f"{counted(counts.num_turns, 'pair')} of calls in {counted(counts.num_blocks, 'round')} of fresh processes, "
        "one side right after the other, in random order."
    )
    alarm, miss = percent(counts.false_alarm_frac), percent(counts.miss_frac)
    lines.append(
        f"Code that did not change is called slower in at most {alarm} % of such checks; code that is "
        f"{percent(limits.catch_ratio - 1)} % slower is passed in at most {miss} %."
    )
    return (*lines, *machine_line(content))
