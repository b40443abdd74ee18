"""A walk between two revisions for people and machines: bisect.json, and the sheet of its other forms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from baselines.paired.walk import ENDS, PROOF, WALK_RULE, Tried, WalkPlan, WalkVerdict
from reports.verdicts.junit import KINDS, Case
from reports.verdicts.sheet import Line, Sheet, write_verdict

WALKED_SCHEMA_VERSION = 1
CONTENT = "bisect.json"
SHORT = 9
SHOWN_SUSPECTS = 20
SKIPPED = "SKIPPED"  # a revision that could not be measured
PURPOSES: Mapping[str, str] = {ENDS: "both ends", PROOF: "proof"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Walked:
    """revisions: (commit, subject), 0 is the one that was fast. folders: of the comparisons, as tried. num_commits:
    between the ends, of which those that change nothing that is measured (`of`) are left out. todo: commands by what
    each is for."""

    verdict: WalkVerdict
    plan: WalkPlan
    revisions: Sequence[tuple[str, str]]
    tried: Sequence[Tried]
    folders: Sequence[str]
    num_commits: int
    of: Sequence[str]
    environment: Mapping[str, object]
    wall_s: float
    todo: Sequence[tuple[str, str]] = ()

    def shown(self, index: int) -> str:
        commit, subject = self.revisions[index]
        return f"{commit[:SHORT]} {subject}"


def walked_content(walked: Walked, created: str) -> dict[str, Any]:
    """bisect.json. Numbers of revisions count from 0, the one that was fast."""
    return {
        "schema_version": WALKED_SCHEMA_VERSION, "kind": "bisect", "created": created, "rule": WALK_RULE,
        **asdict(walked.verdict), "wrong_frac": walked.plan.wrong_frac, "share_frac": walked.plan.share,
        "most_comparisons": walked.plan.most,
        "revisions": [{"commit": commit, "subject": subject} for commit, subject in walked.revisions],
        "tried": [{**asdict(one), "folder": name} for one, name in zip(walked.tried, walked.folders, strict=True)],
        "environment": dict(walked.environment), "wall_s": walked.wall_s,
    }  # fmt: skip


def write_walked(walked: Walked, created: str, out: Path) -> Sheet:
    """The files, and the sheet that a terminal gets. Raises OSError."""
    sheet = walked_sheet(walked)
    write_verdict(sheet, walked_content(walked, created), out, CONTENT)
    return sheet


def walked_sheet(walked: Walked) -> Sheet:
    verdict = walked.verdict
    title, last = _title(walked), len(walked.revisions) - 1
    text = f"{verdict.reason}: {title}"
    return Sheet(
        outcome=verdict.outcome, title=title, said=verdict.reason, sentences=tuple(_sentences(walked)),
        evidence=_evidence(walked), columns=("revision", "compared with", "looks for", "ratio (bounds)"),
        lines=tuple(_line(walked, one) for one in walked.tried), todo=tuple(walked.todo), suite="bisect",
        label=f"{walked.revisions[0][0][:SHORT]}..{walked.revisions[last][0][:SHORT]}",
        cases=(Case("walk", verdict.outcome, text, kind=KINDS[verdict.outcome]),),
        properties={"host_class": str(walked.environment.get("host_class") or "")},
    )  # fmt: skip


def _title(walked: Walked) -> str:
    if walked.verdict.culprit is not None:
        return walked.shown(walked.verdict.culprit)
    return f"{walked.revisions[0][0][:SHORT]} to {walked.revisions[-1][0][:SHORT]}"


def _sentences(walked: Walked) -> list[str]:
    verdict, suspects = walked.verdict, walked.verdict.suspects
    said = []
    if verdict.culprit is not None:
        said.append(_by_how_much(walked))
    elif suspects:
        named = ", ".join(walked.shown(index) for index in suspects[:SHOWN_SUSPECTS])
        more = f", and {len(suspects) - SHOWN_SUSPECTS} more" if len(suspects) > SHOWN_SUSPECTS else ""
        said.append(f"Suspects, oldest first: {named}{more}.")
    if verdict.in_parts:
        said.append("It is not all of the slowdown: other commits made it slower as well.")
    skipped = sum(one.outcome is None for one in walked.tried)
    if skipped:
        said.append(f"{skipped} revision(s) could not be measured and were left out; each is named with its reason.")
    return said


def _by_how_much(walked: Walked) -> str:
    """By the last comparison: the proof, or the ends where they were neighbours."""
    last, ends = walked.tried[-1], walked.tried[0]
    of = "" if last.purpose == ENDS else f"; from end to end it is {_ratio(ends)}"
    return f"It takes {_ratio(last)} of the time of the revision before it{of}."


def _line(walked: Walked, tried: Tried) -> Line:
    purpose = PURPOSES.get(tried.purpose)
    name = walked.shown(tried.candidate) if purpose is None else f"{walked.shown(tried.candidate)} ({purpose})"
    against = walked.revisions[tried.reference][0][:SHORT]
    return Line(
        name=name, outcome=tried.outcome or SKIPPED, change=f"{_ratio(tried)} of {against}",
        cells=(against, _looked_for(tried), _ratio(tried)), explanation=tried.reason or "",
    )  # fmt: skip


def _looked_for(tried: Tried) -> str:
    return "-" if tried.catch_ratio is None else f"x{tried.catch_ratio:.3f}"


def _ratio(tried: Tried) -> str:
    if tried.ratio is None:
        return "-"
    if tried.low is None or tried.high is None:
        return f"x{tried.ratio:.3f} (no bounds yet)"
    return f"x{tried.ratio:.3f} ({tried.low:.3f} to {tried.high:.3f})"


def _evidence(walked: Walked) -> str:
    plan, judged = walked.plan, sum(one.outcome is not None for one in walked.tried)
    counted = f"{plan.num_commits} commits"
    if walked.of and walked.num_commits != plan.num_commits:
        counted = f"{plan.num_commits} of {walked.num_commits} commits, those that change {' or '.join(walked.of)}"
    return (
        f"{counted}; {judged} comparisons of at most {plan.most}, {walked.wall_s:.0f} s; budget: where one commit made "
        f"it slower, a walk takes a wrong turn in at most {_percent(plan.wrong_frac)} %, and in at most "
        f"{_percent(plan.share)} % an innocent commit is named (rule {WALK_RULE})"
    )


def _percent(frac: float) -> str:
    """Two digits, rounded up: a budget is not made to look smaller."""
    percent = 100 * frac
    digits = 1 - math.floor(math.log10(percent))
    return f"{math.ceil(round(percent * 10**digits, 6)) / 10**digits:g}"
