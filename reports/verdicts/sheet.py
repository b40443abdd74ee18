"""One verdict, whichever rule gave it, and its forms: Markdown, lines for a terminal, junit.xml, files in a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from metrics.record import to_json, write_atomically
from reports.verdicts.coloured import print_verdict
from reports.verdicts.junit import Case, junit_suite

STICKY_MARK = "<!-- f5bench-gate -->"  # by which a bot finds the comment to update


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """What one metric or rule found. outcome: its word. change: the effect with its bounds, for a terminal. cells: of
    the Markdown table, between name and outcome. explanation: empty where there is no more to say."""

    name: str
    outcome: str
    change: str = ""
    cells: tuple[str, ...] = ()
    explanation: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """said: the outcome in words. sentences: what comes before it. evidence: by what right it is said. columns: headers
    of the lines' cells. todo: commands by what each is for. notes: below the lines. warnings: what the reader of any
    verdict must know. background: of the Markdown alone. suite, label, cases, properties: as junit.xml has them."""

    outcome: str
    title: str
    said: str = ""
    sentences: tuple[str, ...] = ()
    evidence: str = ""
    columns: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    warnings: tuple[str, ...] = ()
    todo: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    background: tuple[str, ...] = ()
    suite: str
    label: str
    cases: tuple[Case, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)


def terminal_lines(sheet: Sheet) -> Iterator[str]:
    yield ": ".join(filter(None, (sheet.outcome, sheet.title, sheet.said)))
    yield from (f"  {sentence}" for sentence in sheet.sentences)
    width = max((len(line.name) for line in sheet.lines), default=0)
    for line in sheet.lines:
        yield f"  {line.outcome:<12} {line.name:<{width}} {line.change}".rstrip(" -")
        if line.explanation:
            yield f"{'':15}{_one_line(line.explanation)}"
    yield from (f"  {what}: {command}" for what, command in sheet.todo)
    yield from (f"  {text}" for text in (*sheet.notes, sheet.evidence) if text)
    yield from (f"warning: {text}" for text in sheet.warnings)


def markdown_of(sheet: Sheet) -> str:
    """For a comment on a pull request, and for the page."""
    parts = [
        f"## {sheet.outcome}: {sheet.title}",
        " ".join(sheet.sentences),
        " ".join(_sentence(text) for text in (sheet.said, sheet.evidence) if text),
        "\n".join(_table(sheet)),
        "\n".join(_sentence(_cell(f"warning: {text}")) for text in sheet.warnings),
        "\n".join(f"- **{line.name}**: {_cell(line.explanation)}" for line in sheet.lines if line.explanation),
        "\n".join(f"- {what}: `{command}`" for what, command in sheet.todo),
        "\n".join(f"- {_sentence(_cell(text))}" for text in sheet.notes),
        *sheet.background,
        STICKY_MARK,
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def junit_of(sheet: Sheet) -> str:
    return junit_suite(sheet.suite, sheet.label, sheet.cases, sheet.properties)


def write_verdict(sheet: Sheet, content: Mapping[str, object], out: Path, name: str = "verdict.json") -> None:
    """The file `name` with `content`, summary.md and junit.xml in the folder `out`. Raises OSError."""
    write_atomically(out / name, to_json(dict(content)) + "\n")
    write_atomically(out / "summary.md", markdown_of(sheet))
    write_atomically(out / "junit.xml", junit_of(sheet))


def show_verdict(sheet: Sheet, out: Path) -> None:
    """On the terminal, once the files are on the disk."""
    print_verdict(terminal_lines(sheet))
    print(f"verdict {out / 'verdict.json'}")


def _table(sheet: Sheet) -> Sequence[str]:
    if not sheet.lines:
        return ()
    first, *others = sheet.columns
    header = [f"| {' | '.join((first, *others))} | verdict |", f"|---|{'---:|' * len(others)}---|"]
    rows = [(line.name, *line.cells, line.outcome) for line in sheet.lines]
    return [*header, *(f"| {' | '.join(map(_cell, row))} |" for row in rows)]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _one_line(text).replace("|", "\\|")
