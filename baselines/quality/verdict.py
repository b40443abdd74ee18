"""What the quality gate says: of every rule, and of all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from baselines.quality.noninferiority import Precision
from metrics.verdict import Outcome

FindingOutcome = Literal["better", "not worse", "worse", "inconclusive", "not judged"]
Side = Literal["baseline", "candidate"]
AS_OUTCOME: Mapping[FindingOutcome, Outcome] = {
    "better": "PASS", "not worse": "PASS", "worse": "FAIL", "inconclusive": "INCONCLUSIVE",
    "not judged": "INCONCLUSIVE",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityFinding:
    """What one rule says. effect, low, high and limit are in the metric's own unit and direction; None: no such bound.

    low and high are bounds of the difference (of the mean or share for a level and a share), each one-sided: the one
    on the side of the limit at alpha, the other at the share of alpha that an alarm has. needed: sentences in all.
    unscored: the runs that hold no score of the metric at all.
    """

    rule: str
    metric: str
    kind: str
    outcome: FindingOutcome
    explanation: str
    num_sentences: int = 0
    num_expected: int = 0
    baseline: float | None = None
    candidate: float | None = None
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    method: str | None = None
    needed: int | None = None
    worst_sentence: str | None = None
    worst_value: float | None = None
    unscored: tuple[Side, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityVerdict:
    """The worst of what was judged decides. reason: why nothing could be judged, or None.

    precision: what pairing is worth on this audio, by every score of one recording alone. Scores towards a reference
    are differences of a pair already.
    """

    rule: str
    outcome: Outcome
    exit_code: int
    findings: tuple[QualityFinding, ...]
    alpha: float
    alarm_error: float
    reason: str | None = None
    precision: Mapping[str, Precision] = field(default_factory=dict)
