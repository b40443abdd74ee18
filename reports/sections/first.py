"""The first table of the page: variant, times as fast, quality in a word, memory; what has no speed stands below."""

from __future__ import annotations

from dataclasses import dataclass

from reports.data.judged import Kind, judged_rows
from reports.data.quality import RANDOM_WEIGHTS
from reports.data.ratios import Times, times_of
from reports.data.table import Row, Table, is_void
from reports.sections.notes import MACHINE_WORD, STATUS_WORDS, note_of, other_model_of
from reports.sections.scores import METRIC_NAMES, quality_text
from reports.sections.verdict import badge_of, times_text
from reports.words import ABSENT, significant

FIRST_SCORES = 2  # beside the badge: the page has the rest below


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstLine:
    """kind, badge, why: the quality in a word, and the reason behind it. note: empty for a row like any other."""

    label: str
    rtf: str
    p50: str
    times: Times | None
    times_text: str
    kind: Kind
    badge: str
    why: str
    memory: str
    note: str
    sort: tuple[float | None, float | None, float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Unmeasured:
    """A row without a speed."""

    label: str
    badge: str
    note: str


def first_lines(table: Table) -> tuple[FirstLine, ...]:
    """In the order of the sweep."""
    return tuple(_line(row, table) for row in table.timed_rows)


def unmeasured_lines(table: Table) -> tuple[Unmeasured, ...]:
    return tuple(
        Unmeasured(label=row.label, badge=STATUS_WORDS[row.status], note=note_of(row))
        for row in table.rows
        if row.timing is None
    )


def markdown_lines(table: Table) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(header, lines) of the same table as text, for pasting."""
    header = ("variant", "times as fast", "RTF", "median ms", "quality", "peak MiB")
    lines: list[tuple[str, ...]] = [
        (line.label, line.times_text, line.rtf, line.p50, line.badge, line.memory) for line in first_lines(table)
    ]
    lines += [(line.label, ABSENT, ABSENT, ABSENT, line.badge, ABSENT) for line in unmeasured_lines(table)]
    return header, lines


def _line(row: Row, table: Table) -> FirstLine:
    assert row.timing is not None
    judged, times = judged_rows(table)[row.label], times_of(row, table)
    rule = f"; {judged.by}" if judged.by else ""
    left_out = f"; not judged: {', '.join(judged.left_out)}" if judged.left_out and judged.kind != "unjudged" else ""
    return FirstLine(
        label=row.label,
        rtf=significant(row.timing.rtf),
        p50=significant(row.timing.p50_ms),
        times=times,
        times_text=times_text(times) if times else ABSENT,
        kind=judged.kind,
        badge=RANDOM_WEIGHTS if row.validity == "random" else badge_of(judged),
        why=f"{_scores(row)}{judged.why}{rule}{left_out}",
        memory=ABSENT if row.peak_mib is None else f"{row.peak_mib:.0f}",
        note=_note(row),
        sort=(times.ratio if times else None, row.timing.rtf, row.peak_mib),
    )


def _scores(row: Row) -> str:
    have = [metric for metric, summary in row.quality.items() if metric in METRIC_NAMES and summary.mean is not None]
    said = ", ".join(f"{METRIC_NAMES[metric]} {quality_text(row, metric)}" for metric in have[:FIRST_SCORES])
    return f"{said}. " if said else ""


def _note(row: Row) -> str:
    words = [MACHINE_WORD] if is_void(row) else []
    if row.status == "ok" and other_model_of(row):
        words.append("another model than the reference's")
    return "; ".join(words)
