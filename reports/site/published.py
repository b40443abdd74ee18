"""What lies in reports/published, read back: the tables of its Markdown, the verdicts of its pairs and quality gates.

Cells are kept as the text that they are. A figure on the results page is one of a published file, letter by letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

HEADING = re.compile(r"^#{1,6} +(.*\S)")
CELLS = re.compile(r"(?<!\\)\|")
RULE = re.compile(r":?-+:?")
DATED = re.compile(r"(?P<kind>[a-z0-9_]+?)_(?P<host>[a-z0-9-]+)_(?P<date>\d{4}-\d{2}-\d{2})")
VERDICT = re.compile(r"(?P<outcome>[A-Z_]+): (?P<quality>quality of )?(?P<candidate>\S+) against (?P<base>\S+)$")
PAIRS = re.compile(r"(\d+) pairs in (\d+) block")
TIME = "wall_time"


@dataclass(frozen=True, slots=True)
class Table:
    """One table, under the heading it stands below; every row has as many cells as the header."""

    heading: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, name: str) -> tuple[str, ...]:
        at = self.header.index(name)
        return tuple(row[at] for row in self.rows)

    def by_first(self) -> Mapping[str, Mapping[str, str]]:
        """First cell of a row -> its cells by header."""
        return {row[0]: dict(zip(self.header, row, strict=True)) for row in self.rows}


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """A section `OUTCOME: CANDIDATE against BASE`: its table, and the text around it. path: of the file."""

    outcome: str
    candidate: str
    base: str
    is_quality: bool
    table: Table
    text: str
    path: Path

    @property
    def pairs(self) -> str:
        """`24 in 4`: pairs in blocks of fresh processes."""
        found = PAIRS.search(self.text)
        return f"{found[1]} in {found[2]}" if found else "-"


@dataclass(frozen=True, slots=True)
class Place:
    """A published file or folder by its name: KIND_HOST-CLASS_DATE."""

    kind: str
    host_class: str
    date: str
    path: Path


def places(folder: Path) -> list[Place]:
    """Everything in it that is named so, by kind, host class and date. ValueError for what is named otherwise."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.name == "LOG.md":
            continue
        match = DATED.fullmatch(path.name.removesuffix(".md"))
        if match is None:
            raise ValueError(f"{path.name}: published names are KIND_HOST-CLASS_YYYY-MM-DD; rename it")
        found.append(Place(match["kind"], match["host"], match["date"], path))
    return found


def tables_of(text: str) -> list[Table]:
    """The tables of a Markdown text, in order; those inside of code are none."""
    found: list[Table] = []
    heading, block, is_code = "", list[str](), False
    for line in [*text.splitlines(), ""]:
        is_code ^= line.startswith("```")
        if line.startswith("|") and not is_code:
            block.append(line)
            continue
        if (table := _table(heading, block)) is not None:
            found.append(table)
        block = []
        if not is_code and (match := HEADING.match(line)):
            heading = match[1]
    return found


def _table(heading: str, block: list[str]) -> Table | None:
    rows = [tuple(cell.strip() for cell in CELLS.split(line)[1:-1]) for line in block]
    if len(rows) < 2 or not all(RULE.fullmatch(cell) for cell in rows[1]):
        return None
    return Table(heading, rows[0], tuple(row for row in rows[2:] if len(row) == len(rows[0])))


def verdicts_of(path: Path) -> Iterator[Verdict]:
    """Every verdict of a file, of pairs or of quality, that has its table."""
    for section in re.split(r"^(?=## )", path.read_text("utf-8"), flags=re.MULTILINE):
        heading = HEADING.match(section)
        match = VERDICT.match(heading[1]) if heading else None
        tables = tables_of(section)
        if match is not None and tables:
            yield Verdict(
                outcome=match["outcome"], candidate=match["candidate"], base=match["base"],
                is_quality=match["quality"] is not None, table=tables[0], text=section, path=path,
            )  # fmt: skip
