"""What the keys of a configuration may hold: bounds and kinds that several groups share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypedDict

from annotated_types import Ge, Le

LONGEST_S = 1e9  # thirty years; beyond it the waiting functions of the system overflow
MOST_BYTES = 1 << 50
MOST_COUNT = 10**6
WIDEST = 1 << 16  # of a layer


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Of a key: what it may be is checked, and said, where it is read."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """Of a key: says what it may be, where its kind does not."""

    words: str


Size = Annotated[int, Ge(1), Le(WIDEST)]
Many = Annotated[int, Ge(0), Le(1000)]
Some = Annotated[int, Ge(1), Le(1000)]


class Named(TypedDict):
    """A group is called as the preset that it was made of, or as somebody calls it."""

    name: str
