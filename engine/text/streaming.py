"""Where a text is cut when its audio is wanted early: a short first chunk, then upstream's rule or growing chunks.

Cuts are made at sentence and clause ends only. A chunk under ten bytes would be spoken at 0.3 of the speed (upstream's
rule), so none is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.contract import ConfigError
from engine.settings import StreamSettings
from engine.text.chunks import SENTENCE_END, SHORT_TEXT_BYTES, split_text


@dataclass(frozen=True, slots=True)
class StreamRule:
    """first_chunk_max_bytes: of UTF-8, None cuts as upstream does. growth_ratio: how much longer each chunk may be than
    the one before, None for upstream's bound alone."""

    first_chunk_max_bytes: int | None = None
    growth_ratio: float | None = None

    def split(self, text: str, max_bytes: int) -> list[str]:
        """Texts of the chunks; max_bytes: upstream's bound for this reference."""
        if self.first_chunk_max_bytes is None:
            return split_text(text, max_bytes)
        rest = [clause for clause in SENTENCE_END.split(text) if clause]
        chunks: list[str] = []
        limit = min(self.first_chunk_max_bytes, max_bytes)
        while rest:
            chunk, rest = _gather(rest, limit)
            chunks.append(chunk)
            grown = max_bytes if self.growth_ratio is None else int(self.growth_ratio * len(chunk.encode()))
            limit = min(max_bytes, max(grown, limit))
        if len(chunks) > 1 and len(chunks[-1].encode()) < SHORT_TEXT_BYTES:
            chunks[-2:] = [f"{chunks[-2]} {chunks[-1]}"]
        return chunks


def _gather(clauses: Sequence[str], max_bytes: int) -> tuple[str, list[str]]:
    """As many clauses as fit, at least one and at least ten bytes; and what is left."""
    text, taken = "", 0
    for clause in clauses:
        fits = len(text.encode()) + len(clause.encode()) <= max_bytes
        if not fits and len(text.strip().encode()) >= SHORT_TEXT_BYTES:
            break
        text += clause + " " if len(clause[-1].encode()) == 1 else clause
        taken += 1
    return text.strip(), list(clauses[taken:])


def stream_rule(config: StreamSettings) -> StreamRule:
    """The `stream` group. Raises ConfigError."""
    first, growth = config["first_chunk_max_bytes"], config["growth_ratio"]
    if first is not None and (not isinstance(first, int) or isinstance(first, bool) or first < SHORT_TEXT_BYTES):
        raise ConfigError(
            "stream.first_chunk_max_bytes", first, f"must be a whole number from {SHORT_TEXT_BYTES}, or null", "use 40"
        )
    is_number = isinstance(growth, int | float) and not isinstance(growth, bool)
    if growth is not None and (first is None or not is_number or not 1 <= growth <= 100):
        raise ConfigError(
            "stream.growth_ratio", growth, "must be a number from 1 beside first_chunk_max_bytes, or null", "use 2.0"
        )
    return StreamRule(first, None if growth is None else float(growth))
