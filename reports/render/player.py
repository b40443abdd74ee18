"""What the page's player holds: some sentences by every variant, as Opus, within a budget."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass

from reports.data.quality import LOG_MEL, PESQ, sentence_value
from reports.data.source import Cell
from reports.data.table import Table
from reports.render.sound import SAID, opus, opus_refusal
from reports.sections.audio import audio_of, spoken_cells
from reports.sections.notes import note_of
from reports.sections.scores import METRIC_NAMES, score_text
from reports.words import ABSENT, plural

BUDGET_BYTES = 5_000_000  # of text in the page, which is to stay under 8 MB
MOST_SENTENCES = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Sounds:
    """json: what the script of the page reads; empty without a sound. note: what is not in the page, and why."""

    json: str
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Clip:
    label: str
    seconds: float
    scores: str
    data: str


def sounds_of(table: Table, first_ids: tuple[str, ...]) -> Sounds:
    """The sentences `first_ids` and then the others, each by every row whose audio is there, while the budget lasts."""
    cells = dict(spoken_cells(table))
    texts: dict[str, str] = {}
    for cell in cells.values():
        texts |= {u.utterance_id: u.text for u in (cell.record.utterances if cell.record else ())}
    refusal = _refusal(cells)
    if refusal is not None or not texts:
        return Sounds(json="", note=f"No sound is in this page: {refusal}." if refusal else "")
    sentences, spent = [], 0
    for utterance_id in list(dict.fromkeys((*(i for i in first_ids if i in texts), *texts)))[:MOST_SENTENCES]:
        clips = [clip for name, cell in cells.items() if (clip := _clip(table, name, cell, utterance_id)) is not None]
        spent += sum(len(clip.data) for clip in clips)
        if spent > BUDGET_BYTES:
            break
        if clips:
            spoken = [{"label": c.label, "seconds": c.seconds, "scores": c.scores, "data": c.data} for c in clips]
            sentences.append({"id": utterance_id, "text": texts[utterance_id], "clips": spoken})
    if not sentences:
        return Sounds(json="", note="")
    kept = f"{len(sentences)} of {plural(len(texts), 'sentence')}"
    note = f"{kept} in this page, as {SAID}: for fine differences listen to the files of the run, which lose nothing."
    return Sounds(json=script_safe(json.dumps(sentences, ensure_ascii=False)), note=note)


def _refusal(cells: Mapping[str, Cell]) -> str | None:
    rates = {u.sample_rate_hz for cell in cells.values() for u in (cell.record.utterances if cell.record else ())}
    return next((why for rate in sorted(rates) if (why := opus_refusal(rate)) is not None), None)


def _clip(table: Table, name: str, cell: Cell, utterance_id: str) -> _Clip | None:
    """None where the row never spoke the sentence, or its file is gone."""
    audio = audio_of(table.source, cell, utterance_id)
    if audio is None:
        return None
    audio_S, rate_hz = audio
    return _Clip(
        label=name,
        seconds=round(audio_S.size / rate_hz, 3),
        scores=_scores(table, name, utterance_id),
        data=base64.b64encode(opus(audio_S, rate_hz)).decode("ascii"),
    )


def _scores(table: Table, label: str, utterance_id: str) -> str:
    """The two scores worth a look while listening; of a row without a speed, why."""
    row = next((row for row in table.rows if row.label == label), None)
    if row is None or row.is_reference:
        return "the reference"
    if row.timing is None or row.cell.record is None:
        return note_of(row)
    found = []
    for metric in (LOG_MEL, PESQ):
        score = sentence_value(row.cell.record, metric, utterance_id)
        if score is not None and score.value is not None:
            found.append(f"{METRIC_NAMES[metric]} {score_text(score.value, metric)}")
    return ", ".join(found) or note_of(row) or ABSENT


def script_safe(text: str) -> str:
    """JSON inside a script element: nothing in it may end the element or open a comment."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
