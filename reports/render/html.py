"""report.html: one file to mail: style, script, drawings and sound inside it, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from reports.data.context import VOID
from reports.data.judged import Kind, judged_rows
from reports.data.scale import trial_ms
from reports.data.table import Row, Table
from reports.render.document import Document
from reports.render.looks import looks_of
from reports.render.markdown import short_markdown
from reports.render.player import script_safe, sounds_of
from reports.render.plots import Picture
from reports.render.scatter import drawn_kinds, scatters
from reports.render.spectrograms import example_ids
from reports.render.svg import STAGE_CLASSES, LogScale, call_strip, interval_bar, legend_symbol, stage_bar
from reports.sections import lengths, starts
from reports.sections.column import Column
from reports.sections.first import FirstLine, first_lines, unmeasured_lines
from reports.sections.floors import EXPLANATION as QUALITY_EXPLANATION
from reports.sections.floors import NO_FLOOR, floors_of
from reports.sections.notes import left_out, note_of
from reports.sections.power_columns import EXPLANATION as POWER_EXPLANATION
from reports.sections.proof import proofs_of
from reports.sections.score_groups import score_groups, score_rows
from reports.sections.scores import METRIC_NAMES
from reports.sections.verdict import badge_of
from reports.words import ABSENT, listed, significant

# (anchor, title, explanation, header, lines)
PlainTable = tuple[str, str, str, Sequence[str], Sequence[tuple[str, ...]]]
TEMPLATES = Path(__file__).parent / "templates"
STAGE_NAMES = ("front end", "denoise", "vocoder", "join", "enhance")
LEGEND: Mapping[Kind, str] = {
    "kept": "lost nothing: not worse than the base by every rule that was judged, words among them",
    "unheard": "not worse by the rules that were judged, but nobody counted its words",
    "lost": "loses something: worse than the base beyond the margin of a rule",
    "undecided": "not decided: too few sentences to say",
    "unjudged": "not judged: no score that a rule asks for",
    "base": "the base that the others are compared with",
    "reference": "the reference that scores are measured against",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class HtmlCell:
    """text as printed; sort: the number to sort by, None for words."""

    text: str
    sort: float | None
    is_numeric: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class HtmlLine:
    cells: tuple[HtmlCell, ...]
    extra: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Strips:
    """Drawings of the times: stages by row label, empty where no engine timed one; calls: label, drawing, median.

    low and high: the ends of the calls' scale in ms.
    """

    stages: Mapping[str, Markup]
    calls: tuple[tuple[str, Markup, str], ...]
    low: str
    high: str


def render_page(template: str, **content: Any) -> str:
    """A page from reports/render/templates. A name that the template uses and nobody gave is an error."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["commands"] = commands
    return environment.get_template(template).render(**content)


def commands(text: str) -> Markup:
    """What stands between back quotes as code: messages are written for the terminal and for Markdown."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part) for place, part in enumerate(parts)
    )


def render_html(document: Document, out: Path) -> str:
    """The whole file. Pictures are read from `out`, where the document has drawn them."""
    plain_tables = _plain_tables(document.table)
    content = {**_first_screen(document), **_folded(document), "plain_tables": plain_tables}
    return render_page(
        "report.html.j2",
        **content,
        title=document.title,
        document=document,
        sections=_contents(content, plain_tables, document),
        picture=lambda picture: data_uri(picture, out),
        markdown=as_script(short_markdown(document)),
    )


def as_script(text: str) -> Markup:
    """A text as JSON that may stand in a script element."""
    return Markup(script_safe(json.dumps(text, ensure_ascii=False)))


def _first_screen(document: Document) -> dict[str, Any]:
    """Verdict, table, drawing, player."""
    table = document.table
    first = first_lines(table)
    most = max((line.times.high or line.times.ratio for line in first if line.times), default=1.0)
    kinds = drawn_kinds(table)
    charts = scatters(table)
    return {
        "verdict": document.verdict,
        "detail": document.headline.removeprefix(document.verdict).strip(),
        "named": document.named or "",
        "warnings": document.warnings,
        "is_void": any(warning.startswith(VOID) for warning in document.warnings),
        "base": table.base_label,
        "first": first,
        "bar": lambda line: _bar(line, most),
        "unmeasured": unmeasured_lines(table),
        "charts": charts,
        "legend": [(legend_symbol(kind), words) for kind, words in LEGEND.items() if kind in kinds],
        "sounds": sounds_of(table, example_ids(table.source)),
    }


def _folded(document: Document) -> dict[str, Any]:
    """Everything else, by the names that the template has for it."""
    table = document.table
    rows, timed = table.rows, table.timed_rows
    built = [row for row in rows if row.cell.record and row.cell.record.facts]
    judged = judged_rows(table)
    return {
        "verdicts": [
            (row.label, badge_of(judged[row.label]), judged[row.label].why or ABSENT, judged[row.label].by or ABSENT)
            for row in timed
        ],
        "main": _lines(document.main, rows, {row.label: note_of(row) for row in rows}),
        "main_columns": _filled(document.main, rows),
        "left_out": [(row.label, row.status, row.reason or ABSENT, row.remedy or ABSENT) for row in left_out(table)],
        "groups": score_groups(table),
        "score_rows": score_rows(table),
        "quality_explanation": " ".join([QUALITY_EXPLANATION, *([] if floors_of(table) else [NO_FLOOR])]),
        "missing": [
            (METRIC_NAMES.get(gap.metric, gap.metric), gap.status, gap.reason, listed(gap.where))
            for gap in document.missing
        ],
        "times": _lines(document.times, timed, {}),
        "time_columns": _filled(document.times, timed),
        "power": _power(document),
        "power_explanation": POWER_EXPLANATION,
        "strips": _strips(table),
        "stage_names": list(zip(STAGE_NAMES, STAGE_CLASSES, strict=True))[: _num_stages(table)],
        "looks": looks_of(table),
        "sentences": [(row.label, document.sentences_of(row)) for row in rows if document.sentences_of(row)],
        "built": _lines(document.built, built, {}),
        "built_columns": _filled(document.built, built),
        "proofs": proofs_of(table),
    }


def _plain_tables(table: Table) -> tuple[PlainTable, ...]:
    """Those whose cells are texts, without colours and drawings."""
    return (
        ("lengths", "Latency by length", lengths.EXPLANATION, lengths.HEADER, lengths.length_lines(table)),
        ("cold", "Cold start", starts.EXPLANATION, starts.HEADER, starts.start_lines(table)),
    )


def _contents(
    content: Mapping[str, object], plain_tables: Sequence[PlainTable], document: Document
) -> list[tuple[str, str]]:
    """(anchor, name) of every folded part that there is, in the order of the page."""
    parts = (
        ("quality", "Quality, row by row", True),
        ("front", "The front of the search", document.search is not None),
        ("row", "How to read a row", True),
        ("results", "The whole table", True),
        ("no-speed", "What has no speed, and why", content["left_out"]),
        ("scores", "All scores between their floors", content["groups"]),
        ("missing", "Scores that could not be computed", content["missing"]),
        *((id_, title, lines) for id_, title, _, _, lines in plain_tables),
        ("time", "Where the time goes", content["times"]),
        ("power", "Power and heat", content["power"]),
        ("look", "Spectrograms", content["looks"]),
        ("sentences", "Sentence by sentence", content["sentences"]),
        ("built", "What was built, with proof", content["built"]),
        ("determinism", "Determinism", document.determinism),
        ("measured", "Measured on", document.caption),
        ("files", "Files beside this page", True),
    )
    return [(anchor, name) for anchor, name, is_there in parts if is_there]


def _power(document: Document) -> tuple[tuple[str, ...], list[tuple[str, ...]]] | None:
    """(header, lines) of the table of power, None where nothing was measured."""
    if not document.power:
        return None
    header = ("variant", *(column.header for column in document.power))
    rows = document.table.timed_rows
    return header, [(row.label, *(column.text(row) for column in document.power)) for row in rows]


def _bar(line: FirstLine, most: float) -> Markup:
    return Markup("") if line.times is None else interval_bar(line.times.ratio, line.times.low, line.times.high, most)


def _num_stages(table: Table) -> int:
    """The most stages that a row has."""
    return max((len(row.timing.stages.parts) for row in table.rows if row.timing and row.timing.stages), default=0)


def _strips(table: Table) -> Strips | None:
    """None where no row shows a speed."""
    calls = {
        row.label: [trial_ms(trial) for trial in row.cell.record.steady_trials]
        for row in table.timed_rows
        if row.cell.record
    }
    every = [time for times in calls.values() for time in times]
    if not every:
        return None
    scale = LogScale(low=min(every) / 1.05, high=max(every) * 1.05, start=3.0, end=357.0)
    timings = {row.label: row.timing for row in table.timed_rows if row.timing}
    stages = {name: stage_bar(found.stages.parts) for name, found in timings.items() if found.stages}
    return Strips(
        stages=stages,
        calls=tuple(
            (name, call_strip(times, timings[name].p50_ms, scale), significant(timings[name].p50_ms))
            for name, times in calls.items()
        ),
        low=significant(min(every)),
        high=significant(max(every)),
    )


def _filled(columns: Sequence[Column], rows: Sequence[Row]) -> tuple[Column, ...]:
    """Without the columns that no row has anything in."""
    return tuple(column for column in columns if any(column.text(row) != ABSENT for row in rows))


def _lines(columns: Sequence[Column], rows: Sequence[Row], extra: Mapping[str, str]) -> list[HtmlLine]:
    shown, lines = _filled(columns, rows), []
    for row in rows:
        cells = [
            HtmlCell(
                text=column.text(row), sort=column.sort(row) if column.sort else None, is_numeric=column.is_numeric
            )
            for column in shown
        ]
        lines.append(HtmlLine(cells=tuple(cells), extra=extra.get(row.label, "")))
    return lines


def data_uri(picture: Picture, out: Path) -> str:
    """The drawn file itself, for the page."""
    return "data:image/png;base64," + base64.b64encode((out / picture.path).read_bytes()).decode("ascii")
