"""Power rails of boards, and which of them make the board's total.

Rails contain one another: VDD_IN is everything behind it, VDDQ_VDD2_1V8AO is fed from VIN_SYS_5V0. So a total is never
"all of them": it goes by a rule of the board, and the rule's name is part of the figure, for two rules of one board
differ by as much as half (Thor, with and without what its carrier measures). What no rule names is kept and not added.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

UNUSED = "NC"  # a channel that is not connected


class NoRule(ValueError):
    """These rails make no total that is known. Its text says why."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The total is the sum of `rails`. families: of boards that it is true of."""

    name: str
    rails: tuple[str, ...]
    families: tuple[str, ...]


# Where two rules fit a board, the first is taken: it includes what the other leaves out
RULES = (
    Rule("thor-vin", ("VIN",), ("thor",)),
    Rule("thor-rails", ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"), ("thor",)),
    Rule("agx-orin-rails", ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), ("agx-orin",)),
    Rule("vdd-in", ("VDD_IN",), ("orin-nx", "orin-nano")),
    Rule("agx-xavier-rails", ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"), ()),
)
# A rail that only the boards of a rule have, so that VIN alone is not taken for Thor's
BESIDE = {"thor-vin": "VDD_CPU_SOC_MSS"}


def rule_of(labels: Collection[str], family: str | None = None) -> Rule:
    """family: of the board where it is known; the rails must then be those of that board. Raises NoRule."""
    known = [rule for rule in RULES if family is None or family in rule.families]
    for rule in known:
        if set(rule.rails) <= set(labels) and BESIDE.get(rule.name, rule.rails[0]) in labels:
            return rule
    seen = ", ".join(sorted(labels)) or "none"
    if family is None:
        raise NoRule(f"no board is known whose total these rails make: {seen}")
    if not known:
        raise NoRule(f"no rule is known for the board {family}; its rails: {seen}")
    needed = " or ".join(" + ".join(rule.rails) for rule in known)
    raise NoRule(f"the total of {family} is {needed}; the rails here: {seen}")


def total(rails: Mapping[str, float], rule: Rule) -> float | None:
    """In the unit of the rails; None where one of the rule's has no value."""
    values = [rails.get(name) for name in rule.rails]
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
