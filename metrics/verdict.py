"""The words of every verdict, whichever rule gave it: what it may say, which of several decides, how a process ends.

PASS: no worse than allowed. WARN: a real change, smaller than what must be caught. FAIL: worse by what must be caught.
INCONCLUSIVE: what was measured does not decide. INVALID_ENV: the two cannot be compared, or the machine was not still.
NO_BASELINE: there is nothing to compare with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

Outcome = Literal["PASS", "WARN", "INCONCLUSIVE", "FAIL", "INVALID_ENV", "NO_BASELINE"]

SEVERITY: tuple[Outcome, ...] = ("PASS", "WARN", "INCONCLUSIVE", "FAIL", "INVALID_ENV", "NO_BASELINE")
EXIT_CODES: Mapping[Outcome, int] = {
    "PASS": 0, "WARN": 0, "FAIL": 10, "INCONCLUSIVE": 11, "INVALID_ENV": 12, "NO_BASELINE": 13,
}  # fmt: skip
EXIT_RUN_FAILED = 14
WORDS: Mapping[Outcome, str] = {
    "PASS": "no regression",
    "WARN": "a real change, smaller than what must be caught",
    "INCONCLUSIVE": "the measurement does not decide",
    "FAIL": "regression",
    "INVALID_ENV": "the two cannot be compared",
    "NO_BASELINE": "there is nothing to compare with",
}
OLD_WORDS: Mapping[str, Outcome] = {"CANNOT_TELL": "INCONCLUSIVE"}  # in files that were written before


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The most severe of `outcomes`; PASS of none."""
    return max(outcomes, key=SEVERITY.index, default="PASS")
