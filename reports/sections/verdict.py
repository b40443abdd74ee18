"""The verdict in one sentence: the fastest variant that lost nothing, and what the faster ones lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.data.judged import Judged, judged_rows
from reports.data.quality import LOG_MEL
from reports.data.ratios import Times, times_of
from reports.data.table import Row, Table, is_void
from reports.sections.scores import score_text
from reports.words import listed, plural, significant

BADGES: Mapping[str, str] = {
    "base": "the base",
    "reference": "the reference",
    "kept": "lost nothing",
    "unheard": "words not judged",
    "undecided": "not decided",
    "unjudged": "not judged",
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Named:
    """text: the sentence, with its full stop. row: the variant that it names first, None for none. best: the same where
    nothing speaks against it, None where it lost something, may have, or has random weights."""

    text: str
    row: Row | None = None
    best: Row | None = None


def badge_of(judged: Judged) -> str:
    """lost nothing, loses words, not judged: what stands beside a speed."""
    return " and ".join(judged.losses) if judged.kind == "lost" else BADGES[judged.kind]


def times_text(times: Times) -> str:
    """16.1 (14.2 to 18.3)."""
    if times.low is None or times.high is None:
        return significant(times.ratio)
    return f"{significant(times.ratio)} ({significant(times.low)} to {significant(times.high)})"


def verdict_of(table: Table) -> Named:
    """The one rule for "the fastest that lost nothing", of every report and of MLflow. Raises RecordError for a damaged
    verdict of the quality gate."""
    rows = [row for row in table.timed_rows if row.validity == "valid"] or table.timed_rows
    if not rows:
        return Named(text="No variant has a speed to show.")
    rows = [row for row in rows if not is_void(row)]
    if not rows:
        what = "Its speed does not count" if len(table.rows) == 1 else "No variant is named the fastest"
        return Named(text=f"{what}: the machine was not in order, see below.")
    judged = judged_rows(table)
    by_speed = sorted(rows, key=_rtf)
    kept = next((row for row in by_speed if judged[row.label].kind == "kept" and _is_faster(row, table)), None)
    if kept is None:
        return _without_winner(table, by_speed, judged)
    faster = by_speed[: by_speed.index(kept)]
    parts = [f"Fastest that lost nothing: {_named(kept, table)}", *_but(faster, judged)]
    return Named(text="; ".join(parts) + ".", row=kept, best=kept)


def _without_winner(table: Table, by_speed: Sequence[Row], judged: Mapping[str, Judged]) -> Named:
    """No variant is recommended; the fastest is named with what speaks against it."""
    asked = [row for row in by_speed if judged[row.label].kind not in ("base", "reference")]
    fastest = by_speed[0]
    unrefuted = fastest if fastest.validity == "valid" else None
    if len(table.rows) == 1:
        text = f"Quality not judged: there is nothing to compare {fastest.label} with."
        return Named(text=text, row=fastest, best=unrefuted)
    kinds = {judged[row.label].kind for row in asked if _is_faster(row, table) or times_of(row, table) is None}
    if asked and not kinds:
        lead = "No variant is faster than the base"
    elif not kinds - {"unjudged"}:
        lead = "Quality not judged" if asked else "Nothing to choose from"
    elif kinds == {"lost"}:
        lead = "Every faster variant loses something"
    else:
        lead = "No faster variant is known to have lost nothing"
    doubt = _doubt(fastest, judged[fastest.label]) + _fidelity(fastest, asked, table, judged[fastest.label])
    best = None if kinds - {"unjudged"} else unrefuted
    return Named(text=f"{lead}. Fastest: {_named(fastest, table)}{doubt}.", row=fastest, best=best)


def _but(faster: Sequence[Row], judged: Mapping[str, Judged]) -> list[str]:
    """faster, but loses words: Z; faster, but not judged: Y."""
    groups: dict[str, list[str]] = {}
    for row in faster:
        found = judged[row.label]
        groups.setdefault(badge_of(found) if found.kind == "lost" else _open(found), []).append(row.label)
    return [f"faster, but {what}: {listed(labels)}" for what, labels in groups.items()]


def _open(judged: Judged) -> str:
    words = {"unheard": "words not judged", "undecided": "quality not decided"}
    return words.get(judged.kind, "quality not judged")


def _doubt(row: Row, judged: Judged) -> str:
    if judged.kind == "lost":
        return f", but it {badge_of(judged)}"
    if judged.kind == "undecided":
        record = row.cell.record
        return f", but {plural(len(record.utterances) if record else 0, 'sentence')} do not decide its quality"
    return ", but its words were not judged" if judged.kind == "unheard" else ""


def _fidelity(fastest: Row, asked: Sequence[Row], table: Table, judged: Judged) -> str:
    """Where no rule refutes it: that the fastest is the farthest from the reference, and which is the closest."""
    errors = {row.label: mean for row in asked if (mean := _log_mel(row)) is not None}
    if judged.kind == "lost" or len(errors) < 2 or errors.get(fastest.label) != max(errors.values()):
        return ""
    closest = min(asked, key=lambda row: errors.get(row.label, float("inf")))
    if closest is fastest:
        return ""
    if judged.kind != "unjudged":
        return f", and of {plural(len(errors), 'variant')} it is the farthest from the reference"
    far, near = (score_text(errors[row.label], LOG_MEL) for row in (fastest, closest))
    return (
        f", but of {plural(len(errors), 'variant')} it is the farthest from the reference (log-mel error {far} "
        f"nats); closest: {_named(closest, table, short=True)} ({near} nats)"
    )


def _named(row: Row, table: Table, *, short: bool = False) -> str:
    """X, 20.1 times as fast as upstream-euler_32 (18.0 to 22.4)."""
    times = times_of(row, table)
    if times is None or row.label == table.base_label:
        return row.label
    if short:
        return f"{row.label}, {significant(times.ratio)} times"
    bounds = "" if times.low is None or times.high is None else times_text(times).partition(" ")[2]
    return f"{row.label}, {significant(times.ratio)} times as fast as {table.base_label}{bounds and f' {bounds}'}"


def _is_faster(row: Row, table: Table) -> bool:
    times = times_of(row, table)
    return times is not None and times.ratio > 1


def _log_mel(row: Row) -> float | None:
    summary = row.quality.get(LOG_MEL)
    return None if summary is None else summary.mean


def _rtf(row: Row) -> float:
    return row.timing.rtf if row.timing else float("inf")
