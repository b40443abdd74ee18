"""The verdict of a same-run comparison, as a pure function of the blocks' times.

Rule `paired-blocks-2`. A block's value is the median of ln(candidate / reference) over its turns; blocks of fresh
processes are the independent evidence, calls are not. There are `looks` (after 4, 8 and 16 blocks). At each look
one-sided t bounds of the mean over blocks decide: FAIL when the lower bound is above ignore_ratio, PASS when the upper
bound is below catch_ratio, WARN when both are so, else go on; after the last look INCONCLUSIVE.

The error budget is fixed before: false_alarm_frac (unchanged code fails) and miss_frac (a change of catch_ratio passes)
are each divided by the number of looks and of gated metrics (Bonferroni), so they hold for the whole comparison. The
standard error never goes under se_floor_frac: four blocks may agree by luck.

Rule `paired-quick-2` is for machines whose processes are alike: one set of processes, looks after 12, 24, 48, 96 and
192 turns, order-statistic bounds of the median turn. It may decide only where the host class is known to be quiet.

The rules numbered 1 decided alike, but on timed calls that sometimes followed a call of their own side and then found
their weights in the cache (experiments.compare.bench); error rates measured under them are not counted any more.

A sentinel (the unchanged reference as a third side) is judged first, two-sided: where it differs from the reference,
the machine or the method is at fault and the outcome is INVALID_ENV, whatever the candidate did.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from baselines.paired.data import CANDIDATE, METRICS, REFERENCE, SENTINEL, Block
from baselines.refused import SettingRefused
from metrics.paired import Bounds, Errors, blocks_to_settle, sign_bounds, t_bounds, t_quantile
from metrics.verdict import EXIT_CODES, Outcome, worst

Mode = Literal["blocks", "quick"]
RULES: Mapping[str, str] = {"blocks": "paired-blocks-2", "quick": "paired-quick-2"}


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedLimits:
    """What conf/compare sets for the rule; looks count blocks, or turns in quick mode."""

    mode: Mode = "blocks"
    ignore_ratio: float = 1.00
    catch_ratio: float = 1.05
    false_alarm_frac: float = 0.005
    miss_frac: float = 0.005
    looks: tuple[int, ...] = (4, 8, 16)
    se_floor_frac: float = 0.0015
    metrics: tuple[str, ...] = ("wall_time",)

    def __post_init__(self) -> None:
        for name in ("ignore_ratio", "catch_ratio", "false_alarm_frac", "miss_frac"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
                raise SettingRefused(name, value, "must be a number above 0", "see conf/compare/blocks.yaml")
        if self.ignore_ratio >= self.catch_ratio:
            raise SettingRefused(
                "catch_ratio", self.catch_ratio, f"must be above ignore_ratio={self.ignore_ratio}", "raise it"
            )
        floor = self.se_floor_frac
        if isinstance(floor, bool) or not isinstance(floor, (int, float)) or not 0 <= floor < 1:
            raise SettingRefused("se_floor_frac", floor, "must be a share from 0, below 1", "0.0015 is usual")
        if max(self.false_alarm_frac, self.miss_frac) >= 0.5:
            raise SettingRefused(
                "false_alarm_frac", self.false_alarm_frac, "must be below 0.5, as miss_frac", "0.005 is usual"
            )
        if not self.looks or list(self.looks) != sorted(set(self.looks)) or self.looks[0] < 2:
            raise SettingRefused("looks", list(self.looks), "must be growing whole numbers from 2", "use [4,8,16]")
        for metric in self.metrics:
            if metric not in METRICS:
                raise SettingRefused("metrics", metric, "not gated here", f"choose from {', '.join(METRICS)}")
        if not self.metrics or len(set(self.metrics)) < len(self.metrics):
            raise SettingRefused("metrics", list(self.metrics), "each once, one at least", "use [wall_time]")

    @property
    def rule(self) -> str:
        return RULES[self.mode]

    @property
    def errors(self) -> Errors:
        """Of one look at one metric."""
        share = len(self.looks) * len(self.metrics)
        return Errors(self.false_alarm_frac / share, self.miss_frac / share)

    @property
    def logs(self) -> tuple[float, float]:
        return math.log(self.ignore_ratio), math.log(self.catch_ratio)


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedFinding:
    """One gated metric: ratio candidate / reference, the one-sided bounds that decide, and the spread of one block.

    needed: blocks (quick: turns) in all that would settle it, were mean and spread to stay; None: out of reach, or
    settled. detectable: the smallest slowdown that this spread lets the last look find in 95 % of comparisons, None
    in quick mode. median_s: seconds of each side's median call.
    """

    metric: str
    outcome: Outcome
    ratio: float
    low: float
    high: float
    sd_frac: float
    needed: int | None
    detectable: float | None
    median_s: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedVerdict:
    """The worst finding decides; sentinel: the finding on the unchanged third side, None without one."""

    rule: str
    outcome: Outcome
    exit_code: int
    findings: tuple[PairedFinding, ...]
    sentinel: PairedFinding | None
    num_blocks: int
    num_turns: int
    false_alarm_frac: float
    miss_frac: float
    reason: str | None = None


def decide(blocks: Sequence[Block], limits: PairedLimits) -> PairedVerdict | None:
    """The verdict at this number of blocks, None where the comparison has to go on (no look, or nothing settled)."""
    done = len(blocks) if limits.mode == "blocks" else sum(len(block.turns) for block in blocks)
    if done not in limits.looks:
        return None
    verdict = judge(blocks, limits)
    return None if verdict.outcome == "INCONCLUSIVE" and done < limits.looks[-1] else verdict


def replay(blocks: Iterable[Block], limits: PairedLimits) -> PairedVerdict:
    """The verdict that a comparison which met these blocks would have come to. Raises ValueError for too few."""
    seen: list[Block] = []
    for block in blocks:
        seen.append(block)
        verdict = decide(seen, limits)
        if verdict is not None:
            return verdict
    raise ValueError(f"{len(seen)} blocks end before the last look at {limits.looks[-1]}")


def judge(blocks: Sequence[Block], limits: PairedLimits) -> PairedVerdict:
    """Judge what was measured, wherever it stopped: INCONCLUSIVE where nothing is settled yet."""
    findings = tuple(_finding(blocks, metric, limits) for metric in limits.metrics)
    sentinel = None
    if any(SENTINEL in turn.wall_s for block in blocks for turn in block.turns):
        sentinel = _sentinel(blocks, limits)
    outcomes = [f.outcome for f in findings]
    if sentinel is not None:
        outcomes.append(sentinel.outcome)
    outcome = worst(outcomes)
    return PairedVerdict(
        rule=limits.rule, outcome=outcome, exit_code=EXIT_CODES[outcome], findings=findings, sentinel=sentinel,
        num_blocks=len(blocks), num_turns=sum(len(block.turns) for block in blocks),
        false_alarm_frac=limits.false_alarm_frac, miss_frac=limits.miss_frac,
    )  # fmt: skip


def _bounds(blocks: Sequence[Block], metric: str, over: str, limits: PairedLimits) -> Bounds | None:
    """None where there is too little for any bound."""
    logs = [block.log_ratios(metric, over, REFERENCE) for block in blocks]
    if limits.mode == "quick":
        return sign_bounds([value for block in logs for value in block], limits.errors)
    if len(logs) < 2:
        return None
    return t_bounds([statistics.median(block) for block in logs], limits.errors, limits.se_floor_frac)


def _finding(blocks: Sequence[Block], metric: str, limits: PairedLimits) -> PairedFinding:
    bounds = _bounds(blocks, metric, CANDIDATE, limits)
    if bounds is None:
        return _undecided(blocks, metric, CANDIDATE, limits)
    ignore, catch = limits.logs
    slower, small = bounds.low > ignore, bounds.high < catch
    outcome: Outcome = "WARN" if slower and small else "FAIL" if slower else "PASS" if small else "INCONCLUSIVE"
    return _content(blocks, metric, CANDIDATE, bounds, outcome, limits)


def _sentinel(blocks: Sequence[Block], limits: PairedLimits) -> PairedFinding:
    """PASS where the unchanged engine is not told from itself in either direction, else INVALID_ENV."""
    metric = limits.metrics[0]
    bounds = _bounds(blocks, metric, SENTINEL, limits)
    if bounds is None:
        return _undecided(blocks, metric, SENTINEL, limits)
    outcome: Outcome = "PASS" if bounds.low <= 0 <= bounds.high else "INVALID_ENV"
    return _content(blocks, metric, SENTINEL, bounds, outcome, limits)


def _content(
    blocks: Sequence[Block], metric: str, side: str, bounds: Bounds, outcome: Outcome, limits: PairedLimits
) -> PairedFinding:
    needed = None
    if outcome == "INCONCLUSIVE":
        done = len(blocks) if limits.mode == "blocks" else sum(len(block.turns) for block in blocks)
        needed = blocks_to_settle(bounds, limits.logs, limits.errors, done)
    return PairedFinding(
        metric=metric, outcome=outcome, ratio=math.exp(bounds.log_ratio), low=_exp(bounds.low), high=_exp(bounds.high),
        sd_frac=bounds.sd, needed=needed, detectable=None if limits.mode == "quick" else _detectable(bounds, limits),
        median_s=_medians(blocks, metric, side),
    )  # fmt: skip


def _detectable(bounds: Bounds, limits: PairedLimits) -> float:
    """A ratio; power 95 %, by quantiles of t (the non-central t differs little at sixteen blocks)."""
    num = limits.looks[-1]
    se = max(bounds.sd / math.sqrt(num), limits.se_floor_frac)
    return _exp(limits.logs[0] + (t_quantile(num, limits.errors.low) + t_quantile(num, 0.05)) * se)


def _undecided(blocks: Sequence[Block], metric: str, side: str, limits: PairedLimits) -> PairedFinding:
    """Too little was measured for a bound: the ratio is known, its error is not."""
    logs = [value for block in blocks for value in block.log_ratios(metric, side, REFERENCE)]
    ratio = math.exp(math.fsum(logs) / len(logs)) if logs else 1.0
    return PairedFinding(
        metric=metric, outcome="INCONCLUSIVE", ratio=ratio, low=0.0, high=_exp(math.inf), sd_frac=0.0,
        needed=limits.looks[0], detectable=None, median_s=_medians(blocks, metric, side) if logs else {},
    )  # fmt: skip


def _medians(blocks: Sequence[Block], metric: str, side: str) -> dict[str, float]:
    medians = {}
    for name in (REFERENCE, side):
        times = sorted(turn.seconds(metric, name) for block in blocks for turn in block.turns)
        middle = len(times) // 2
        medians[name] = times[middle] if len(times) % 2 else (times[middle - 1] + times[middle]) / 2
    return medians


def _exp(log: float) -> float:
    """exp, bounded: with two wild blocks a bound can lie beyond what a float, or JSON, holds."""
    return math.exp(min(log, 700.0))
