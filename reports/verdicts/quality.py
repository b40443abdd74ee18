"""The verdict of the quality gate: verdict.json, and the sheet that its other forms are rendered from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from baselines.quality.rules import QualityLimits
from baselines.quality.verdict import AS_OUTCOME, QualityFinding, QualityVerdict
from metrics.record import RunRecord
from reports.verdicts.junit import KINDS, Case
from reports.verdicts.sheet import Line, Sheet

QUALITY_SCHEMA_VERSION = 1
WORDS: Mapping[str, str] = {
    "PASS": "not worse by every rule", "FAIL": "worse", "INCONCLUSIVE": "the sentences do not decide",
    "INVALID_ENV": "the two cannot be compared",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedQuality:
    """What was compared, by which limits, and what came of it. to_judge: commands that add the missing scores."""

    baseline: RunRecord
    candidate: RunRecord
    limits: QualityLimits
    verdict: QualityVerdict
    to_judge: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """The verdict in words, with how much of what was asked it speaks of."""
        left_out = sum(f.outcome == "not judged" for f in self.verdict.findings)
        words = self.verdict.reason or WORDS[self.verdict.outcome]
        return f"{words}; {left_out} of {len(self.limits.rules)} rules were not judged" if left_out else words

    @property
    def title(self) -> str:
        return f"{self.candidate.label} against {self.baseline.label}"


def quality_content(judged: JudgedQuality, created: str) -> dict[str, Any]:
    """verdict.json; everything else is rendered from the same values."""
    return {
        "schema_version": QUALITY_SCHEMA_VERSION, "kind": "quality", "created": created, **asdict(judged.verdict),
        "limits": asdict(judged.limits), "to_judge": list(judged.to_judge),
        "baseline": _side(judged.baseline), "candidate": _side(judged.candidate),
    }  # fmt: skip


def _side(run: RunRecord) -> dict[str, Any]:
    return {"run_id": run.run_id, "label": run.label, "status": run.status, "workload": run.workload.get("name")}


def quality_sheet(judged: JudgedQuality) -> Sheet:
    """In junit.xml a rule that judged nothing is skipped, and nothing to compare is an error."""
    verdict = judged.verdict
    cases = [
        Case(f.rule, "NOT_JUDGED" if f.outcome == "not judged" else AS_OUTCOME[f.outcome], f.explanation,
             kind=KINDS[AS_OUTCOME[f.outcome]])
        for f in verdict.findings
    ]  # fmt: skip
    if verdict.reason is not None:
        cases = [Case("quality", "ERROR", verdict.reason, kind="error")]
    return Sheet(
        outcome=verdict.outcome,
        title=f"quality of {judged.title}",
        said=judged.said,
        evidence=_error_rate(verdict),
        columns=("rule", "baseline", "candidate", "effect (bounds)", "limit", "sentences"),
        lines=tuple(_line(finding) for finding in verdict.findings),
        todo=tuple(("missing scores", typed) for typed in judged.to_judge),
        notes=tuple(_pairing(verdict)),
        suite="quality",
        label=judged.candidate.label,
        cases=tuple(cases),
        properties={"host_class": str(judged.candidate.environment.get("host_class") or "")},
    )


def _line(f: QualityFinding) -> Line:
    bounds = "-" if f.effect is None else f"{f.effect:+.4g} ({_number(f.low)} to {_number(f.high)})"
    values = (_number(f.baseline), _number(f.candidate), bounds, _number(f.limit))
    return Line(
        name=f.rule, outcome=f.outcome, explanation=f.explanation,
        cells=(*values, f"{f.num_sentences} of {f.num_expected}"),
    )  # fmt: skip


def _pairing(verdict: QualityVerdict) -> list[str]:
    """What pairing is worth on this very audio, score by score."""
    said = []
    for metric, precision in verdict.precision.items():
        gain = "every difference is the same" if precision.gain is None else f"{precision.gain:.1f} x smaller"
        errors = f"standard error {precision.paired_se:.3g} by pairs, {precision.unpaired_se:.3g} unpaired"
        said.append(f"pairing, {metric}: {errors}, {gain}")
    return said


def _error_rate(verdict: QualityVerdict) -> str:
    return (
        f"A candidate at a margin passes in at most {100 * verdict.alpha:g} % of gates (every rule at that level); "
        f"false alarms of all rules together in at most {100 * verdict.alpha:g} % (Bonferroni, "
        f"{100 * verdict.alarm_error:.2g} % each; the worst-sentence rule and failures are no tests and have no rate)"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
