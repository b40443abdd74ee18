"""Take the cheaper variant or not: speed and quality of two cells of a sweep by a rule that was fixed before.

pass: fast enough, faster (or no slower) than the base, not worse by every quality rule. fail: one of them is refuted.
Otherwise it cannot be told, and what is missing is said.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

from baselines.quality.gate import judge_quality
from baselines.quality.rules import QualityLimits
from baselines.quality.verdict import QualityVerdict
from baselines.refused import SettingRefused
from metrics.record import RunRecord
from metrics.speed.steady import unsteady_reason
from metrics.speed.trials import speed_of
from metrics.stats import ratio_interval

Decided = Literal["pass", "fail", "cannot tell"]
SpeedRule = Literal["faster", "no slower"]
QUALITY: Mapping[str, Decided] = {"PASS": "pass", "FAIL": "fail"}


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionQuestion:
    """Whether `candidate` may take the place of `base`; both are labels of cells."""

    name: str
    base: str
    candidate: str
    speed: SpeedRule


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionRule:
    """conf/gate/decision/*.yaml. quality: the name of the rules' preset."""

    name: str
    quality: str
    rtf_limits: tuple[float, ...]
    slower_margin_frac: float
    max_drift_frac: float
    questions: tuple[DecisionQuestion, ...]

    @classmethod
    def from_mapping(cls, content: Mapping[str, object]) -> DecisionRule:
        """Raises SettingRefused."""
        names = [f.name for f in fields(cls)]
        for key in (*(k for k in content if k not in names), *(n for n in names if n not in content)):
            raise SettingRefused(key, content.get(key), f"the keys are {', '.join(names)}", "see conf/gate/decision")
        limits = content["rtf_limits"]
        if not isinstance(limits, list) or not limits:
            raise SettingRefused("rtf_limits", limits, "must be a list of numbers", "see conf/gate/decision")
        margin, drift = (_positive(key, content[key]) for key in ("slower_margin_frac", "max_drift_frac"))
        questions = content["questions"]
        if not isinstance(questions, list) or not questions:
            raise SettingRefused("questions", questions, "must be a list", "see conf/gate/decision")
        return cls(
            name=str(content["name"]), quality=str(content["quality"]), slower_margin_frac=margin, max_drift_frac=drift,
            rtf_limits=tuple(_positive("rtf_limits", value) for value in limits),
            questions=tuple(_question(row) for row in questions),
        )  # fmt: skip


def _question(row: object) -> DecisionQuestion:
    names = [f.name for f in fields(DecisionQuestion)]
    if not isinstance(row, Mapping) or set(row) != set(names) or row["speed"] not in get_args(SpeedRule):
        words = " or ".join(get_args(SpeedRule))
        raise SettingRefused("questions", row, f"needs {', '.join(names)}, speed is {words}", "see conf/gate/decision")
    return DecisionQuestion(**{name: row[name] for name in names})


def _positive(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise SettingRefused(key, value, "must be above 0", "see conf/gate/decision")
    return float(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeedPart:
    """ratio: candidate's time over the base's, median over sentences, 95 % bounds. drift_ratio: of the calibrations."""

    decided: Decided
    explanation: str
    base_rtf: float
    candidate_rtf: float
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    drift_ratio: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """One answered question; speed and quality are None where a cell was not measured."""

    question: DecisionQuestion
    decided: Decided
    explanation: str
    speed: SpeedPart | None = None
    quality: QualityVerdict | None = None


def decide(records: Mapping[str, RunRecord], rule: DecisionRule, limits: QualityLimits) -> list[Decision]:
    """One decision per question; `records` by label, cells that were not measured left out."""
    return [_decide(question, records, rule, limits) for question in rule.questions]


def _decide(
    question: DecisionQuestion, records: Mapping[str, RunRecord], rule: DecisionRule, limits: QualityLimits
) -> Decision:
    missing = [
        name
        for name in (question.base, question.candidate)
        if name not in records or records[name].status != "ok" or not records[name].steady_trials
    ]
    if missing:
        text = f"not measured: {', '.join(missing)}"
        return Decision(question=question, decided="cannot tell", explanation=text)
    base, candidate = records[question.base], records[question.candidate]
    unsteady = [f"{run.label}: {reason}" for run in (base, candidate) if (reason := unsteady_reason(run)) is not None]
    if unsteady:
        return Decision(question=question, decided="cannot tell", explanation=f"not steady: {'; '.join(unsteady)}")
    speed = judge_speed(base, candidate, question.speed, rule)
    quality = judge_quality(base, candidate, limits)
    parts = (speed.decided, QUALITY.get(quality.outcome, "cannot tell"))
    decided: Decided = "fail" if "fail" in parts else "pass" if set(parts) == {"pass"} else "cannot tell"
    said = [f"{f.rule} {f.outcome}" for f in quality.findings if f.outcome not in ("better", "not worse")]
    explanation = f"speed: {speed.decided} ({speed.explanation}); quality: {parts[1]} ("
    explanation += quality.reason or (", ".join(said) if said else "not worse by every rule")
    return Decision(question=question, decided=decided, explanation=f"{explanation})", speed=speed, quality=quality)


def judge_speed(base: RunRecord, candidate: RunRecord, wanted: SpeedRule, rule: DecisionRule) -> SpeedPart:
    """Whether the candidate is fast enough, and faster or no slower than the base, sentence by sentence."""
    base_rtf, rtf = (speed_of(run.trials).rtf_ratio for run in (base, candidate))
    found = SpeedPart(decided="cannot tell", explanation="", base_rtf=base_rtf, candidate_rtf=rtf)
    limit = rule.rtf_limits[0]
    if rtf >= limit:
        return replace(found, decided="fail", explanation=f"RTF {rtf:.3f}, the limit is {limit:g}")
    times_s, base_times_s = _times_s(candidate), _times_s(base)
    names = sorted(times_s.keys() & base_times_s.keys())
    interval = ratio_interval([times_s[n] for n in names], [base_times_s[n] for n in names]) if names else None
    if interval is None:
        return replace(found, decided="cannot tell", explanation=f"{len(names)} sentences in common, 6 are needed")
    drift = _drift(base, candidate)
    found = replace(found, ratio=interval.ratio, low=interval.low, high=interval.high, drift_ratio=drift)
    reached = [f"{x:g}" for x in rule.rtf_limits if rtf < x]
    text = f"RTF {rtf:.3f} (limits reached: {', '.join(reached)}), x{interval.ratio:.3f} of the base's time "
    text += f"({interval.low:.3f} to {interval.high:.3f})"
    if drift is not None and abs(math.log(drift)) > math.log1p(rule.max_drift_frac):
        return replace(
            found,
            decided="cannot tell",
            explanation=f"{text}; the machine itself moved by x{drift:.2f} between the two",
        )
    edge = 1.0 if wanted == "faster" else 1 + rule.slower_margin_frac
    decided: Decided = "pass" if interval.high < edge else "fail" if interval.low > edge else "cannot tell"
    return replace(found, decided=decided, explanation=text)


def _times_s(run: RunRecord) -> dict[str, float]:
    """Median wall seconds by sentence."""
    times: dict[str, list[float]] = {}
    for trial in run.steady_trials:
        times.setdefault(trial.utterance_id, []).append(trial.wall_s)
    return {name: statistics.median(values) for name, values in times.items()}


def _drift(base: RunRecord, candidate: RunRecord) -> float | None:
    """Calibration time beside the candidate's trials over that beside the base's; None where none was made."""
    found = [[t.calibration_s for t in run.steady_trials if t.calibration_s] for run in (base, candidate)]
    return statistics.median(found[1]) / statistics.median(found[0]) if all(found) else None


def decision_lines(decisions: Sequence[Decision]) -> list[str]:
    """For the terminal."""
    lines = []
    for one in decisions:
        lines += [f"{one.decided.upper():<12} {one.question.name}", f"             {one.explanation}"]
    return lines


def decision_markdown(decisions: Sequence[Decision], rule: DecisionRule) -> str:
    """The table and, under it, every quality rule's words."""
    lines = [
        f"## Decisions by the rule {rule.name}", "",
        f"RTF under {rule.rtf_limits[0]:g}, faster (or no slower than {100 * rule.slower_margin_frac:g} % more), not "
        f"worse by every quality rule of {rule.quality}.", "",
        "| question | base RTF | RTF | time ratio (95 %) | speed | quality | decision |",
        "|---|---:|---:|---|---|---|---|",
    ]  # fmt: skip
    for one in decisions:
        speed, quality = one.speed, one.quality
        cells = ["-"] * 5
        if speed is not None and quality is not None:
            bounds = "-" if speed.ratio is None else f"x{speed.ratio:.3f} ({speed.low:.3f} to {speed.high:.3f})"
            said = QUALITY.get(quality.outcome, "cannot tell")
            cells = [f"{speed.base_rtf:.3f}", f"{speed.candidate_rtf:.3f}", bounds, speed.decided, said]
        lines.append(f"| {one.question.name} | {' | '.join(cells)} | **{one.decided}** |")
    for one in decisions:
        lines += ["", f"### {one.question.name}", "", f"{one.explanation}.", ""]
        lines += [f"- {f.rule}: {f.outcome}; {f.explanation}" for f in (one.quality.findings if one.quality else ())]
    return "\n".join(lines) + "\n"
