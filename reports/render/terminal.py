"""The table on a terminal: the key columns, as many as fit, then what has no speed and why.

A figure is never cut. Where a line is too long the names give way first, in their middle, then whole columns.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from metrics.stats import MIN_TRIALS
from reports.commands import here, typed
from reports.data.context import VOID, context_of, warnings_of
from reports.data.quality import LOG_MEL, PESQ, RANDOM_WEIGHTS
from reports.data.table import Row, Table, is_void
from reports.sections.column import Column
from reports.sections.columns import terminal_columns
from reports.sections.notes import MACHINE_WORD, STATUS_WORDS, headline_of, left_out, note_of, other_model_of
from reports.sections.scores import METRIC_NAMES, quality_text
from reports.words import ABSENT, cut, in_parts, listed, significant

WIDTH = 100
KEYS = 3  # variant, evaluations, RTF
NAME = 32  # cells of a name before a column goes for it, and
FEWEST = 12  # before a line is left longer than the terminal


def stdout_console() -> Console:
    """As wide as the terminal, or as COLUMNS says; a pipe has no width, so it gets 100 columns."""
    console = Console(highlight=False)
    has_width = console.is_terminal or os.environ.get("COLUMNS", "").isdigit()
    return console if has_width else Console(width=WIDTH, highlight=False)


def print_report(table: Table, console: Console) -> None:
    """Headline, table, reasons, warnings. The caption with the seconds of audio stands under the table."""
    table, settings = _named_short(table)
    context = context_of(table)
    console.print(Text(headline_of(table, context)))
    console.print()
    _print_table(table, console)
    if settings:
        console.print(Text(f"{table.rows[0].label} with {settings}"))
    if context is not None:
        env = context.environment
        console.print(Text(f"RTF: {context.seconds}; {env.get('host_class')}; workload {context.workload.get('name')}"))
    if any(row.timing.p95_ms is None for row in table.timed_rows if row.timing):
        console.print(Text(f"n=..<{MIN_TRIALS[0.95]}: n too small for a p95"))
    if table.base_label:
        console.print(Text(f"x base: how many times as fast as {table.base_label}"))
    for row in left_out(table):
        note = note_of(row)
        console.print(Text(f"{row.label}: {note}"), soft_wrap="`" in note)  # a command in it can be copied
    for warning in warnings_of(table):
        style = "bold red" if warning.startswith(VOID) else ""
        console.print(Text(f"warning: {warning}", style=style), soft_wrap="`" in warning)


def _named_short(table: Table) -> tuple[Table, str]:
    """A single variant needs no settings in its name to be told from others: (the table without them, they)."""
    if len(table.rows) != 1:
        return table, ""
    row = table.rows[0]
    name, settings = in_parts(row.label)
    base = name if table.base_label == row.label else table.base_label
    return replace(table, rows=(replace(row, label=name),), base_label=base), settings


def _print_table(table: Table, console: Console) -> None:
    columns, gone, name = _fitting(table, console.width)
    names = _cut_names([row.label for row in table.rows], name)
    grid = _grid(table, columns, names)
    if _beside_names(table, columns) + max(map(cell_len, names)) > console.width:
        grid.width = _beside_names(table, columns) + max(map(cell_len, names))
    console.print(grid, crop=False, overflow="ignore")
    if gone:
        whole = _beside_names(table, terminal_columns(table)) + max(cell_len(row.label) for row in table.rows)
        command = here(typed("reports", table.source.root, "--print"))
        console.print(Text(f"too wide for {console.width} columns: {listed(gone)}"))
        console.print(Text(f"`{command}` shows them with COLUMNS={whole}"), soft_wrap=True)


def row_line(row: Row) -> str:
    """One row as it becomes known: its speed and its closeness, or what there is instead."""
    if row.timing is None or is_void(row):
        return f"{row.label}: {note_of(row)}"
    said = [f"RTF {significant(row.timing.rtf)}", f"p50 {significant(row.timing.p50_ms)} ms"]
    if not row.is_reference:
        scores = [metric for metric in (LOG_MEL, PESQ) if metric in row.quality]
        said += [f"{METRIC_NAMES[metric]} {quality_text(row, metric)}" for metric in scores]
    return f"{row.label}: {', '.join(said)}"


def _fitting(table: Table, width: int) -> tuple[list[Column], list[str], int]:
    """(columns that stand side by side, headers of those that had to go, cells that are left for a name).

    Empty ones go first, then from the right; the first KEYS never do.
    """
    columns, gone = list(terminal_columns(table)), []
    wanted = min(NAME, max(cell_len(row.label) for row in table.rows)) if table.rows else 0
    while len(columns) > KEYS and width - _beside_names(table, columns) < wanted:
        empty = [column for column in columns[KEYS:] if all(column.text(row) == ABSENT for row in table.rows)]
        gone.append(empty[-1] if empty else columns[-1])
        columns.remove(gone[-1])
    return columns, [column.header for column in reversed(gone)], max(FEWEST, width - _beside_names(table, columns))


def _cut_names(labels: Sequence[str], most: int) -> list[str]:
    """At most so many cells each; those that would be alike get the number of their row."""
    names = [cut(label, most) for label in labels]
    return [
        name if names.count(name) == 1 else f"{cut(label, most - len(str(number)) - 1)}#{number}"
        for number, (label, name) in enumerate(zip(labels, names, strict=True), 1)
    ]


def _beside_names(table: Table, columns: Sequence[Column]) -> int:
    """Cells of a line but for the name, in which no figure or word of a note is broken."""
    texts = [[column.header, *(column.text(row) for row in table.rows)] for column in columns[1:]]
    words = ["note", *(word for row in table.rows for word in _word(row).split())]
    return sum(max(map(cell_len, column)) + 1 for column in texts) + 2 + max(map(cell_len, words))


def _grid(table: Table, columns: Sequence[Column], names: Sequence[str]) -> Grid:
    grid = Grid(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        number = column.is_numeric
        grid.add_column(Text(column.header), justify="right" if number else "left", no_wrap=True, overflow="fold")
    grid.add_column(Text(" note"), overflow="fold")
    for row, name in zip(table.rows, names, strict=True):
        texts = [name, *(column.text(row) for column in columns[1:])]
        grid.add_row(*map(Text, texts), Text(f" {_word(row)}".rstrip()))
    return grid


def _word(row: Row) -> str:
    if row.validity == "random":
        return RANDOM_WEIGHTS
    if row.is_reference and row.timing and not is_void(row):
        return "reference"
    if row.status == "ok" and other_model_of(row):
        return "another model than the reference's"
    return STATUS_WORDS.get(row.status, MACHINE_WORD if is_void(row) else "")
