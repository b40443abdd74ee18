"""The walk itself: a comparison after the other, each on the disk before the next one, until nothing is left to ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from baselines.paired.data import CANDIDATE
from baselines.paired.rule import PairedVerdict, decide
from baselines.paired.walk import ENDS, PROOF, Pair, Tried, WalkPlan, WalkVerdict, conclude, decide_ends, next_pair
from experiments.bisection.comparing import Revisions, Say
from experiments.bisection.ledger import Ledger, Step
from experiments.common.cli import one_line
from experiments.compare.leave import keep
from experiments.compare.processes import SideFailed
from metrics.verdict import EXIT_CODES
from reports.verdicts.paired import Comparison
from reports.verdicts.spoken.plain import is_bounded

SHORT = 9  # characters of a commit
# (the revisions, the folder of the comparison, progress) -> what came of it
Compare = Callable[[Revisions, Path, Say], Comparison]


@dataclass(slots=True, eq=False)
class Walk:
    """environment: of the last comparison that was made here, empty where this process made none."""

    ledger: Ledger
    plan: WalkPlan
    compare: Compare
    settings: Mapping[str, object]
    say: Say
    environment: Mapping[str, object] = field(default_factory=dict)

    def run(self) -> WalkVerdict:
        """Raises SideFailed where an end, or a revision that was measured before, cannot be measured; ConfigError."""
        while (pair := next_pair(self.plan, self.ledger.tried)) is not None:
            self.say(self._announced(pair))
            stopped = self._step(pair)
            if stopped is not None:
                return stopped
        return conclude(self.plan, self.ledger.tried)

    def _step(self, pair: Pair) -> WalkVerdict | None:
        """A verdict where the walk cannot go on; a comparison that is kept in its folder alone is made again later."""
        folder = self.ledger.new_folder(self._commit(pair.candidate))
        folder.mkdir(parents=True)
        started_s = time.monotonic()
        try:
            comparison = self.compare(self._revisions(pair), folder, self.say)
        except SideFailed as failure:
            if pair.purpose in (ENDS, PROOF) or failure.side != CANDIDATE:
                raise
            why = one_line(f"{failure.reason}; {failure.remedy}")
            wall_s = time.monotonic() - started_s
            tried = Tried(
                purpose=pair.purpose, reference=pair.reference, candidate=pair.candidate, outcome=None, reason=why,
                catch_ratio=pair.catch_ratio,
            )  # fmt: skip
            self._keep(Step(tried=tried, folder=folder.name, host_class=None, wall_s=wall_s))
            return None
        keep(comparison, folder, self.settings)
        self.environment = comparison.environment
        host_class = str(comparison.environment["host_class"])
        reason = self._invalid(comparison.verdict, host_class)
        if reason is not None:
            return WalkVerdict(outcome="INVALID_ENV", exit_code=EXIT_CODES["INVALID_ENV"], reason=reason)
        tried = tried_of(pair, comparison.verdict, comparison.limits.catch_ratio)
        self._keep(Step(tried=tried, folder=folder.name, host_class=host_class, wall_s=comparison.wall_s))
        return None

    def _invalid(self, verdict: PairedVerdict, host_class: str) -> str | None:
        """Bounds that were found on one machine say nothing of steps on another."""
        began_on = self.ledger.host_class
        if began_on is not None and began_on != host_class:
            return (
                f"the walk began on host class {began_on}, and this is {host_class}: go on there, or start another one"
            )
        return verdict.reason or "the machine was not still" if verdict.outcome == "INVALID_ENV" else None

    def _keep(self, step: Step) -> None:
        self.ledger = self.ledger.with_step(step)
        self.say(f"{step.tried.outcome or 'skipped'}: {self._shown(step.tried.candidate)}{_because(step.tried)}")

    def _revisions(self, pair: Pair) -> Revisions:
        return Revisions(
            reference=self._commit(pair.reference), candidate=self._commit(pair.candidate), share=self.plan.share,
            catch_ratio=pair.catch_ratio, rule=decide_ends if pair.purpose == ENDS else decide,
        )  # fmt: skip

    def _announced(self, pair: Pair) -> str:
        judged = sum(one.outcome is not None for one in self.ledger.tried) + 1
        against = f"{self._shown(pair.candidate)} against {self._commit(pair.reference)[:SHORT]}"
        return f"comparison {judged} of at most {self.plan.most} ({pair.purpose}): {against}"

    def _commit(self, index: int) -> str:
        return self.ledger.line.revisions[index].commit

    def _shown(self, index: int) -> str:
        revision = self.ledger.line.revisions[index]
        return f"{revision.commit[:SHORT]} {revision.subject}"


def tried_of(pair: Pair, verdict: PairedVerdict, catch_ratio: float) -> Tried:
    """Bounds that are out of all sense (too few blocks) are no numbers for a file."""
    finding = verdict.findings[0]
    has_bounds = is_bounded(finding.low, finding.high)
    return Tried(
        purpose=pair.purpose, reference=pair.reference, candidate=pair.candidate, outcome=verdict.outcome,
        ratio=finding.ratio, low=finding.low if has_bounds else None, high=finding.high if has_bounds else None,
        reason=verdict.reason, catch_ratio=catch_ratio,
    )  # fmt: skip


def _because(tried: Tried) -> str:
    if tried.outcome is None:
        return f": {tried.reason}"
    return "" if tried.ratio is None else f", x{tried.ratio:.3f}"
