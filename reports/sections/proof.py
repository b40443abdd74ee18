"""What an engine showed as proof that it is what its row says: one line for people, and the whole as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reports.data.table import Row, Table
from reports.words import plain_json, without_machine_paths

MOST_LETTERS = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    label: str
    line: str
    json: str


def proofs_of(table: Table) -> tuple[Proof, ...]:
    """Of every row that was built."""
    return tuple(found for row in table.rows if (found := _proof(row)) is not None)


def _proof(row: Row) -> Proof | None:
    facts = row.cell.record.facts if row.cell.record else None
    proof = (facts or {}).get("proof")
    if not proof:
        return None
    return Proof(label=row.label, line=_line(proof), json=plain_json(proof))


def _line(proof: Mapping[str, object]) -> str:
    """As many of its single values as fit: calls 87, num_evals 2784, vocoder.runtime eager, .."""
    words = ""
    for name, value in _leaves(proof):
        part = f"{name} {without_machine_paths(str(value))}"
        if len(words) + len(part) > MOST_LETTERS:
            return f"{words}, ..." if words else f"{part[:MOST_LETTERS]} ..."
        words = f"{words}, {part}" if words else part
    return words


def _leaves(part: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Single values first, then those of the parts below."""
    for name, value in part.items():
        if not isinstance(value, (Mapping, list, tuple)):
            yield f"{prefix}{name}", value
    for name, value in part.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            yield f"{prefix}{name}", f"({len(value)} entries)"
