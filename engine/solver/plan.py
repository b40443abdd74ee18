"""What a solver does at each evaluation point: two rows or one, an earlier velocity again, or nothing.

Settings of the `solver` group, checked; no torch. Most of it is known before anything runs (`SolverSpec.plan`), so a
backend can capture the whole loop; only `reuse.kind=threshold` decides while it runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from engine.contract import ConfigError
from engine.settings import ReuseSettings, SolverSettings

Action = Literal["evaluate", "reuse", "zero"]
GUIDANCE_KINDS = ("cfg", "cfg_zero_star")
REUSE_KINDS = {
    "schedule": {"kind", "evaluated"},
    "threshold": {"kind", "threshold", "rescale", "max_in_a_row"},
    "probe": {"kind"},
}
UNGUIDED_BELOW = 1e-5  # upstream's bound


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """One evaluation point: its place in the tables (`SolverSpec.evaluation_times`), its t, its guidance strength."""

    index: int
    t: float
    strength: float
    action: Action

    @property
    def guided(self) -> bool:
        return self.strength >= UNGUIDED_BELOW


@dataclass(frozen=True, kw_only=True, slots=True)
class Guidance:
    """pieces: (from t on, strength), the first at 0. kind: see engine.solver.guidance. zero_init_steps: solver steps
    at the start whose velocity is taken as zero (CFG-Zero*, arXiv 2503.18886)."""

    kind: str
    pieces: tuple[tuple[float, float], ...]
    zero_init_steps: int

    def strength_at(self, t: float) -> float:
        return [strength for start, strength in self.pieces if start <= t][-1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reuse:
    """Step caching, see engine.solver.reuse. evaluated: for a schedule, the evaluations that are really made."""

    kind: str
    evaluated: tuple[int, ...] = ()
    threshold: float = 0.0
    rescale: tuple[float, ...] = (1.0, 0.0)
    max_in_a_row: int = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class LengthRule:
    """Steps by the length of a chunk's text: the first bound that is not exceeded decides; the last has none."""

    bounds: tuple[int | None, ...]
    steps: tuple[int, ...]

    def choose(self, num_chars: int) -> int:
        """Position in `steps`."""
        return next(i for i, bound in enumerate(self.bounds) if bound is None or num_chars <= bound)


def guidance_of(config: SolverSettings, strength: float) -> Guidance:
    """`guidance`, `guidance_interval`, `guidance_schedule` and `zero_init_steps` of the `solver` group."""
    kind, steps = config.get("guidance", "cfg"), config.get("zero_init_steps", 0)
    if kind not in GUIDANCE_KINDS:
        raise ConfigError(
            "solver.guidance", kind, f"must be one of {', '.join(GUIDANCE_KINDS)}", "use solver.guidance=cfg"
        )
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0 or (steps and kind != "cfg_zero_star"):
        raise ConfigError(
            "solver.zero_init_steps", steps, "must be a whole number from 0, and 0 without cfg_zero_star",
            "use solver.guidance=cfg_zero_star with it",
        )  # fmt: skip
    pieces = tuple((start, share * strength) for start, share in _shares(config))
    return Guidance(kind=kind, pieces=pieces, zero_init_steps=steps)


def _shares(config: SolverSettings) -> list[tuple[float, float]]:
    """(from t on, share of cfg_strength)."""
    interval, schedule = config.get("guidance_interval"), config.get("guidance_schedule")
    if interval is not None and schedule is not None:
        raise ConfigError(
            "solver.guidance_schedule", schedule, "cannot stand beside guidance_interval", "set one of them to null"
        )
    if schedule is not None:
        return _checked_schedule(schedule)
    if interval is None:
        return [(0.0, 1.0)]
    if not (_numbers(interval) and len(interval) == 2 and 0 <= interval[0] < interval[1] <= 1):
        raise ConfigError(
            "solver.guidance_interval", interval, "must be [from, to] with 0 <= from < to <= 1", "use [0, 0.3]"
        )
    first, last = map(float, interval)
    before = [(0.0, 0.0)] if first > 0 else []
    return before + [(first, 1.0)] + ([(last, 0.0)] if last < 1 else [])


def _checked_schedule(schedule: Any) -> list[tuple[float, float]]:
    is_pairs = isinstance(schedule, Sequence) and schedule and all(_numbers(p) and len(p) == 2 for p in schedule)
    pairs = [(float(start), float(share)) for start, share in schedule] if is_pairs else []
    increasing = all(a[0] < b[0] < 1 for a, b in itertools.pairwise(pairs))
    if not pairs or pairs[0][0] != 0 or not increasing or not all(0 <= share <= 10 for _, share in pairs):
        raise ConfigError(
            "solver.guidance_schedule", schedule,
            "must be [from t, share of cfg_strength] pairs, the first from 0, increasing, below 1",
            "use [[0, 1], [0.3, 0.5]]",
        )  # fmt: skip
    return pairs


def reuse_of(config: SolverSettings, num_evals: int) -> Reuse | None:
    """`reuse` of the `solver` group for a grid of num_evals evaluations."""
    given = config.get("reuse")
    if given is None:
        return None
    kind = given.get("kind") if isinstance(given, Mapping) else None
    if not isinstance(kind, str) or kind not in REUSE_KINDS:
        raise ConfigError(
            "solver.reuse.kind", kind, f"must be one of {', '.join(REUSE_KINDS)}", "see conf/solver/smoothcache_32.yaml"
        )
    if set(given) - REUSE_KINDS[kind]:
        wrong = sorted(set(given) - REUSE_KINDS[kind])[0]
        raise ConfigError(f"solver.reuse.{wrong}", dict(given)[wrong], f"is no key of kind {kind}", "leave it out")
    if config["method"] != "euler":
        raise ConfigError("solver.reuse", kind, "is built for euler", "use solver.method=euler")
    if kind == "schedule":
        return Reuse(kind=kind, evaluated=_checked_evaluated(given.get("evaluated"), num_evals))
    if kind == "threshold":
        return _checked_threshold(given)
    return Reuse(kind=kind)


def _checked_evaluated(evaluated: Any, num_evals: int) -> tuple[int, ...]:
    whole = isinstance(evaluated, Sequence) and all(isinstance(i, int) for i in evaluated)
    listed = tuple(evaluated) if whole else ()
    if not listed or listed[0] != 0 or sorted(set(listed)) != list(listed) or listed[-1] >= num_evals:
        raise ConfigError(
            "solver.reuse.evaluated", evaluated, f"must be increasing numbers from 0 to at most {num_evals - 1}",
            "take the list that `python -m experiments.solvers.calibrate_reuse` prints for this grid",
        )  # fmt: skip
    return listed


def _checked_threshold(given: ReuseSettings) -> Reuse:
    threshold: Any = given.get("threshold")
    most, rescale = given.get("max_in_a_row", 3), given.get("rescale", [1.0, 0.0])
    if not (_number(threshold) and threshold > 0):
        raise ConfigError("solver.reuse.threshold", threshold, "must be a number above 0", "use 0.1")
    if not (isinstance(most, int) and most >= 1):
        raise ConfigError("solver.reuse.max_in_a_row", most, "must be a whole number from 1", "use 3")
    if not (_numbers(rescale) and len(rescale) >= 2):
        raise ConfigError(
            "solver.reuse.rescale", rescale, "must be polynomial coefficients, highest power first", "use [1.0, 0.0]"
        )
    return Reuse(kind="threshold", threshold=float(threshold), rescale=tuple(map(float, rescale)), max_in_a_row=most)


def rule_of(config: SolverSettings) -> LengthRule | None:
    """`rule` of the `solver` group: {max_chars: [[40, 12], [null, 7]]}."""
    rule: Any = config.get("rule")
    if rule is None:
        return None
    rows = rule.get("max_chars") if isinstance(rule, Mapping) and set(rule) == {"max_chars"} else None
    is_rows = (
        isinstance(rows, Sequence) and len(rows) > 0 and all(isinstance(r, Sequence) and len(r) == 2 for r in rows)
    )
    bounds = tuple(row[0] for row in rows) if rows is not None and is_rows else ()
    steps = tuple(row[1] for row in rows) if rows is not None and is_rows else ()
    finite = bounds[:-1]
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in (*finite, *steps))
    if not bounds or bounds[-1] is not None or not whole or list(finite) != sorted(set(finite)):
        raise ConfigError(
            "solver.rule", rule, "must be max_chars: rows of [most characters, steps], increasing, the last with null",
            "use {max_chars: [[40, 12], [null, 7]]}",
        )  # fmt: skip
    if config["steps"] is not None or config.get("num_evals") is not None:
        raise ConfigError("solver.steps", config["steps"], "the rule decides the steps", "set steps and num_evals null")
    return LengthRule(bounds=bounds, steps=steps)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(map(_number, value))
