"""One call that leaves every form of the report in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metrics.record import RecordError, write_atomically
from reports.data.export import write_exports
from reports.data.source import RESULT, SWEEP
from reports.data.table import Table, load_table
from reports.render.document import document_of
from reports.render.html import render_html
from reports.render.markdown import render_markdown


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rendered:
    """paths: the files in the order a reader wants them: report.md, report.html, rows.csv, samples.parquet."""

    table: Table
    paths: tuple[Path, ...]


def render_report(folder: Path, out: Path | None = None, *, small: bool = False) -> Rendered:
    """Render a RUN or SWEEP folder into `out` (default: the folder itself). Rendering again gives the same files.

    small: report.md and its charts alone, for a repository: no audio, spectrograms, page or tables of trials.

    Raises RecordError for a folder that holds neither, or another schema version, and UnjudgedRow.
    """
    if small and out is not None and any((out / name).exists() for name in (RESULT, SWEEP, "report.html")):
        raise RecordError(f"{out}: holds a run or a whole report; publish into a folder of its own")
    table = load_table(folder)
    target = folder if out is None else out
    document = document_of(table, target, small=small)
    if small:
        write_atomically(target / "report.md", render_markdown(document))
        return Rendered(table=table, paths=(target / "report.md",))
    markdown, html = target / "report.md", target / "report.html"
    exports = write_exports(table, target)
    write_atomically(markdown, render_markdown(document))
    write_atomically(html, render_html(document, target))
    return Rendered(table=table, paths=(markdown, html, *exports))
