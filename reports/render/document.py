"""Everything a report says, in the order it says it; markdown and html only spell it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from reports.data.context import Context, caption_of, context_of, warnings_of
from reports.data.quality import VALID, VERSUS_REFERENCE, WER, sentence_value
from reports.data.source import REFERENCE
from reports.data.table import Row, Table, all_metrics, sentence_timing_of
from reports.render.plots import Picture, draw_charts
from reports.render.power import draw_power
from reports.render.search import Front, draw_search, front_of, read_search
from reports.render.spectrograms import draw_spectrograms, example_ids
from reports.sections.audio import AudioLinks, link_audio
from reports.sections.column import Column
from reports.sections.columns import built_columns, enhance_columns, main_columns, time_columns
from reports.sections.notes import MissingScore, determinism_of, headline_parts, missing_scores, window_notes
from reports.sections.power_columns import headline_columns, power_columns
from reports.sections.scores import METRIC_NAMES, score_text
from reports.sections.work_columns import work_columns
from reports.words import ABSENT, significant, without_machine_paths

SMALL_COLORS = 64
NOT_KEPT = "Audio and its spectrograms are not kept with a published report; the same command makes them again."
ROW_RULES = (
    "A row whose audio is invalid shows no speed: broken audio is easy to make quickly.",
    'A score with "n of m" is the mean over the n sentences where it could be computed.',
    "Rows of one sweep ran in processes of their own, one after the other: a difference of a few percent between two "
    "rows may be the machine's. For a verdict with an error rate use experiments.compare or experiments.gate.",
    "Two tables may be compared only where host class and workload identity agree.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceLine:
    """One sentence of one row, as text. link: its audio relative to the report, None where there is none."""

    utterance_id: str
    category: str
    text: str
    cells: tuple[str, ...]
    link: str | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Document:
    """verdict: the first words of the headline; named: the row that they name first. charts are keyed by what they
    show (rtf_quality, stages, latency, power, rtf_energy); spectrograms by row label."""

    title: str
    verdict: str
    named: str | None
    headline: str
    context: Context | None
    caption: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    table: Table
    main: tuple[Column, ...]
    times: tuple[Column, ...]
    power: tuple[Column, ...]
    built: tuple[Column, ...]
    missing: tuple[MissingScore, ...]
    determinism: tuple[str, ...]
    charts: dict[str, Picture]
    spectrograms: dict[str, Picture]
    audio: AudioLinks
    sentence_header: tuple[str, ...]
    search: Front | None = None
    small: bool = False

    @property
    def rules(self) -> tuple[str, ...]:
        return ROW_RULES

    @property
    def legend(self) -> tuple[Column, ...]:
        """Every column once."""
        return tuple({column.header: column for column in (*self.main, *self.times, *self.power, *self.built)}.values())

    def sentences_of(self, row: Row) -> tuple[SentenceLine, ...]:
        record = row.cell.record
        utterances = record.utterances if record else ()
        return tuple(
            SentenceLine(
                utterance_id=utterance.utterance_id,
                category=utterance.category,
                text=utterance.text,
                cells=_sentence_cells(row, utterance.utterance_id, self.table),
                link=self.audio.of(row.label, utterance.utterance_id),
            )
            for utterance in utterances
        )


def document_of(table: Table, out: Path, *, small: bool = False) -> Document:
    """Draws the pictures and copies what audio the report needs into `out`, then says the rest.

    small: charts in few colours; no audio and no pictures of it."""
    context = context_of(table)
    headline = headline_parts(table, context)
    num_colors = SMALL_COLORS if small else None
    charts = (*draw_charts(table, context, out, num_colors), *draw_power(table, out, num_colors)) if context else ()
    search = read_search(table.source.root)
    if search is not None:
        charts = (*charts, *draw_search(search, out, num_colors))
    return Document(
        title=f"f5bench report: {table.source.name}",
        verdict=headline.verdict,
        named=headline.named,
        headline=headline.text,
        context=context,
        caption=caption_of(context) if context else (),
        warnings=warnings_of(table),
        table=table,
        main=(*main_columns(table, all_metrics(table)), *headline_columns(table)),
        times=(*time_columns(), *enhance_columns(table), *work_columns(table)),
        power=power_columns(table),
        built=built_columns(),
        missing=missing_scores(table),
        determinism=(*determinism_of(table), *window_notes(table)),
        charts={Path(picture.path).stem: picture for picture in charts},
        spectrograms={} if small else draw_spectrograms(table, out),
        audio=AudioLinks(links={}, note=NOT_KEPT) if small else link_audio(table, out, example_ids(table.source)),
        sentence_header=("valid", "p50 ms", "RTF", *(METRIC_NAMES[m] for m in _sentence_metrics(table))),
        search=front_of(search) if search is not None else None,
        small=small,
    )


def reference_name(table: Table) -> str | None:
    """Under which name the reference's audio is linked."""
    reference = table.source.reference
    if reference is None:
        return None
    return next((row.label for row in table.rows if row.cell is reference), REFERENCE)


def proof_text(row: Row) -> str:
    """What the engine showed as proof that it is what its row says, as one line of JSON."""
    facts = row.cell.record.facts if row.cell.record else None
    proof = (facts or {}).get("proof")
    return without_machine_paths(json.dumps(proof, sort_keys=True)) or ABSENT if proof else ABSENT


def _sentence_metrics(table: Table) -> tuple[str, ...]:
    heard = all_metrics(table)
    return tuple(metric for metric in (*VERSUS_REFERENCE, WER) if metric in heard)


def _sentence_cells(row: Row, utterance_id: str, table: Table) -> tuple[str, ...]:
    timing = sentence_timing_of(row, utterance_id)
    speed = (significant(timing.p50_ms), significant(timing.rtf)) if timing else (ABSENT, ABSENT)
    scores = tuple(_score_cell(row, metric, utterance_id) for metric in _sentence_metrics(table))
    return (_valid_cell(row, utterance_id), *speed, *scores)


def _valid_cell(row: Row, utterance_id: str) -> str:
    score = sentence_value(row.cell.record, VALID, utterance_id) if row.cell.record else None
    if score is None:
        return "not checked"
    if score.status == "ok":
        return "yes"
    reason = without_machine_paths(score.reason) or score.status
    return f"no: {reason}" if score.status == "error" else reason


def _score_cell(row: Row, metric: str, utterance_id: str) -> str:
    if row.validity == "random" or (row.is_reference and metric in VERSUS_REFERENCE):
        summary = row.quality.get(metric)
        return summary.word or ABSENT if summary else ABSENT
    score = sentence_value(row.cell.record, metric, utterance_id) if row.cell.record else None
    if score is None:
        return ABSENT
    return score_text(score.value, metric) if score.value is not None else score.status.replace("_", " ")
