"""What a gate says: findings, one verdict, and the limits it was told to hold. Every rule returns these."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Literal, cast

from baselines.refused import SettingRefused
from metrics.verdict import Outcome

EffectKind = Literal["ratio", "difference"]

MAY_BE_ZERO = ("drift_residual_frac", "memory_extra_bytes", "snr_margin_db", "worst_sentence_snr_margin_db")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One gated quantity. `effect` is new/baseline or new-baseline by `effect_kind`; `interval` bounds the true effect.

    limit: the effect (or, for memory, the value) at which this finding fails. detectable: the effect that would fail in
    95 % of gates, of metrics with noise. baseline and new may be texts where the
    environment is compared. explanation: one sentence for people with the error rate in it.
    """

    metric: str
    outcome: Outcome
    explanation: str
    baseline: float | str | None = None
    new: float | str | None = None
    effect: float | None = None
    effect_kind: EffectKind | None = None
    interval: tuple[float, float] | None = None
    limit: float | None = None
    detectable: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The worst finding decides. false_alarm_frac: the highest rate of FAIL on unchanged code that the rule allows."""

    rule: str
    outcome: Outcome
    exit_code: int
    findings: tuple[Finding, ...]
    false_alarm_frac: float
    num_baseline_sessions: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What conf/gate/*.yaml sets; see conf/gate/seeds.yaml for the meaning and the source of each."""

    catch_ratio: float
    ignore_ratio: float
    coarse_catch_ratio: float
    coarse_ignore_ratio: float
    snr_margin_db: float
    worst_sentence_snr_margin_db: float
    memory_ratio: float
    memory_extra_bytes: int
    session_noise_frac: float
    coarse_session_noise_frac: float
    session_noise_floor_frac: float
    drift_residual_frac: float
    machine_ratio: float
    other_cpu_frac: float
    confidence: float
    pass_confidence: float
    energy_ratio: float = 1.10

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise SettingRefused(f"gate.{f.name}", value, "not a finite number", "give one")
            if value < 0 or (value == 0 and f.name not in MAY_BE_ZERO):
                raise SettingRefused(f"gate.{f.name}", value, "must be above 0", "raise it")
        for low, high in (("ignore_ratio", "catch_ratio"), ("coarse_ignore_ratio", "coarse_catch_ratio")):
            if getattr(self, low) >= getattr(self, high):
                raise SettingRefused(
                    f"gate.{high}", getattr(self, high), f"must be above gate.{low}={getattr(self, low)}", "raise it"
                )
        for name, usual in (("machine_ratio", 1.5), ("energy_ratio", 1.1)):
            if getattr(self, name) <= 1:
                raise SettingRefused(f"gate.{name}", getattr(self, name), "must be above 1", f"{usual} is usual")
        for name in ("confidence", "pass_confidence"):
            if not 0.5 < getattr(self, name) < 1:
                raise SettingRefused(f"gate.{name}", getattr(self, name), "must lie between 0.5 and 1", "0.99 is usual")

    @classmethod
    def from_mapping(cls, gate: Mapping[str, object]) -> Limits:
        """From the `gate` part of a composed configuration. Raises SettingRefused."""
        names = {f.name for f in fields(cls)}
        given = {key: value for key, value in gate.items() if key != "name"}
        for key in sorted(set(given) - names):
            near = difflib.get_close_matches(key, sorted(names), n=1)
            remedy = f"did you mean gate.{near[0]}?" if near else "leave it out"
            there = f"no such limit; there are {', '.join(sorted(names))}"
            raise SettingRefused(f"gate.{key}", given[key], there, remedy)
        # What came later has a default: a file of limits that was written before it stays good
        needed = {f.name for f in fields(cls) if f.default is MISSING}
        for key in sorted(needed - set(given)):
            raise SettingRefused(f"gate.{key}", "", "is needed", "conf/gate/seeds.yaml shows every limit")
        return cls(**cast(Mapping[str, int], given))  # numbers of either kind: each is checked as it is made
