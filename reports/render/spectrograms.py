"""Pictures of the audio: the reference above the variant, the same two sentences and one colour scale for both.

Shape letters: S samples, F frequency bins, T spectrogram frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from metrics.record import Utterance
from reports.data.source import Cell, Source
from reports.data.table import Row, Table
from reports.render.plots import Picture, save
from reports.sections.audio import read_audio, utterance_of
from reports.words import listed, slug

WINDOW_SAMPLES = 1024
HOP_SAMPLES = 256
RANGE_DB = 80.0
NUM_EXAMPLES = 2
TITLE_LETTERS = 46
NUM_COLORS = 96


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Panel:
    level_db_FT: np.ndarray
    seconds: float
    top_khz: float


def example_ids(source: Source) -> tuple[str, ...]:
    """The two sentences that are shown for every row: at a quarter and at three quarters of the lengths."""
    cells = ([source.reference] if source.reference else []) + list(source.cells)
    record = next((cell.record for cell in cells if cell.record is not None and cell.record.utterances), None)
    if record is None:
        return ()
    ids = [u.utterance_id for u in sorted(record.utterances, key=lambda u: (u.num_samples, u.utterance_id))]
    return tuple(dict.fromkeys(ids[(2 * k + 1) * len(ids) // (2 * NUM_EXAMPLES)] for k in range(NUM_EXAMPLES)))


def draw_spectrograms(table: Table, out: Path) -> dict[str, Picture]:
    """Row label -> its picture, plots/spectrogram-LABEL.png, for rows whose audio is there."""
    ids = example_ids(table.source)
    pictures = {}
    for row in table.rows:
        if row.is_reference or row.cell.record is None:
            continue
        pairs = [_pair(table, row.cell, utterance_id) for utterance_id in ids]
        shown = [pair for pair in pairs if pair is not None]
        if shown:
            pictures[row.label] = _draw(row, table, shown, out)
    return pictures


def _pair(table: Table, cell: Cell, utterance_id: str) -> tuple[Utterance, _Panel | None, _Panel] | None:
    """(sentence, reference's panel, variant's panel); None where the variant's audio is gone."""
    own = utterance_of(cell, utterance_id)
    panel = _panel(table.source, cell, own)
    if own is None or panel is None:
        return None
    reference = table.source.reference
    theirs = _panel(table.source, reference, utterance_of(reference, utterance_id)) if reference else None
    return own, theirs, panel


def _panel(source: Source, cell: Cell, utterance: Utterance | None) -> _Panel | None:
    audio = read_audio(source.path_of(cell, utterance.audio_path)) if utterance else None
    if audio is None:
        return None
    audio_S, rate_hz = audio
    return _Panel(level_db_FT=levels_db(audio_S), seconds=audio_S.size / rate_hz, top_khz=rate_hz / 2000)


def levels_db(audio_S: np.ndarray) -> np.ndarray:
    """(F, T) magnitude of a Hann short-time Fourier transform in dB; samples that are not finite count as silence."""
    finite_S = np.nan_to_num(audio_S, nan=0.0, posinf=0.0, neginf=0.0)
    padded_S = np.pad(finite_S, (0, max(0, WINDOW_SAMPLES - finite_S.size)))
    frames = np.lib.stride_tricks.sliding_window_view(padded_S, WINDOW_SAMPLES)[::HOP_SAMPLES]
    spectrum_TF = np.abs(np.fft.rfft(frames * np.hanning(WINDOW_SAMPLES), axis=1))
    return np.asarray(20 * np.log10(np.maximum(spectrum_TF, 1e-7)).T)


def _draw(row: Row, table: Table, pairs: list[tuple[Utterance, _Panel | None, _Panel]], out: Path) -> Picture:
    num_lines = 2 if any(theirs is not None for _, theirs, _ in pairs) else 1
    figure = Figure(figsize=(5.4 * len(pairs), 0.7 + 2.1 * num_lines), dpi=100, layout="constrained")
    axes = figure.subplots(num_lines, len(pairs), squeeze=False)
    image = None
    for column, (utterance, theirs, own) in enumerate(pairs):
        lines = [("reference", theirs), (row.label, own)] if num_lines == 2 else [(row.label, own)]
        top_db = max(float(panel.level_db_FT.max()) for _, panel in lines if panel is not None)
        end_s = max(panel.seconds for _, panel in lines if panel is not None)
        for line, (name, panel) in enumerate(lines):
            place = axes[line][column]
            place.set_facecolor("black")
            if panel is not None:
                image = place.imshow(
                    panel.level_db_FT - top_db,
                    origin="lower",
                    aspect="auto",
                    cmap="magma",
                    vmin=-RANGE_DB,
                    vmax=0,
                    extent=(0, panel.seconds, 0, panel.top_khz),
                )
            place.set_xlim(0, end_s)
            place.tick_params(labelsize=8, labelbottom=line == num_lines - 1)
            if column == 0:
                place.set_ylabel(f"{name}\nkHz", fontsize=9)
        axes[0][column].set_title(_title(utterance), fontsize=9)
        axes[-1][column].set_xlabel("s", fontsize=9)
    assert image is not None
    bar = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.01)
    bar.set_label("dB under the louder of the two", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    ids = listed([utterance.utterance_id for utterance, _, _ in pairs])
    label = table.source.reference.label if table.source.reference and num_lines == 2 else "no reference"
    return Picture(
        path=save(figure, out, f"spectrogram-{slug(row.label)}", NUM_COLORS),
        title=f"{row.label}, below the reference ({label})" if num_lines == 2 else row.label,
        alt=f"Spectrograms of sentences {ids} by {row.label}, below those of the reference",
    )


def _title(utterance: Utterance) -> str:
    text = utterance.text
    short = text if len(text) <= TITLE_LETTERS else text[:TITLE_LETTERS].rsplit(" ", 1)[0] + " ..."
    return f"{utterance.utterance_id}: {short}".replace("$", r"\$")
