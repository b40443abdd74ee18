"""The runs that are compared: their systems, the sentences all of them spoke validly, and the audio.

Shape letters: S samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from metrics.record import RecordError, RunRecord
from reports.data.quality import VALID, is_random
from reports.data.source import load_source
from reports.listening.making.plan import ANCHOR, DEGRADED
from reports.listening.study.settings import ListeningError
from reports.sections.audio import read_audio

TREATMENTS = (ANCHOR, DEGRADED)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class System:
    """One run as a party of the comparison. `name` is its label, made unique; it stands in the key only."""

    name: str
    folder: Path
    record: RunRecord


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sentence:
    """audio: system name -> (S,) float32 at Material.rate_hz; systems may differ in length."""

    utterance_id: str
    category: str
    text: str
    audio: Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Material:
    """dropped: utterance id -> why it cannot be used."""

    systems: tuple[System, ...]
    sentences: tuple[Sentence, ...]
    dropped: Mapping[str, str]
    rate_hz: int

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(system.name for system in self.systems)


def load_material(folders: Sequence[Path]) -> Material:
    """Raises ListeningError or RecordError, one line, for runs that cannot be compared by ear."""
    systems = _named([cell for folder in folders for cell in _cells(folder)])
    if len(systems) < 2:
        raise ListeningError(
            f"runs: {len(systems)} given; a listening set compares two at least: build RUN_A RUN_B, or a sweep's folder"
        )
    rate_hz = max(utterance.sample_rate_hz for system in systems for utterance in system.record.utterances)
    sentences, dropped = [], {}
    for utterance_id in _ids(systems):
        sentence = _sentence(systems, utterance_id, rate_hz)
        if isinstance(sentence, str):
            dropped[utterance_id] = sentence
        else:
            sentences.append(sentence)
    if not sentences:
        raise ListeningError(f"runs: no sentence that all of them spoke validly ({_first(dropped)})")
    return Material(systems=tuple(systems), sentences=tuple(sentences), dropped=dropped, rate_hz=rate_hz)


def _cells(folder: Path) -> Iterator[tuple[Path, RunRecord]]:
    """A run's folder is one system; a sweep's folder all of its cells that were measured."""
    source = load_source(folder)
    good = [cell for cell in source.cells if cell.record is not None and cell.state == "ok"]
    if not good:
        reason = source.cells[0].reason if source.cells else "it has no cells"
        raise RecordError(f"{folder}: nothing to listen to ({reason}); give a run that ended well")
    for cell in good:
        assert cell.record is not None
        if is_random(cell.record):
            raise ListeningError(f"{folder}: {cell.label} has random weights, which speak noise; leave it out")
        yield folder / cell.dir, cell.record


def _named(cells: Sequence[tuple[Path, RunRecord]]) -> list[System]:
    """Labels; where two runs share one, or one is what a treatment is called, the end of the run id is added."""
    counts = Counter(record.label for _, record in cells)
    systems: list[System] = []
    for folder, record in cells:
        is_clear = counts[record.label] == 1 and record.label not in TREATMENTS
        name = record.label if is_clear else f"{record.label} ({record.run_id[-8:]})"
        if any(system.name == name for system in systems):
            raise ListeningError(f"{folder}: this run was given twice; give each run once")
        if not record.utterances:
            raise ListeningError(f"{folder}: the run spoke no sentence; measure it again")
        systems.append(System(name=name, folder=folder, record=record))
    return systems


def _ids(systems: Sequence[System]) -> list[str]:
    ids = [utterance.utterance_id for system in systems for utterance in system.record.utterances]
    return list(dict.fromkeys(ids))


def _sentence(systems: Sequence[System], utterance_id: str, rate_hz: int) -> Sentence | str:
    """The sentence by every system, or the reason why it is left out."""
    audio: dict[str, np.ndarray] = {}
    texts, category = set(), ""
    for system in systems:
        utterance = next((u for u in system.record.utterances if u.utterance_id == utterance_id), None)
        if utterance is None:
            return f"{system.name} did not speak it"
        scores = [score for score in system.record.scores_of(VALID) if score.utterance_id == utterance_id]
        if any(score.status == "error" or score.value == 0.0 for score in scores):
            return f"{system.name}'s audio is invalid ({scores[0].reason})"
        found = read_audio(system.folder / utterance.audio_path)
        if found is None:
            return f"{system.name}'s file {utterance.audio_path} is gone or unreadable"
        audio_S, file_rate_hz = found
        if audio_S.size == 0 or not np.isfinite(audio_S).all() or not audio_S.any():
            return f"{system.name}'s audio is empty, silent or not finite"
        audio[system.name] = (
            audio_S if file_rate_hz == rate_hz else soxr.resample(audio_S, file_rate_hz, rate_hz, "VHQ")
        )
        texts.add(utterance.text)
        category = utterance.category
    if len(texts) > 1:
        raise ListeningError(f"sentence {utterance_id}: the runs spoke different texts; give runs of one workload")
    return Sentence(utterance_id=utterance_id, category=category, text=texts.pop(), audio=audio)


def _first(dropped: Mapping[str, str]) -> str:
    return next((f"{utterance_id}: {reason}" for utterance_id, reason in dropped.items()), "they spoke none")
