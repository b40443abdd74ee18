"""The quality gate's rules as conf/gate/quality/*.yaml writes them, checked key by key."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypedDict, TypeGuard, cast, get_args

from baselines.quality.noninferiority import METHODS, Method
from baselines.refused import SettingRefused
from metrics.fidelity.catalog import by_name

Kind = Literal["difference", "level", "share"]
NEEDED: Mapping[Kind, tuple[str, ...]] = {"difference": ("margin", "worst"), "level": ("limit",), "share": ("limit",)}
PLANNED = ("margin", "sd", "limit", "true_rate")
Unscored = Literal["inconclusive", "not judged"]
REQUIRED = ("name", "alpha", "coverage_frac", "metrics")
TOP = (*REQUIRED, "planning", "unscored")


class Plan(TypedDict, total=False):
    """What experiments.plan_samples reckons a metric with. sd: of a paired difference, one or several; true_rate: of
    what is held under limit."""

    margin: float
    sd: float | list[float]
    limit: float
    true_rate: float


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityRule:
    """One line of `metrics:`. margin and worst are losses, above 0; limit is a value of the metric itself."""

    metric: str
    kind: Kind
    margin: float | None = None
    worst: float | None = None
    limit: float | None = None
    method: Method = "auto"

    @property
    def name(self) -> str:
        """How the verdict calls it: a metric may stand under two rules."""
        return f"{self.metric} ({self.kind})"

    @property
    def sign(self) -> float:
        """+1 where more of the metric is better, -1 where less is."""
        return -1.0 if by_name()[self.metric].better == "lower" else 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityLimits:
    """planning: metric -> what plan_samples takes where nothing is given. unscored: what becomes of a rule whose scores
    nobody made: it keeps the gate from passing, or it stands beside the verdict as a question that was not asked."""

    name: str
    alpha: float
    coverage_frac: float
    rules: tuple[QualityRule, ...]
    planning: Mapping[str, Plan]
    unscored: Unscored = "inconclusive"

    @property
    def alarm_error(self) -> float:
        """Bonferroni: the error of each of the rules' alarms, so that all together keep alpha."""
        return self.alpha / len(self.rules)

    @classmethod
    def from_mapping(cls, content: Mapping[str, object]) -> QualityLimits:
        """Raises SettingRefused."""
        for key in content:
            if key not in TOP:
                raise SettingRefused(key, content[key], "no such key", f"the keys are {', '.join(TOP)}")
        for key in REQUIRED:
            if key not in content:
                raise SettingRefused(key, "", "is missing", "see conf/gate/quality/seeds.yaml")
        alpha, coverage_frac = (
            _share(key, content[key], most) for key, most in (("alpha", 0.5), ("coverage_frac", 1.0))
        )
        given = content.get("unscored", "inconclusive")
        unscored: Unscored | None = next((known for known in get_args(Unscored) if known == given), None)
        if unscored is None:
            words = " or ".join(get_args(Unscored))
            raise SettingRefused("unscored", given, f"must be {words}", "see conf/gate/quality/standard.yaml")
        rows = content["metrics"]
        if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
            raise SettingRefused("metrics", rows, "must be a list of rules", "see conf/gate/quality/seeds.yaml")
        rules = tuple(_rule(row) for row in rows)
        if len({rule.name for rule in rules}) < len(rules):
            raise SettingRefused("metrics", "...", "one rule stands there twice", "leave one out")
        return cls(
            name=str(content["name"]), alpha=alpha, coverage_frac=coverage_frac,
            rules=rules, planning=_planning(content.get("planning") or {}), unscored=unscored,
        )  # fmt: skip


def _share(key: str, value: object, most: float) -> float:
    if not _is_number(value) or not 0.0 < value <= most:
        raise SettingRefused(key, value, f"must lie over 0, up to {most:g}", "see conf/gate/quality")
    return float(value)


def _rule(row: object) -> QualityRule:
    if not isinstance(row, Mapping):
        raise SettingRefused("metrics", row, "a rule is a set of keys", "see conf/gate/quality/seeds.yaml")
    names = [f.name for f in fields(QualityRule)]
    for key in row:
        if key not in names:
            raise SettingRefused(f"metrics.{key}", row[key], "no such key of a rule", f"there are {', '.join(names)}")
    metric, given_kind, method = str(row.get("metric")), row.get("kind"), row.get("method", "auto")
    if metric not in by_name() or by_name()[metric].better == "neither":
        raise SettingRefused("metric", metric, "is no score with a better end", "see metrics/fidelity/catalog.py")
    kinds: tuple[Kind, ...] = get_args(Kind)
    kind = next((known for known in kinds if known == given_kind), None)
    if kind is None:
        raise SettingRefused(f"{metric}.kind", given_kind, f"must be one of {', '.join(kinds)}", "use difference")
    if method not in METHODS:
        raise SettingRefused(f"{metric}.method", method, f"must be one of {', '.join(METHODS)}", "use auto")
    if kind == "share" and by_name()[metric].better != "lower":
        raise SettingRefused(f"{metric}.kind", "share", "counts bad events, and more of this is better", "use level")
    numbers: dict[str, float | None] = {}
    for key in ("margin", "worst", "limit"):
        wanted, given = key in NEEDED[kind], row.get(key)
        if wanted != (given is not None):
            raise SettingRefused(
                f"{metric}.{key}", given, f"{'is needed' if wanted else 'has no place'} in a {kind}", "see seeds"
            )
        if given is not None and not (_is_number(given) and 0 < given < (1 if kind == "share" else math.inf)):
            raise SettingRefused(f"{metric}.{key}", given, "must be a number above 0 (a share under 1)", "see seeds")
        numbers[key] = None if given is None else float(given)
    return QualityRule(metric=metric, kind=kind, method=method, **numbers)


def _planning(given: object) -> dict[str, Plan]:
    """metric -> margin, sd (one or several), limit, true_rate; numbers from 0."""
    if not isinstance(given, Mapping) or not all(isinstance(plan, Mapping) for plan in given.values()):
        raise SettingRefused(
            "planning", given, "must be metric: {margin: M, sd: S}", "see conf/gate/quality/seeds.yaml"
        )
    for metric, plan in given.items():
        for key, value in plan.items():
            if key not in PLANNED:
                raise SettingRefused(
                    f"planning.{metric}.{key}", value, "no such key", f"there are {', '.join(PLANNED)}"
                )
            values = value if key == "sd" and isinstance(value, list) and value else [value]
            if not all(_is_number(one) and one >= 0 for one in values):
                raise SettingRefused(
                    f"planning.{metric}.{key}", value, "must be a number from 0", "see conf/gate/quality"
                )
    return {str(metric): cast(Plan, dict(plan)) for metric, plan in given.items()}


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
