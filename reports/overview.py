"""The overview of a sweep on several host classes: what each has measured, and where its own table lies.

Figures of two classes stand side by side, each as that class measured it, and are never divided by one another.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from metrics.record import write_atomically
from reports.data.fleet import HostTable, host_tables
from reports.data.table import Row, Table, is_void
from reports.render.every import Rendered, render_report
from reports.render.markdown import table_block
from reports.words import ABSENT, significant

OVERVIEW = "overview.md"
HEADER = ("host class", "measured", "fastest here", "RTF", "p50 ms", "report")


def render_fleet(folder: Path) -> tuple[dict[str, Rendered], Path]:
    """The report of every class in its own folder, by name, and the overview. Raises RecordError."""
    hosts = host_tables(folder)
    rendered = {host.name: render_report(folder / host.name) for host in hosts}
    target = folder / OVERVIEW
    write_atomically(target, overview(hosts, {name: one.table for name, one in rendered.items()}))
    return rendered, target


def overview(hosts: tuple[HostTable, ...], tables: Mapping[str, Table]) -> str:
    """Markdown: a line for every class, then the RTF of every variant where it was measured."""
    lines = [_line(host, tables[host.name]) for host in hosts]
    blocks = [f"# {len(hosts)} host classes", *table_block(HEADER, lines, (False, True, False, True, True, False))]
    blocks += [f"{host.name}: {host.reason}." for host in hosts if host.reason]
    labels = list(dict.fromkeys(row.label for table in tables.values() for row in table.rows))
    grid = [[label, *(_rtf(_row_of(tables[host.name], label)) for host in hosts)] for label in labels]
    blocks.append("RTF of each variant as its own host class measured it. Machines differ: no figure here is to be "
                  "divided by one of another column; ratios are in each class's report.")  # fmt: skip
    blocks += table_block(("variant", *(host.name for host in hosts)), grid, (False, *(True for _ in hosts)))
    return "\n\n".join(blocks) + "\n"


def _line(host: HostTable, table: Table) -> list[str]:
    timed = [row for row in table.timed_rows if not is_void(row) and row.timing is not None]
    fastest = min(timed, key=lambda row: row.timing.rtf if row.timing else 0.0, default=None)
    num_ok = sum(row.timing is not None for row in table.rows)
    said = [host.name, f"{num_ok} of {len(table.rows)}"]
    if fastest is None or fastest.timing is None:
        return [*said, ABSENT, ABSENT, ABSENT, f"{host.name}/report.md"]
    timing = fastest.timing
    return [*said, fastest.label, significant(timing.rtf), significant(timing.p50_ms), f"{host.name}/report.md"]


def _row_of(table: Table, label: str) -> Row | None:
    return next((row for row in table.rows if row.label == label), None)


def _rtf(row: Row | None) -> str:
    if row is None:
        return ABSENT
    return row.status if row.timing is None else "void" if is_void(row) else significant(row.timing.rtf)
