"""What a verdict.json says in plain words: parts of one sentence, rows of a small table, what to do.

Read from the file alone, every value checked: it may come from the pull request of a stranger. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, TypeVar

from metrics.typed import from_json
from metrics.verdict import OLD_WORDS, Outcome
from reports.verdicts.spoken.plain import between, code, is_bounded, speed

Said = Literal["PASS", "WARN", "FAIL", "INCONCLUSIVE", "INVALID_ENV", "NO_BASELINE", "FAILED"]
Kind = TypeVar("Kind")
UNSURE = "cannot tell whether it is slower"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the table; every cell is Markdown."""

    what: str
    before: str
    after: str
    change: str
    said: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Spoken:
    """speed, quality, memory: parts of the sentence, None where the verdict knows nothing of it. ratio: after / before
    of the time of a call with its bounds. notes: what to do, or why. details: how it was measured. sides: what stands
    over the columns of `rows`; two variants of one tree are no before and after. is_of_quality: whether somebody
    expects a word on quality."""

    outcome: Said
    speed: str | None = None
    quality: str | None = None
    memory: str | None = None
    ratio: tuple[float, float, float] | None = None
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    sides: tuple[str, str] = ("before", "after")
    is_of_quality: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    host_class: str | None = None
    device: str | None = None
    threads: int | None = None


def pick(kind: type[Kind], data: object) -> Kind:
    """The fields of `kind` out of `data`, which may hold more. Raises ValueError."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{kind.__name__}: must be a group of entries")
    return from_json(kind, {f.name: data[f.name] for f in fields(kind) if f.name in data})  # type: ignore[arg-type]


def listed(content: Mapping[str, object], name: str) -> tuple[Mapping[str, object], ...]:
    """The entries of a list of the file, in its order; none where it is null. Raises KeyError or ValueError."""
    entries = content[name]
    if entries is None:
        return ()
    if not isinstance(entries, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ValueError(f"{name}: must be a list of groups of entries")
    return tuple(entries)


def outcome_of(content: Mapping[str, object]) -> Outcome:
    """The word of today for a word of before. Raises ValueError."""
    word = str(content["outcome"])
    return pick(_Word, {"outcome": OLD_WORDS.get(word, word)}).outcome


@dataclass(frozen=True, slots=True)
class _Word:
    outcome: Outcome


def interval(ratio: float, low: float, high: float) -> str:
    """The change with its bounds, decided or not."""
    if not is_bounded(low, high):
        return "too little was measured"
    return speed(ratio, low, high) if high < 1.0 or low > 1.0 else between(low, high)


def machine_line(content: Mapping[str, object]) -> tuple[str, ...]:
    machine = pick(Machine, content.get("environment", {}))
    if machine.host_class is None:
        return ()
    threads = "" if machine.threads is None else f", {machine.threads} threads"
    return (f"Machine: {code(machine.host_class)}, device {code(machine.device or '')}{threads}.",)
