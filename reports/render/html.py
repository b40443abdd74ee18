"""report.html: one file that works from disk: style, script and pictures inside it, audio beside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports.data.quality import LOG_MEL, PESQ, sentence_value
from reports.data.table import Row
from reports.render.document import Document, proof_text, reference_name
from reports.render.plots import Picture
from reports.sections import lengths, starts
from reports.sections.columns import Column
from reports.sections.floors import EXPLANATION as QUALITY_EXPLANATION
from reports.sections.floors import NO_FLOOR, floors_of, quality_header, quality_lines
from reports.sections.notes import left_out, note_of
from reports.sections.scores import METRIC_NAMES, score_text
from reports.words import ABSENT, listed

TEMPLATES = Path(__file__).parent / "templates"


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
class Player:
    """One variant speaking one sentence. is_reference: to be heard first."""

    label: str
    link: str
    scores: str
    is_reference: bool


def render_html(document: Document, out: Path) -> str:
    """The whole file. Pictures are read from `out`, where the document has drawn them."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rows = document.table.rows
    built = [row for row in rows if row.cell.record and row.cell.record.facts]
    return environment.get_template("report.html.j2").render(
        document=document,
        main=_lines(document.main, rows, {row.label: note_of(row) for row in rows}),
        quality=quality_lines(document.table),
        quality_header=quality_header(document.table),
        quality_explanation=" ".join([QUALITY_EXPLANATION, *([] if floors_of(document.table) else [NO_FLOOR])]),
        plain_tables=[
            ("Latency by length", lengths.EXPLANATION, lengths.HEADER, lengths.length_lines(document.table)),
            ("Cold start", starts.EXPLANATION, starts.HEADER, starts.start_lines(document.table)),
        ],
        times=_lines(document.times, document.table.timed_rows, {}),
        built=_lines(document.built, built, {row.label: proof_text(row) for row in built}),
        left_out=[
            (row.label, row.status, row.reason or ABSENT, row.remedy or ABSENT) for row in left_out(document.table)
        ],
        missing=[(METRIC_NAMES.get(m.metric, m.metric), m.status, m.reason, listed(m.where)) for m in document.missing],
        sentences=[(row.label, document.sentences_of(row)) for row in rows if document.sentences_of(row)],
        players=_players(document),
        picture=lambda picture: _data_uri(picture, out),
    )


def _lines(columns: Sequence[Column], rows: Sequence[Row], extra: dict[str, str]) -> list[HtmlLine]:
    lines = []
    for row in rows:
        cells = [
            HtmlCell(
                text=column.text(row), sort=column.sort(row) if column.sort else None, is_numeric=column.is_numeric
            )
            for column in columns
        ]
        lines.append(HtmlLine(cells=tuple(cells), extra=extra.get(row.label, "")))
    return lines


def _players(document: Document) -> list[tuple[str, str, list[Player]]]:
    """(sentence, text, players), the reference's player first."""
    reference = reference_name(document.table)
    names = list(dict.fromkeys(label for label, _ in document.audio.links))
    names.sort(key=lambda name: name != reference)
    groups = []
    for utterance_id, text in _spoken(document).items():
        players = []
        for name in names:
            link = document.audio.of(name, utterance_id)
            if link is not None:
                scores = "reference" if name == reference else _scores(document, name, utterance_id)
                players.append(Player(label=name, link=quote(link), scores=scores, is_reference=name == reference))
        if players:
            groups.append((utterance_id, text, players))
    return groups


def _spoken(document: Document) -> dict[str, str]:
    return {
        utterance.utterance_id: utterance.text for record in document.table.records for utterance in record.utterances
    }


def _scores(document: Document, label: str, utterance_id: str) -> str:
    """The two scores worth a look while listening."""
    row = next((row for row in document.table.rows if row.label == label), None)
    if row is None or row.timing is None or row.cell.record is None:
        return note_of(row) if row else ""
    found = []
    for metric in (LOG_MEL, PESQ):
        score = sentence_value(row.cell.record, metric, utterance_id)
        if score is not None and score.value is not None:
            found.append(f"{METRIC_NAMES[metric]} {score_text(score.value, metric)}")
    return ", ".join(found) or note_of(row)


def _data_uri(picture: Picture, out: Path) -> str:
    return "data:image/png;base64," + base64.b64encode((out / picture.path).read_bytes()).decode("ascii")
