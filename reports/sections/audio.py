"""Where the reader of a report can listen: links to the run's own files, or copies of the example sentences.

A report beside its run links to the very files that were scored. A report written elsewhere (to be published) must not
point out of its folder, so it carries the two example sentences of each row as 16-bit FLAC.

Shape letters: S samples, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from metrics.record import Utterance
from reports.data.source import REFERENCE, Cell, Source
from reports.data.table import Table
from reports.words import listed, slug

AUDIO = "audio"


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioLinks:
    """links: (row label or "reference", utterance id) -> path relative to the report. note: what cannot be heard."""

    links: Mapping[tuple[str, str], str]
    note: str | None

    def of(self, label: str, utterance_id: str) -> str | None:
        return self.links.get((label, utterance_id))


def link_audio(table: Table, out: Path, examples: tuple[str, ...]) -> AudioLinks:
    """Copies files only where `out` is not the run's own folder."""
    beside = out.resolve() == table.source.root.resolve()
    links, gone = {}, []
    for name, cell in spoken_cells(table):
        utterances = cell.record.utterances if cell.record else ()
        missing = 0
        for utterance in utterances:
            audio = read_audio(table.source.path_of(cell, utterance.audio_path))
            if audio is None:
                missing += 1
            elif beside:
                links[name, utterance.utterance_id] = _within(cell, utterance)
            elif utterance.utterance_id in examples:
                links[name, utterance.utterance_id] = _copy(audio, utterance, out / AUDIO / slug(name))
        if missing:
            gone.append(f"{name} ({missing} of {len(utterances)})")
    return AudioLinks(links=links, note=_note(beside, gone, bool(links)))


def spoken_cells(table: Table) -> Iterator[tuple[str, Cell]]:
    """Every row, then the reference, under its own name, where it is no row."""
    for row in table.rows:
        yield row.label, row.cell
    reference = table.source.reference
    if reference is not None and all(row.cell is not reference for row in table.rows):
        yield REFERENCE, reference


def utterance_of(cell: Cell, utterance_id: str) -> Utterance | None:
    utterances = cell.record.utterances if cell.record else ()
    return next((u for u in utterances if u.utterance_id == utterance_id), None)


def audio_of(source: Source, cell: Cell, utterance_id: str) -> tuple[np.ndarray, int] | None:
    """As read_audio; None also where the row never spoke the sentence."""
    utterance = utterance_of(cell, utterance_id)
    return read_audio(source.path_of(cell, utterance.audio_path)) if utterance else None


def _within(cell: Cell, utterance: Utterance) -> str:
    return utterance.audio_path if cell.dir == "." else f"{cell.dir}/{utterance.audio_path}"


def read_audio(path: Path) -> tuple[np.ndarray, int] | None:
    """((S,) float32 of the first channel, sample rate in Hz); None where the file is gone or cannot be read."""
    if not path.is_file():
        return None
    try:
        audio_SC, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        return None
    return audio_SC[:, 0], rate_hz


def _copy(audio: tuple[np.ndarray, int], utterance: Utterance, folder: Path) -> str:
    audio_S, rate_hz = audio
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{slug(utterance.utterance_id)}.flac"
    soundfile.write(path, np.clip(np.nan_to_num(audio_S), -1.0, 1.0), rate_hz, subtype="PCM_16")
    return f"{AUDIO}/{folder.name}/{path.name}"


def _note(beside: bool, gone: list[str], any_links: bool) -> str | None:
    if gone:
        return f"Audio files are gone or unreadable, so they cannot be heard or drawn: {listed(gone)}."
    if not beside and any_links:
        return "This copy of the report carries two sentences of each row, as 16-bit FLAC; the run keeps them all."
    return None
