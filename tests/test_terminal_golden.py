"""What a run and a sweep show on a terminal of 80 and of 160 columns and without one, held against golden files.

The display is driven with made records: the plan, rows as they become known, and the report with its verdict.
`GOLDEN=write pytest tests/test_terminal_golden.py` writes the files again, to be read before they are committed.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest
from rich.console import Console

from experiments.common.progress import Board, Planned, expected_text
from reports.data.table import load_table
from reports.render.terminal import WIDTH, print_report, row_line
from tests.report_sweeps import UPSTREAM, Judgeable, write_judgeable

HERE = Path(__file__).parent
ROWS = {
    "run": [Judgeable(label="int8-euler_7", audio="a", slowness=1.3, log_mel=0.41)],
    "sweep": [
        UPSTREAM,
        Judgeable(label="fp32-euler_32", audio="a", slowness=10.0),
        Judgeable(label="int8-euler_7", audio="a", slowness=1.3, log_mel=0.41),
        Judgeable(label="onnx_int8-fitted_4-vocoder=vocos_onnx", audio="b", slowness=1.0, log_mel=0.62),
    ],
}  # fmt: skip
SHOWN = {"80": 80, "160": 160, "pipe": None}


def console(file: io.StringIO, width: int | None) -> Console:
    """A terminal without colours, or none, as wide as stdout_console makes it."""
    if width is None:
        return Console(file=file, width=WIDTH, highlight=False, force_terminal=False)
    return Console(file=file, width=width, highlight=False, force_terminal=True, color_system=None)


def shown(kind: str, width: int | None, folder: Path) -> str:
    """The lines that stay: the bar, which is drawn over itself, is left out."""
    table = load_table(write_judgeable(folder, ROWS[kind]))
    progress, report = io.StringIO(), io.StringIO()
    plans = [Planned(label=row.label, num_trials=61, num_evals=14, expected_s=47.0) for row in ROWS[kind]]
    board = Board(plans, console=console(progress, width), now_s=lambda: 0.0)
    board.say(f"{expected_text(plans)}; records in outputs/a, each variant's worker.log in its folder there")
    for place, row in enumerate(table.rows):
        board.finish(place, "ok", None)
        board.say(row_line(row))
    drawn = [line.rsplit("\r", 1)[-1].rstrip() for line in progress.getvalue().splitlines()]
    kept = [line for line in drawn if line and "\x1b" not in line]
    print_report(table, console(report, width))
    said = re.sub(r"`.*` shows them", "`...` shows them", report.getvalue())  # the command that works on this machine
    return "\n".join([*kept, *(line.rstrip() for line in said.splitlines())]) + "\n"


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("where", SHOWN)
def test_the_terminal_shows_what_it_showed(kind: str, where: str, tmp_path: Path) -> None:
    golden, said = HERE / f"terminal_{kind}_{where}.txt", shown(kind, SHOWN[where], tmp_path)
    if os.environ.get("GOLDEN") == "write":
        golden.write_text(said, encoding="utf-8")
    assert said == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("where", ["80", "160"])
def test_no_line_is_broken_inside_a_word_and_none_is_too_long(kind: str, where: str, tmp_path: Path) -> None:
    """The words of a narrow terminal are those of one on which nothing is broken, but for names that are cut."""
    width = int(where)
    narrow, wide = (shown(kind, columns, tmp_path / str(columns)) for columns in (width, 1000))
    narrow = re.sub(r"`...` shows them with COLUMNS=\d+\n", "", narrow)
    words = {word.strip(",:") for word in f"{wide} too wide for {width} columns and".split()}
    assert {word.strip(",:") for word in narrow.split() if "…" not in word} <= words
    assert max(map(len, narrow.splitlines())) <= width
    for raw in ("**", "| ---", '{"', "None", "nan"):
        assert raw not in narrow
