"""The words of a same-run comparison: `experiments.compare` and `experiments.functions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from metrics.verdict import Outcome
from reports.verdicts.spoken.parts import UNSURE, Row, Spoken, interval, machine_line, outcome_of, pick
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
class PairSide:
    label: str = ""
    commit: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PairAnswers:
    num_pairs: int
    num_equal: int
    what: Literal["audio", "answer"] = "audio"


def spoken_pairs(content: Mapping[str, Any]) -> Spoken:
    if content["outcome"] == "FAILED":
        side = SIDES.get(str(content.get("side")), "a side")
        why = f"Why: {code(str(content.get('reason')))}. What to do: {code(str(content.get('remedy')))}."
        return Spoken(outcome="FAILED", speed=f"no figures: the code {side} the change did not run", notes=(why,))
    outcome, limits = outcome_of(content), pick(PairLimits, content["limits"])
    findings = [pick(PairFinding, finding) for finding in content["findings"]]
    reason = content.get("reason")
    first = findings[0]
    notes = list(_settling(first, limits, int(content["num_turns" if limits.mode == "quick" else "num_blocks"])))
    if outcome == "INVALID_ENV":
        said = "no verdict: the machine was not steady while it was measured"
        return Spoken(outcome=outcome, speed=said, notes=_why(reason), details=_details(content, limits))
    rows = [_pair_row(finding, limits, decided=reason is None) for finding in findings]
    worse = [f for f in findings[1:] if f.outcome in ("FAIL", "WARN")]
    parts = [_pair_speed(first, limits, reason is None)]
    parts += [f"{name_of(f.metric)} {speed(f.ratio, f.low, f.high)}" for f in worse]
    memory, memory_rows = _memory(content.get("memory_bytes"))
    bounded = is_bounded(first.low, first.high)
    return Spoken(
        outcome=outcome, speed=", ".join(parts), quality=_same_audio(content.get("answers")), memory=memory,
        ratio=(first.ratio, first.low, first.high) if bounded else None, rows=(*rows, *memory_rows),
        notes=(*_why(reason), *(notes if reason is None else ())), details=_details(content, limits),
    )  # fmt: skip


def _pair_speed(finding: PairFinding, limits: PairLimits, decided: bool) -> str:
    if finding.outcome == "INCONCLUSIVE" or not decided:
        if not is_bounded(finding.low, finding.high):
            return UNSURE
        return f"{UNSURE} ({between(finding.low, finding.high)})"
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


def _same_audio(answers: Any) -> str | None:
    """What a comparison knows of quality: that nothing changed, where it is so."""
    if answers is None:
        return None
    counts = pick(PairAnswers, answers)
    return (
        f"the same {counts.what} bit for bit" if counts.num_pairs > 0 and counts.num_equal == counts.num_pairs else None
    )


def _memory(content: Any) -> tuple[str | None, tuple[Row, ...]]:
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


def _why(reason: Any) -> tuple[str, ...]:
    return () if reason is None else (f"Why: {code(str(reason))}.",)


def _details(content: Mapping[str, Any], limits: PairLimits) -> tuple[str, ...]:
    lines = []
    for side in ("reference", "candidate"):
        found = pick(PairSide, content.get("sides", {}).get(side, {}))
        commit = f" at {code(found.commit[:12])}" if found.commit else ""
        lines.append(f"{SIDES[side].capitalize()}: {code(found.label)}{commit}.")
    pairs, blocks = int(content["num_turns"]), int(content["num_blocks"])
    lines.append(
        f"{counted(pairs, 'pair')} of calls in {counted(blocks, 'round')} of fresh processes, one side right after the "
        "other, in random order."
    )
    alarm, miss = (percent(float(content[key])) for key in ("false_alarm_frac", "miss_frac"))
    lines.append(
        f"Code that did not change is called slower in at most {alarm} % of such checks; code that is "
        f"{percent(limits.catch_ratio - 1)} % slower is passed in at most {miss} %."
    )
    return (*lines, *machine_line(content))
