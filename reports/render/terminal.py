"""The table on a terminal of 100 columns: the key columns, then what has no speed and why."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from metrics.stats import MIN_TRIALS
from reports.data.context import VOID, context_of, warnings_of
from reports.data.quality import LOG_MEL, PESQ, RANDOM_WEIGHTS
from reports.data.table import Row, Table, is_void
from reports.sections.columns import terminal_columns
from reports.sections.notes import MACHINE_WORD, STATUS_WORDS, headline_of, left_out, note_of, other_model_of
from reports.sections.scores import METRIC_NAMES, quality_text
from reports.words import significant

WIDTH = 100


def stdout_console() -> Console:
    """As wide as the terminal; a pipe has no width, so it gets 100 columns."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(width=WIDTH, highlight=False)


def print_report(table: Table, console: Console) -> None:
    """Headline, table, reasons, warnings. The caption with the seconds of audio stands under the table."""
    context = context_of(table)
    console.print(Text(headline_of(table, context)))
    console.print()
    console.print(_grid(table))
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


def _grid(table: Table) -> Grid:
    columns = terminal_columns(table)
    grid = Grid(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        number = column.is_numeric
        grid.add_column(Text(column.header), justify="right" if number else "left", no_wrap=number, overflow="fold")
    grid.add_column(Text(" note"), overflow="fold", min_width=10)
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
