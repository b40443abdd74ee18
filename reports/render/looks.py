"""One sentence to look at: the spectrogram of the reference, and of each variant what it has more or less of.

Bare rasters; the page writes their words itself, so that those follow it into the dark. Shape letters: F frequency
bins, T spectrogram frames.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image

from reports.data.source import REFERENCE, Cell
from reports.data.table import Table
from reports.render.spectrograms import RANGE_DB, example_ids, levels_db
from reports.sections.audio import audio_of, spoken_cells, utterance_of

DIFFERENCE_DB = 24.0
WIDTH, HEIGHT = 420, 150
NUM_COLORS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """uri: a PNG as a data URI; note: what cannot be seen from it."""

    label: str
    uri: str
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Looks:
    """first: the one that the others are differences from; `name` says which. seconds and top_khz: its axes."""

    sentence: str
    name: str
    first: Look
    others: tuple[Look, ...]
    seconds: float
    top_khz: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Heard:
    label: str
    level_db_FT: np.ndarray
    seconds: float
    top_khz: float


def looks_of(table: Table) -> Looks | None:
    """Of the first of the report's example sentences that the reference, or else a row, has audio of."""
    cells = dict(spoken_cells(table))
    reference = table.source.reference
    names = sorted(cells, key=lambda name: (cells[name] is not reference, name != table.base_label))
    for utterance_id in example_ids(table.source):
        heard = [found for name in names if (found := _heard(table, name, cells[name], utterance_id)) is not None]
        if heard:
            return _looks(heard, _text(cells, utterance_id), is_reference=cells[heard[0].label] is reference)
    return None


def _looks(heard: list[_Heard], sentence: str, *, is_reference: bool) -> Looks:
    first = heard[0]
    top_db = float(first.level_db_FT.max())
    level_FT = np.clip((first.level_db_FT - top_db) / RANGE_DB + 1, 0, 1)
    return Looks(
        sentence=sentence,
        name=_reference_name(first.label) if is_reference else first.label,
        first=Look(label=first.label, uri=_raster(level_FT, "magma"), note=""),
        others=tuple(_difference(first, other, top_db) for other in heard[1:]),
        seconds=first.seconds,
        top_khz=first.top_khz,
    )


def _reference_name(label: str) -> str:
    return "the reference" if label == REFERENCE else f"the reference ({label})"


def _difference(first: _Heard, other: _Heard, top_db: float) -> Look:
    """Both over the same floor, so that silence against silence is no difference."""
    frames = min(first.level_db_FT.shape[1], other.level_db_FT.shape[1])
    theirs_FT, own_FT = (np.clip(one.level_db_FT[:, :frames], top_db - RANGE_DB, top_db) for one in (first, other))
    share_FT = np.clip((own_FT - theirs_FT) / (2 * DIFFERENCE_DB) + 0.5, 0, 1)
    longer_s = other.seconds - first.seconds
    note = f"{abs(longer_s):.2f} s {'longer' if longer_s > 0 else 'shorter'}" if abs(longer_s) >= 0.005 else ""
    mean_db = float(np.abs(own_FT - theirs_FT).mean())
    said = f"{mean_db:.1f} dB apart on average" if mean_db >= 0.05 else "no difference to be seen"
    return Look(label=other.label, uri=_raster(share_FT, "RdBu_r"), note=", ".join(filter(None, (said, note))))


def _raster(share_FT: np.ndarray, colors: str) -> str:
    """Shares of a colour map, low frequencies at the foot, as a small PNG."""
    rgb = (matplotlib.colormaps[colors](share_FT[::-1])[..., :3] * 255).astype(np.uint8)
    image = Image.fromarray(rgb).resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.quantize(NUM_COLORS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _heard(table: Table, name: str, cell: Cell, utterance_id: str) -> _Heard | None:
    audio = audio_of(table.source, cell, utterance_id)
    if audio is None:
        return None
    audio_S, rate_hz = audio
    return _Heard(label=name, level_db_FT=levels_db(audio_S), seconds=audio_S.size / rate_hz, top_khz=rate_hz / 2000)


def _text(cells: dict[str, Cell], utterance_id: str) -> str:
    found = (utterance_of(cell, utterance_id) for cell in cells.values())
    return next((u.text for u in found if u is not None), utterance_id)
