"""The table of all scores: every row between the same run again and another seed, recipes beside them."""

from dataclasses import replace
from pathlib import Path

import pytest

from metrics.record import Floor, load_record, save_record
from reports.data.table import load_table
from reports.render.every import render_report
from reports.sections.floors import NO_FLOOR, quality_header, quality_lines
from tests.test_report_data import DEFAULT_CELLS, write_sweep

LOG_MEL = "log_mel_mae_vs_reference"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path, DEFAULT_CELLS)


def with_floor(folder: Path) -> None:
    """What scoring writes into every record of a workload whose floor was made."""
    floor = Floor(metric=LOG_MEL, repeat=0.0, other_seed=0.8, other_seed_sd=0.1, num_seeds=5, num_pairs=16)
    for path in sorted((folder / "cells").glob("*/result.json")):
        record = load_record(path)
        save_record(replace(record, floors=(floor,), recipes={LOG_MEL: "mean absolute difference, nats"}), path)


def lines_of(folder: Path) -> dict[str, dict[str, str]]:
    table = load_table(folder)
    header = quality_header(table)
    return {line[0]: dict(zip(header, line, strict=True)) for line in quality_lines(table)}


def test_each_score_stands_between_its_floors(sweep: Path) -> None:
    with_floor(sweep)
    line = lines_of(sweep)[LOG_MEL]
    assert (line["same run again"], line["another seed"]) == ("0.000", "0.800")
    assert line["fp32-euler_7"] == "0.200 (0.25)"
    assert line["int8-euler_7"] == "0.250 (0.31)"
    assert line["upstream-euler_32"] == "0.000 (0.00)"
    assert line["recipe"] == "mean absolute difference, nats"
    assert "amp-euler_7" not in line, "invalid audio has no place in it"


def test_without_a_floor_the_report_says_how_to_make_one(sweep: Path) -> None:
    assert lines_of(sweep)[LOG_MEL]["fp32-euler_7"] == "0.200"
    render_report(sweep)
    for name in ("report.md", "report.html"):
        text = (sweep / name).read_text(encoding="utf-8")
        assert "All scores between their floors" in text
        assert NO_FLOOR.split(":")[0] in text
