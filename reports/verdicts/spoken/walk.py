"""The words of a walk to the commit that made it slower: `experiments.bisection`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from metrics.verdict import Outcome
from reports.verdicts.spoken.parts import Spoken, interval, listed, machine_line, outcome_of, pick
from reports.verdicts.spoken.plain import code, counted, is_bounded, percent, speed

SHORT = 9
SHOWN_SUSPECTS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Revision:
    commit: str
    subject: str

    @property
    def shown(self) -> str:
        return f"{code(self.commit[:SHORT])} ({code(self.subject)})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A comparison; without an outcome the candidate could not be measured."""

    purpose: Literal["ends", "step", "proof"]
    reference: int
    candidate: int
    outcome: Outcome | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    @property
    def bounds(self) -> tuple[float, float, float] | None:
        if self.ratio is None or self.low is None or self.high is None or not is_bounded(self.low, self.high):
            return None
        return self.ratio, self.low, self.high


@dataclass(frozen=True, kw_only=True, slots=True)
class Walked:
    """What is read of bisect.json beside its word and its machine."""

    suspects: tuple[int, ...]
    share_frac: float
    wrong_frac: float
    revisions: tuple[Revision, ...] = ()
    tried: tuple[Step, ...] = ()
    culprit: int | None = None
    in_parts: bool = False
    reason: str | None = None


def spoken_walk(content: Mapping[str, object]) -> Spoken:
    """Raises ValueError or LookupError."""
    outcome, lists = outcome_of(content), ("revisions", "tried")
    walked = replace(
        pick(Walked, {key: value for key, value in content.items() if key not in lists}),
        revisions=tuple(pick(Revision, one) for one in listed(content, "revisions")),
        tried=tuple(pick(Step, one) for one in listed(content, "tried")),
    )
    said = _said(outcome, walked)
    decisive = walked.tried[-1 if walked.culprit is not None else 0].bounds if walked.tried else None
    return Spoken(
        outcome=outcome, speed=said, ratio=None if outcome == "INVALID_ENV" else decisive, is_of_quality=False,
        notes=_notes(outcome, walked), details=(*_details(walked), *machine_line(content)),
    )  # fmt: skip


def _said(outcome: Outcome, walked: Walked) -> str:
    """Which commit, by how much, how sure."""
    if outcome == "INVALID_ENV":
        return "no verdict: the machine was not fit to measure on"
    if walked.culprit is not None:
        bounds = walked.tried[-1].bounds
        much = "it slower" if bounds is None else f"it {speed(*bounds)}"
        sure = f"an innocent commit is named in at most {percent(walked.share_frac)} % of such walks"
        return f"commit {walked.revisions[walked.culprit].shown} made {much}; {sure}"
    ends = walked.tried[0].bounds if walked.tried else None
    whole = "" if ends is None else f": from first to last it is {interval(*ends)}"
    if outcome in ("PASS", "WARN"):
        return f"no commit made it slower by what counts{whole}"
    if len(walked.suspects) == len(walked.revisions) - 1:
        return f"cannot tell whether any of {counted(len(walked.suspects), 'commit')} made it slower{whole}"
    return f"cannot tell which of {counted(len(walked.suspects), 'commit')} made it slower{whole}"


def _notes(outcome: Outcome, walked: Walked) -> tuple[str, ...]:
    notes = []
    if walked.culprit is not None and walked.in_parts:
        notes.append("It is not all of the slowdown: other commits made it slower as well.")
    if walked.culprit is None and outcome not in ("PASS", "WARN"):
        if walked.reason:
            notes.append(f"Why: {code(walked.reason)}.")
        named = [walked.revisions[index].shown for index in walked.suspects]
        more = f" and {len(named) - SHOWN_SUSPECTS} more" if len(named) > SHOWN_SUSPECTS else ""
        if named:
            notes.append(f"Suspects, oldest first: {', '.join(named[:SHOWN_SUSPECTS])}{more}.")
    return tuple(notes)


def _details(walked: Walked) -> Sequence[str]:
    lines = [_step(walked, step) for step in walked.tried]
    judged = sum(step.outcome is not None for step in walked.tried)
    lines.append(
        f"{counted(len(walked.revisions) - 1, 'commit')}, {counted(judged, 'comparison')}. Where one commit made it "
        f"slower, at most {percent(walked.wrong_frac)} % of such walks take a wrong turn."
    )
    return lines


def _step(walked: Walked, step: Step) -> str:
    found = f"{walked.revisions[step.candidate].shown} with {code(walked.revisions[step.reference].commit[:SHORT])}"
    if step.outcome is None:
        return f"{found}: could not be measured: {code(step.reason or '')}."
    return f"{found}: {'too little was measured' if step.bounds is None else interval(*step.bounds)}."
