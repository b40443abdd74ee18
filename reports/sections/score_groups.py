"""All scores with variants as rows: metrics in groups, the floors as the first rows, nothing that is empty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metrics.fidelity.catalog import by_name
from reports.data.table import Table
from reports.sections.floors import quality_header, quality_lines
from reports.words import ABSENT

GROUPS: Mapping[str, str] = {
    "log_mel": "spectrum", "lsd": "spectrum", "mcd": "spectrum", "snr": "waveform", "si_sdr": "waveform",
    "gain": "waveform", "pesq": "by ear models", "stoi": "by ear models", "estoi": "by ear models",
    "predicted_mos": "by ear models", "blind_snr": "noise and faults", "artifacts": "noise and faults",
    "prosody": "melody and pauses", "loudness": "melody and pauses", "wer": "words", "wer_closed": "words",
    "speaker": "voice",
}  # fmt: skip
ORDER = ("words", "voice", "noise and faults", "spectrum", "by ear models", "waveform", "melody and pauses")
ORACLE = "against the oracle on the same grid"
FLOORS = ("same run again", "another seed")
PERCENT = " in percent"


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreColumn:
    """name: as stored; title: without what its group says already; cells: by row label or floor."""

    name: str
    title: str
    cells: Mapping[str, str]
    recipe: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreGroup:
    title: str
    columns: tuple[ScoreColumn, ...]


def score_groups(table: Table) -> tuple[ScoreGroup, ...]:
    """Every score that any row has a number for."""
    header = quality_header(table)
    grouped: dict[str, list[ScoreColumn]] = {}
    for line in quality_lines(table):
        name, *cells = line
        found = dict(zip(header[1:], cells, strict=True))
        grouped.setdefault(_group(name), []).append(
            ScoreColumn(name=name, title=_title(name), cells=found, recipe=found["recipe"])
        )
    return tuple(
        ScoreGroup(title=title, columns=tuple(grouped[title])) for title in (*ORDER, ORACLE) if title in grouped
    )


def score_rows(table: Table) -> tuple[str, ...]:
    """The floors that were made, then the labels of the rows."""
    columns = [column for group in score_groups(table) for column in group.columns]
    floors = [name for name in FLOORS if any(column.cells[name] != ABSENT for column in columns)]
    return (*floors, *quality_header(table)[3:-1])


def _group(name: str) -> str:
    metric = name.removesuffix(PERCENT)
    return ORACLE if "_vs_oracle" in metric else GROUPS[by_name()[metric].family]


def _title(name: str) -> str:
    """wer_frac in percent -> wer %; lsd_0_4k_vs_reference_db -> lsd 0 4k dB."""
    metric = name.removesuffix(PERCENT).replace("_vs_reference", "").replace("_vs_oracle", "")
    words = metric.removesuffix("_frac").split("_")
    unit = {"db": "dB", "hz": "Hz", "st": "semitones", "lufs": "LUFS", "s": "s"}
    words[-1] = unit.get(words[-1], words[-1])
    return " ".join(words) + (" %" if name.endswith(PERCENT) else "")
