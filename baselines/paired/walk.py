"""The walk from a revision that was fast to one that is slow: which comparison is next, and what all of them say.

Revisions are numbered: 0 is the one that was fast, 1 .. num_commits are the commits after it, the last is the slow one.
Rule `walk-1`, all comparisons by the rule of pairs (baselines.paired.rule), each of a revision (candidate) with one
before it (reference):

1. The ends: is the last slower than 0 at all? The lower bound of that ratio is what is looked for from then on. A FAIL
   whose lower bound is under half of what it shows (in logs) goes on to the next look, because a larger effect is found
   sooner at every step.
2. Steps, each a revision between with 0. Slower than 0 (FAIL, WARN): the change lies at it or before it. Surely not
   slower by what is looked for (PASS): after it. WARN says both, so the slowdown came in parts: the first of them is
   looked for, by its own lower bound. INCONCLUSIVE, or a revision that cannot be measured: another one of the range.
3. The proof: the first revision known to be slow with the last one known not to be, in fresh processes. Without it no
   commit is named.

Error budget: wrong_frac is divided by the number of comparisons that there can be (Bonferroni), which the number of
commits and `spare` fix beforehand; each share is both the false alarms and the misses of its comparison. Where one
commit made it slower, a walk takes a wrong turn anywhere in at most wrong_frac of walks. Whatever was slow, the proof
alone lets an innocent commit be named in at most one share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from baselines.paired.data import Block
from baselines.paired.rule import PairedLimits, PairedVerdict, decide
from metrics.verdict import EXIT_CODES, Outcome

WALK_RULE = "walk-1"
Purpose = Literal["ends", "step", "proof"]
ENDS: Purpose = "ends"
STEP: Purpose = "step"
PROOF: Purpose = "proof"


@dataclass(frozen=True, kw_only=True, slots=True)
class WalkPlan:
    """num_commits: after the revision that was fast. spare: comparisons beside those of a walk without any doubt."""

    num_commits: int
    wrong_frac: float
    spare: int

    @property
    def most(self) -> int:
        """Comparisons that there can be; of one commit the ends are the proof."""
        return 1 if self.num_commits == 1 else 2 + math.ceil(math.log2(self.num_commits)) + self.spare

    @property
    def share(self) -> float:
        """Of each comparison: its false alarms, and its misses."""
        return self.wrong_frac / self.most


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One comparison. catch_ratio: what is looked for; None: what the settings say."""

    purpose: Purpose
    reference: int
    candidate: int
    catch_ratio: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """What became of a pair. outcome: None where the candidate could not be measured, for the reason given."""

    purpose: Purpose
    reference: int
    candidate: int
    outcome: Outcome | None
    catch_ratio: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """fast: the last revision known not to be slow; slow: the first known to be; catch_ratio: surely so slow.

    in_parts: whether some revision was found between both.
    """

    fast: int
    slow: int
    catch_ratio: float
    in_parts: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class WalkVerdict:
    """FAIL: culprit is the commit. INCONCLUSIVE: suspects may be guilty, one of them at least where is_proven.

    PASS and WARN: as the ends say, and there is nobody to suspect. suspects: numbers, first to last.
    """

    outcome: Outcome
    exit_code: int
    reason: str
    culprit: int | None = None
    suspects: tuple[int, ...] = ()
    is_proven: bool = False
    in_parts: bool = False


def decide_ends(blocks: Sequence[Block], limits: PairedLimits) -> PairedVerdict | None:
    """As `decide`, but for a FAIL of which most is still doubtful: that goes on to the next look."""
    verdict = decide(blocks, limits)
    if verdict is None or verdict.outcome != "FAIL" or len(blocks) >= limits.looks[-1]:
        return verdict
    finding = verdict.findings[0]
    return verdict if math.log(finding.low) >= 0.5 * math.log(finding.ratio) else None


def next_pair(plan: WalkPlan, tried: Sequence[Tried]) -> Pair | None:
    """None where nothing is left to be measured."""
    if not tried:
        return Pair(purpose=ENDS, reference=0, candidate=plan.num_commits, catch_ratio=None)
    if tried[0].outcome != "FAIL" or tried[-1].purpose == PROOF:
        return None
    found = range_of(plan, tried)
    is_affordable = sum(one.outcome is not None for one in tried) < plan.most - 1
    middle = _middle(found, [one.candidate for one in tried]) if is_affordable else None
    if middle is not None:
        return Pair(purpose=STEP, reference=0, candidate=middle, catch_ratio=found.catch_ratio)
    if (found.fast, found.slow) == (0, plan.num_commits):
        return None  # the ends have said it
    return Pair(purpose=PROOF, reference=found.fast, candidate=found.slow, catch_ratio=found.catch_ratio)


def range_of(plan: WalkPlan, tried: Sequence[Tried]) -> Range:
    """After ends that are FAIL."""
    found = Range(fast=0, slow=plan.num_commits, catch_ratio=_low(tried[0]))
    for one in tried:
        if one.purpose != STEP:
            continue
        if one.outcome == "PASS":
            found = replace(found, fast=one.candidate)
        elif one.outcome == "FAIL":
            found = replace(found, slow=one.candidate)
        elif one.outcome == "WARN":
            found = replace(found, slow=one.candidate, catch_ratio=_low(one), in_parts=True)
    return found


def conclude(plan: WalkPlan, tried: Sequence[Tried]) -> WalkVerdict:
    """What a walk says that has nothing left to measure. Raises ValueError where it has."""
    if next_pair(plan, tried) is not None:
        raise ValueError("the walk has not come to its end")
    ends, last = tried[0], tried[-1]
    everybody = tuple(range(1, plan.num_commits + 1))
    if ends.outcome == "PASS":
        return _verdict("PASS", "the last revision is not slower by what must be caught")
    if ends.outcome == "WARN":
        return _verdict("WARN", "the last revision is slower, but surely by less than what must be caught")
    if ends.outcome != "FAIL":
        return _verdict("INCONCLUSIVE", "whether the last revision is slower is not decided", everybody)
    found = range_of(plan, tried)
    inside = tuple(range(found.fast + 1, found.slow + 1))
    if last.purpose == PROOF and last.outcome == "PASS":
        reason = "no range is proven: the slowdown came in several commits, or a comparison went wrong"
        return _verdict("INCONCLUSIVE", reason, everybody)
    if last.purpose == PROOF and last.outcome not in ("FAIL", "WARN"):
        return _verdict("INCONCLUSIVE", "the proof is not decided", inside, in_parts=found.in_parts)
    in_parts = found.in_parts or last.outcome == "WARN"
    if len(inside) > 1:
        reason = f"one of {len(inside)} commits made it slower; which of them cannot be told"
        return _verdict("INCONCLUSIVE", reason, inside, is_proven=True, in_parts=in_parts)
    return replace(
        _verdict("FAIL", "this commit made it slower", inside, is_proven=True, in_parts=in_parts), culprit=inside[0]
    )


def _verdict(
    outcome: Outcome, reason: str, suspects: tuple[int, ...] = (), *, is_proven: bool = False, in_parts: bool = False
) -> WalkVerdict:
    return WalkVerdict(
        outcome=outcome, exit_code=EXIT_CODES[outcome], reason=reason, suspects=suspects, is_proven=is_proven,
        in_parts=in_parts,
    )  # fmt: skip


def _low(tried: Tried) -> float:
    """Of one that was found slower, so it is there."""
    if tried.low is None:
        raise ValueError(f"{tried.purpose} of {tried.candidate}: {tried.outcome} without its lower bound")
    return tried.low


def _middle(found: Range, seen: Sequence[int]) -> int | None:
    """The next revision to try inside of the range; None where every one has been.

    The middle; after each one there that told nothing, the next place of van der Corput's sequence (1/2, 1/4, 3/4,
    1/8, ..): neighbours of a revision that cannot be built mostly cannot either.
    """
    inside = range(found.fast + 1, found.slow)
    left = [index for index in inside if index not in seen]
    if not left:
        return None
    aim = found.fast + (found.slow - found.fast) * _van_der_corput(len(inside) - len(left) + 1)
    return min(left, key=lambda index: (abs(index - aim), index))


def _van_der_corput(number: int) -> float:
    """The binary digits of number >= 1 mirrored at the point."""
    return int(f"{number:b}"[::-1], 2) / 2 ** number.bit_length()
