"""report.md: the document as GitHub Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from reports.data.table import Row
from reports.render.document import Document, proof_text, reference_name
from reports.render.plots import Picture
from reports.sections import lengths, starts
from reports.sections.column import Column
from reports.sections.first import markdown_lines
from reports.sections.floors import EXPLANATION as QUALITY_EXPLANATION
from reports.sections.floors import NO_FLOOR, floors_of, quality_header, quality_lines
from reports.sections.notes import left_out, note_of
from reports.sections.power_columns import EXPLANATION as POWER_EXPLANATION
from reports.sections.scores import METRIC_NAMES
from reports.words import ABSENT, listed

FILES = (
    "## Files",
    "[rows.csv](rows.csv): the table; [samples.parquet](samples.parquet): every trial; "
    "[report.html](report.html): this report with players and sortable tables.",
)
_ENTITY = re.compile(r"&(?=#?\w+;)")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")


def render_markdown(document: Document) -> str:
    """The whole file. Links and pictures are relative to it."""
    parts = [
        f"# {escape(document.title)}",
        escape(document.headline),
        *_warnings(document),
        *table_block(("measured on", ""), document.caption),
        "## Results",
        *_results(document),
        *_picture(document.charts.get("rtf_quality")),
        *_search(document),
        "## How to read a row",
        *_legend(document),
        *_left_out(document),
        *_missing(document),
        *_quality(document),
        *_lengths(document),
        *_starts(document),
        *_times(document),
        *_power(document),
        *_built(document),
        *_sentences(document),
        *_listen(document),
        *_determinism(document),
        *([] if document.small else FILES),
    ]
    return "\n\n".join(parts) + "\n"


def short_markdown(document: Document) -> str:
    """Verdict and first table, to paste into a page or a pull request."""
    header, lines = markdown_lines(document.table)
    context = document.context
    seconds = [] if context is None else [escape(f"{context.seconds}; {context.environment.get('host_class')}")]
    table = table_block(header, lines, [False, True, True, True, False, True])
    return "\n\n".join([f"**{escape(document.verdict)}**", *table, *seconds]) + "\n"


def escape(text: str) -> str:
    """Text that stays text inside a table cell; what Markdown leaves alone anyway stays readable in the raw file."""
    text = _ENTITY.sub("&amp;", " ".join(text.split()))
    return _TAG.sub("&lt;", text).replace("|", "\\|")


def table_block(header: Sequence[str], lines: Iterable[Sequence[str]], numeric: Sequence[bool] = ()) -> list[str]:
    """One block: header, rule, lines; numbers to the right."""
    lines = list(lines)
    if not lines:
        return []
    marks = ["---:" if right else "---" for right in numeric] or ["---"] * len(header)
    rows = [[escape(cell) for cell in header], marks, *([escape(cell) for cell in line] for line in lines)]
    return ["\n".join(f"| {' | '.join(row)} |" for row in rows)]


def _columns(columns: Sequence[Column], rows: Sequence[Row], extra: str, say: dict[str, str]) -> list[str]:
    """A table of rows with one more column of words at its end; `say` maps the label to them."""
    header = [*(column.header for column in columns), extra]
    numeric = [*(column.is_numeric for column in columns), False]
    return table_block(header, ([*(c.text(row) for c in columns), say[row.label]] for row in rows), numeric)


def _warnings(document: Document) -> list[str]:
    if not document.warnings:
        return []
    return ["\n".join(["> **Before you believe it**", ">", *(f"> - {escape(text)}" for text in document.warnings)])]


def _results(document: Document) -> list[str]:
    rows = document.table.rows
    parts = _columns(document.main, rows, "note", {row.label: note_of(row) for row in rows})
    if document.context is not None:
        env = document.context.environment
        parts.append(
            escape(
                f"RTF: wall seconds per generated second; {document.context.seconds}. Host class "
                f"{env.get('host_class')}, workload {document.context.workload.get('name')}."
            )
        )
    return parts


def _picture(picture: Picture | None) -> list[str]:
    return [f"![{escape(picture.alt)}]({picture.path})"] if picture else []


def _search(document: Document) -> list[str]:
    """The front of experiments.optimize, where the folder is one of its."""
    if document.search is None:
        return []
    found = document.search
    return [
        "## The front",
        escape(found.sentence),
        *table_block(("variant", *found.header), found.lines, (False, *(True for _ in found.header))),
        *_picture(document.charts.get("search")),
    ]


def _legend(document: Document) -> list[str]:
    lines = [f"- **{escape(column.header)}**: {escape(column.help)}." for column in document.legend]
    return ["\n".join([*lines, *(f"- {escape(rule)}" for rule in document.rules)])]


def _left_out(document: Document) -> list[str]:
    rows = left_out(document.table)
    if not rows:
        return []
    lines = [(row.label, row.status, row.reason or ABSENT, row.remedy or ABSENT) for row in rows]
    return ["## What has no speed, and why", *table_block(("variant", "status", "why", "what to do"), lines)]


def _missing(document: Document) -> list[str]:
    if not document.missing:
        return []
    lines = [
        (METRIC_NAMES.get(gap.metric, gap.metric), gap.status, gap.reason, listed(gap.where))
        for gap in document.missing
    ]
    return ["## Scores that could not be computed", *table_block(("score", "status", "why", "where"), lines)]


def _quality(document: Document) -> list[str]:
    lines = quality_lines(document.table)
    if not lines:
        return []
    header = quality_header(document.table)
    notes = [QUALITY_EXPLANATION, *([] if floors_of(document.table) else [NO_FLOOR])]
    return [
        "## All scores between their floors",
        *notes,
        *table_block(header, lines, [False, *[True] * (len(header) - 2), False]),
    ]


def _lengths(document: Document) -> list[str]:
    lines = lengths.length_lines(document.table)
    if not lines:
        return []
    return [
        "## Latency by length",
        lengths.EXPLANATION,
        *table_block(lengths.HEADER, lines, [False, False, *[True] * 5]),
    ]


def _starts(document: Document) -> list[str]:
    lines = starts.start_lines(document.table)
    if not lines:
        return []
    return ["## Cold start", starts.EXPLANATION, *table_block(starts.HEADER, lines, [False, *[True] * 5, False])]


def _times(document: Document) -> list[str]:
    rows = document.table.timed_rows
    if not rows:
        return []
    charts = (document.charts.get(name) for name in ("stages", "latency"))
    return [
        "## Where the time goes",
        *table_block(
            [column.header for column in document.times],
            ([column.text(row) for column in document.times] for row in rows),
            [column.is_numeric for column in document.times],
        ),
        *(line for picture in charts for line in _picture(picture)),
    ]


def _power(document: Document) -> list[str]:
    if not document.power:
        return []
    rows = document.table.timed_rows
    header = ["variant", *(column.header for column in document.power)]
    lines = ([row.label, *(column.text(row) for column in document.power)] for row in rows)
    charts = (document.charts.get(name) for name in ("power", "rtf_energy"))
    return [
        "## Power and heat",
        POWER_EXPLANATION,
        *table_block(header, lines, [False, *(column.is_numeric for column in document.power)]),
        *(line for picture in charts for line in _picture(picture)),
    ]


def _built(document: Document) -> list[str]:
    rows = [row for row in document.table.rows if row.cell.record and row.cell.record.facts]
    if not rows:
        return []
    return ["## What was built", *_columns(document.built, rows, "proof", {row.label: proof_text(row) for row in rows})]


def _sentences(document: Document) -> list[str]:
    parts = []
    for row in document.table.rows:
        lines = document.sentences_of(row)
        if not lines:
            continue
        header = ("sentence", "category", "text", *document.sentence_header)
        table = table_block(header, ((s.utterance_id, s.category, s.text, *s.cells) for s in lines))
        parts.extend([f"<details><summary>{escape(row.label)}</summary>", *table, "</details>"])
    return ["## Sentence by sentence", *parts] if parts else []


def _listen(document: Document) -> list[str]:
    if not document.spectrograms and not document.audio.links and not document.audio.note:
        return []
    parts = ["## Listen and look"]
    if document.audio.note:
        parts.append(escape(document.audio.note))
    names = dict.fromkeys(label for label, _ in document.audio.links)
    reference = reference_name(document.table)
    lines = [(f"{name} (reference)" if name == reference else name, _links(document, name)) for name in names]
    if lines:
        rows = [f"| {escape(name)} | {links} |" for name, links in lines]
        parts.append("\n".join(["| variant | audio |", "| --- | --- |", *rows]))
    for picture in document.spectrograms.values():
        parts.extend([f"**{escape(picture.title)}**", *_picture(picture)])
    return parts


def _links(document: Document, name: str) -> str:
    pairs = ((sentence, link) for (label, sentence), link in document.audio.links.items() if label == name)
    return " ".join(f"[{escape(sentence)}]({link})" for sentence, link in pairs)


def _determinism(document: Document) -> list[str]:
    if not document.determinism:
        return []
    return ["## Determinism", "\n".join(f"- {escape(text)}" for text in document.determinism)]
