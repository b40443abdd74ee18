"""The table on a terminal: the key columns, as many as fit with whole names, then what has no speed and why."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from metrics.stats import MIN_TRIALS
from reports.data.context import VOID, context_of, warnings_of
from reports.data.quality import LOG_MEL, PESQ, RANDOM_WEIGHTS
from reports.data.table import Row, Table, is_void
from reports.sections.column import Column
from reports.sections.columns import terminal_columns
from reports.sections.notes import MACHINE_WORD, STATUS_WORDS, headline_of, left_out, note_of, other_model_of
from reports.sections.scores import METRIC_NAMES, quality_text
from reports.words import ABSENT, listed, significant

WIDTH = 100
KEYS = 3  # variant, evaluations, RTF


def stdout_console() -> Console:
    """As wide as the terminal; a pipe has no width, so it gets 100 columns."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=WIDTH, highlight=False)


def print_report(table: Table, console: Console) -> None:
    """Headline, table, reasons, warnings. The caption with the seconds of audio stands under the table."""
    context = context_of(table)
    console.print(Text(headline_of(table, context)))
    console.print()
    columns, narrower = _fitting(table, console)
    console.print(_grid(table, columns))
    if narrower:
        console.print(Text(f"too wide for {console.width} columns, see the report: {listed(narrower)}"))
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


def row_line(row: Row) -> str:
    """One row as it becomes known: its speed and its closeness, or what there is instead."""
    if row.timing is None or is_void(row):
        return f"{row.label}: {note_of(row)}"
    said = [f"RTF {significant(row.timing.rtf)}", f"p50 {significant(row.timing.p50_ms)} ms"]
    if not row.is_reference:
        scores = [metric for metric in (LOG_MEL, PESQ) if metric in row.quality]
        said += [f"{METRIC_NAMES[metric]} {quality_text(row, metric)}" for metric in scores]
    return f"{row.label}: {', '.join(said)}"


def _fitting(table: Table, console: Console) -> tuple[list[Column], list[str]]:
    """(columns whose names and figures stay whole side by side, headers of those that had to go).

    Empty ones go first, then from the right; the first KEYS never do.
    """
    columns, gone = list(terminal_columns(table)), []
    while len(columns) > KEYS and _width(table, columns) > console.width:
        empty = [column for column in columns[KEYS:] if all(column.text(row) == ABSENT for row in table.rows)]
        gone.append(empty[-1] if empty else columns[-1])
        columns.remove(gone[-1])
    return columns, [column.header for column in reversed(gone)]


def _width(table: Table, columns: Sequence[Column]) -> int:
    """Cells of a line in which no name, figure or word of a note is broken."""
    texts = [[column.header, *(column.text(row) for row in table.rows)] for column in columns]
    words = ["note", *(word for row in table.rows for word in _word(row).split())]
    return sum(max(map(cell_len, column)) + 1 for column in texts) + 1 + max(map(cell_len, words))


def _grid(table: Table, columns: Sequence[Column]) -> Grid:
    grid = Grid(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        number = column.is_numeric
        grid.add_column(Text(column.header), justify="right" if number else "left", no_wrap=True, overflow="fold")
    grid.add_column(Text(" note"), overflow="fold")
    for row in table.rows:
        grid.add_row(*(Text(column.text(row)) for column in columns), Text(f" {_word(row)}".rstrip()))
    return grid


def _word(row: Row) -> str:
    if row.validity == "random":
        return RANDOM_WEIGHTS
    if row.is_reference and row.timing and not is_void(row):
        return "reference"
    if row.status == "ok" and other_model_of(row):
        return "another model than the reference's"
    return STATUS_WORDS.get(row.status, MACHINE_WORD if is_void(row) else "")
