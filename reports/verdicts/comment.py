"""A comment on a pull request: a sentence a measurement, a light, a table, how it was measured. Standard library only.

The light goes with words, never alone. A failure of any part makes the whole red; nothing that is not known makes it
green: a measurement that cannot tell is white, and the check is neutral.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metrics.record import RecordError
from metrics.typed import load_json
from metrics.verdict import EXIT_CODES, EXIT_RUN_FAILED
from reports.commands import typed
from reports.verdicts.spoken.pairs import spoken_pairs
from reports.verdicts.spoken.parts import Said, Spoken
from reports.verdicts.spoken.plain import code
from reports.verdicts.spoken.runs import spoken_gate, spoken_quality
from reports.verdicts.spoken.walk import spoken_walk

MARK = "<!-- f5bench -->"  # by which the comment is found again; nobody sees it
MAX_CHARS = 60_000  # GitHub takes 65,536
VERDICT, WALK = "verdict.json", "bisect.json"
Conclusion = Literal["success", "failure", "neutral"]
# The first that is found decides: what certainly went wrong before what nobody knows
ORDER: tuple[Said, ...] = ("FAILED", "NO_BASELINE", "FAIL", "INVALID_ENV", "INCONCLUSIVE", "WARN", "PASS")
LIGHTS: Mapping[Said, str] = {
    "PASS": "🟢", "WARN": "🟡", "FAIL": "🔴", "INCONCLUSIVE": "⚪", "INVALID_ENV": "⚪",
    "NO_BASELINE": "🔴", "FAILED": "🔴",
}  # fmt: skip
CONCLUSIONS: Mapping[Said, Conclusion] = {
    "PASS": "success", "WARN": "success", "FAIL": "failure", "INCONCLUSIVE": "neutral", "INVALID_ENV": "neutral",
    "NO_BASELINE": "failure", "FAILED": "failure",
}  # fmt: skip
# Where nothing was left but how the measurement ended
ENDED: Mapping[int, tuple[Said, str]] = {
    2: ("FAILED", "no figures: a setting of the measurement is wrong"),
    11: ("INCONCLUSIVE", "cannot tell"),
    12: ("INVALID_ENV", "no verdict: the machine was not fit to measure on"),
    13: ("NO_BASELINE", "no verdict: there is no stored baseline that could be used"),
    130: ("FAILED", "no figures: the measurement was stopped"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """All verdicts of one name. link: of everything that was kept, None where nothing was."""

    name: str
    spoken: tuple[Spoken, ...]
    link: str | None = None

    @property
    def outcome(self) -> Said:
        said = {one.outcome for one in self.spoken}
        return next(word for word in ORDER if word in said)

    @property
    def conclusion(self) -> Conclusion:
        return CONCLUSIONS[self.outcome]

    @property
    def exit_code(self) -> int:
        return EXIT_RUN_FAILED if self.outcome == "FAILED" else EXIT_CODES[self.outcome]

    @property
    def ratio(self) -> tuple[float, float, float] | None:
        return next((one.ratio for one in self.spoken if one.ratio is not None), None)

    @property
    def sentence(self) -> str:
        """12 % faster (6 to 17 %), quality not worse (30 sentences), memory +0.4 %."""
        speeds = [one.speed for one in self.spoken if one.speed]
        # A judge's word on quality says more than a comparison's own
        judged = [one.quality for one in reversed(self.spoken) if one.quality]
        memory = [one.memory for one in self.spoken if one.memory]
        is_measured = any(one.is_of_quality and (one.ratio is not None or one.rows) for one in self.spoken)
        quality = judged[:1] or (["quality not judged"] if is_measured else [])
        return ", ".join([*speeds, *quality, *memory[:1]]) or "nothing was measured"


def read_measurement(name: str, folder: Path, link: str | None, ended: int | None = None) -> Measurement:
    """Every verdict.json of the folder and the folders in it; of a walk its bisect.json instead, whose comparisons lie
    below it. ended: the exit code of what measured, which counts where no verdict was left or where it is worse than
    all of them. Raises RecordError."""
    walks = [path for path in (folder / WALK, *sorted(folder.glob(f"*/{WALK}"))) if path.is_file()]
    verdicts = (path for path in (folder / VERDICT, *sorted(folder.glob(f"*/{VERDICT}"))) if path.is_file())
    paths = [*walks, *(path for path in verdicts if not (folder / WALK).is_file())]
    spoken = sorted((read_spoken(path) for path in paths), key=lambda one: one.speed is None)
    _refuse_mixed(folder, paths, spoken)
    if not spoken and ended is None:
        raise RecordError(f"{folder}: holds no {VERDICT}; give what a comparison or a gate left")
    if ended is not None and ended != 0:
        said = ENDED.get(ended) or ("FAIL" if ended == 10 else "FAILED", "no figures: the measurement did not end")
        if _rank(said[0]) > max((_rank(one.outcome) for one in spoken), default=-1):
            spoken.append(Spoken(outcome=said[0], speed=said[1]))
    if not spoken:
        spoken.append(Spoken(outcome="FAILED", speed="no figures: the measurement left no verdict"))
    return Measurement(name=name, spoken=tuple(spoken), link=link)


def _refuse_mixed(folder: Path, paths: Sequence[Path], spoken: Sequence[Spoken]) -> None:
    """One sentence takes its time from one verdict and its quality from another of the same change: of two verdicts of
    a kind it would mix the figures. Raises RecordError with the command that keeps each its own."""
    for what, number in (("speed", sum(one.speed is not None for one in spoken)),
                         ("quality", sum(one.speed is None for one in spoken))):  # fmt: skip
        if number > 1:
            each = typed("reports.comment", *(path.parent for path in paths))
            raise RecordError(
                f"{folder}: holds {number} verdicts of {what}, and one sentence would mix their figures; "
                f"give each its own: `{each}`"
            )


def _rank(outcome: Said) -> int:
    return len(ORDER) - ORDER.index(outcome)


def read_spoken(path: Path) -> Spoken:
    """Raises RecordError for what is no verdict of ours, or not whole."""
    try:
        content = load_json(path)
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}; give a folder with a {VERDICT}") from error
    except ValueError as error:
        raise RecordError(f"{path}: is not JSON ({error}); measure again") from error
    if not isinstance(content, Mapping):
        raise RecordError(f"{path}: holds no verdict; measure again")
    try:
        return spoken(content)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, LookupError) as error:
        raise RecordError(f"{path}: is no verdict that can be shown ({error}); measure again") from error


def spoken(content: Mapping[str, object]) -> Spoken:
    """By the kind that the file names; a stored baseline's names none. Raises ValueError or LookupError."""
    kind = content.get("kind")
    if kind == "same-run":
        return spoken_pairs(content)
    if kind == "quality":
        return spoken_quality(content)
    if kind == "bisect":
        return spoken_walk(content)
    if kind is None and "baseline" in content and "findings" in content:
        return spoken_gate(content)
    raise ValueError(f"kind {kind!r} is none of same-run, quality, bisect, or a stored baseline's")


def comment_markdown(measurements: Sequence[Measurement]) -> str:
    """The whole comment; with several measurements each has its name before its sentence."""
    parts = [_section(one, is_named=len(measurements) > 1) for one in measurements]
    body = "\n\n".join([MARK, *parts])
    if len(body) > MAX_CHARS:
        body = f"{MARK}\n\n" + "\n\n".join(f"### {heading(one, is_named=True)}" for one in measurements)
    return body[:MAX_CHARS] + "\n"


def heading(one: Measurement, *, is_named: bool) -> str:
    name = f"{one.name}: " if is_named else ""
    sentence = one.sentence if is_named else one.sentence[:1].upper() + one.sentence[1:]
    return f"{LIGHTS[one.outcome]} {name}{sentence}"


def _section(one: Measurement, *, is_named: bool) -> str:
    lines = [f"### {heading(one, is_named=is_named)}", "", *body_lines(one)]
    if one.link is not None:
        lines += [f"[Everything that was measured]({one.link})", ""]
    if details := detail_lines(one):
        lines += ["<details><summary>How this was measured</summary>", "", *details, "", "</details>", ""]
    return "\n".join(lines).rstrip()


def body_lines(one: Measurement) -> list[str]:
    """The table and what follows from it."""
    rows = [row for spoken in one.spoken for row in spoken.rows]
    notes = [note for spoken in one.spoken for note in spoken.notes]
    lines = []
    if rows:
        named = {spoken.sides for spoken in one.spoken if spoken.rows}
        before, after = named.pop() if len(named) == 1 else ("before", "after")
        lines += [f"| | {before} | {after} | change | |", "|---|---:|---:|---|---|"]
        lines += [f"| {row.what} | {row.before} | {row.after} | {row.change} | {row.said} |" for row in rows]
        lines.append("")
    return lines + [line for note in notes for line in (note, "")]


def detail_lines(one: Measurement) -> list[str]:
    """How it was measured, as a list."""
    lines = [f"- {line}" for spoken in one.spoken for line in spoken.details]
    if lines and one.ratio is not None:
        lines.append(
            '- "12 % faster" means that a call takes 12 % less time, "12 % slower" that it takes 12 % more. '
            "Times are compared pair by pair, or after division by the machine's own speed: the change need not be the "
            "quotient of the two medians."
        )
    return lines


def outputs(one: Measurement) -> dict[str, str]:
    """What a workflow may read of a measurement; an empty text where there is no figure."""
    ratio, low, high = ("", "", "") if one.ratio is None else (f"{value:.4f}" for value in one.ratio)
    return {
        "verdict": one.outcome, "conclusion": one.conclusion, "exit-code": str(one.exit_code), "ratio": ratio,
        "ratio-low": low, "ratio-high": high, "sentence": one.sentence.replace("**", ""),
    }  # fmt: skip


def failed_measurement(name: str, reason: str, link: str | None) -> Measurement:
    """What cannot be read is red, with the reason; the others are still shown."""
    said = Spoken(
        outcome="FAILED", speed="no figures: what was measured cannot be read", notes=(f"Why: {code(reason)}.",)
    )
    return Measurement(name=name, spoken=(said,), link=link)
