"""How long a chunk of text will be, by upstream's duration rule, and cutting what is longer than asked.

Upstream cuts at sentences only: one long sentence stays one chunk, and beyond some 22 s with its reference the model
mumbles. `text.max_chunk_s` bounds the seconds of a chunk; what has no clause to cut at is then cut between words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.contract import ConfigError, InvalidRequest, SynthesisRequest
from engine.settings import EngineConfig

Split = Callable[[str, int], list[str]]
WINDOW_S = 22.0  # reference and chunk together, upstream's budget
SHORT_TEXT_BYTES = 10
SHORT_TEXT_SPEED = 0.3
SENTENCE_END = re.compile(r"(?<=[;:,.!?])\s+|(?<=[；：，。！？])")
# With the space behind it; a letter where words have none between them (Thai, Chinese, Japanese)
WORD = re.compile(r"[\u0e00-\u0eff\u3000-\u9fff\uff00-\uffef]\s*|[^\s\u0e00-\u0eff\u3000-\u9fff\uff00-\uffef]+\s*")
SHORTEST_S = 0.5


def split_text(text: str, max_bytes: int) -> list[str]:
    """Upstream's chunk_text: sentences gathered greedily up to max_bytes of UTF-8; one longer sentence stays whole."""
    chunks, current = [], ""
    for sentence in SENTENCE_END.split(text):
        if not sentence:
            continue
        piece = sentence + " " if len(sentence[-1].encode()) == 1 else sentence
        if len(current.encode()) + len(sentence.encode()) <= max_bytes:
            current += piece
            continue
        if current:
            chunks.append(current.strip())
        current = piece
    if current:
        chunks.append(current.strip())
    return chunks


def max_chunk_bytes(ref_text: str, ref_s: float, speed_ratio: float) -> int:
    """How much text fits beside the reference in upstream's 22 s window."""
    return int(len(ref_text.encode()) / ref_s * (WINDOW_S - ref_s) * speed_ratio)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a voice speaks. ref_text: its transcript, without upstream's trailing space; ref_s: its seconds."""

    ref_text: str
    ref_s: float
    speed_ratio: float

    @property
    def ref_bytes(self) -> int:
        """With the space that upstream puts behind a transcript in letters of one byte."""
        return len(self.ref_text.encode()) + (len(self.ref_text[-1].encode()) == 1)

    def seconds_of(self, text: str) -> float:
        num_bytes = len(text.encode())
        speed = SHORT_TEXT_SPEED if num_bytes < SHORT_TEXT_BYTES else self.speed_ratio
        return self.ref_s / self.ref_bytes * num_bytes / speed

    def max_bytes(self, max_chunk_s: float | None) -> int:
        """Of one chunk: upstream's bound, and that of the seconds where there is one."""
        most = max_chunk_bytes(self.ref_text, self.ref_s, self.speed_ratio)
        if max_chunk_s is None:
            return most
        return min(most, int(max_chunk_s * self.ref_bytes / self.ref_s * self.speed_ratio))


def pace_of(request: SynthesisRequest) -> Pace:
    """Of a voice as it was recorded."""
    return Pace(request.ref_text, len(request.ref_audio_S) / request.ref_sample_rate_hz, request.speed_ratio)


def chunks_of(request: SynthesisRequest, pace: Pace, max_chunk_s: float | None, split: Split = split_text) -> list[str]:
    """The texts of a request's chunks, each at most `max_chunk_s` long; None: cut as upstream does.

    Raises InvalidRequest where a single word takes longer.
    """
    if max_chunk_s is None or request.num_frames is not None:
        return split(request.text, pace.max_bytes(None))
    found: list[str] = []
    for chunk in split(request.text, pace.max_bytes(max_chunk_s)):
        found += _parts(chunk, pace, max_chunk_s, request.utterance_id)
    return found


def beyond_window(request: SynthesisRequest, max_chunk_s: float | None) -> list[float]:
    """Seconds of the chunks that, with the reference, are longer than upstream's window of 22 s; usually none."""
    pace = pace_of(request)
    seconds = [pace.seconds_of(chunk) for chunk in chunks_of(request, pace, max_chunk_s)]
    return [length for length in seconds if length + pace.ref_s > WINDOW_S]


def chunk_bound(config: EngineConfig) -> float | None:
    """`text.max_chunk_s`; records made before there was one have none. Raises ConfigError."""
    text: object = config.get("text") or {}
    bound: Any = text.get("max_chunk_s") if isinstance(text, Mapping) else text
    is_number = isinstance(bound, int | float) and not isinstance(bound, bool)
    if bound is not None and not (is_number and SHORTEST_S <= bound < math.inf):
        raise ConfigError(
            "text.max_chunk_s", bound, f"must be a number of seconds from {SHORTEST_S:g}, or null", "use null or 10"
        )
    return None if bound is None else float(bound)


def _parts(chunk: str, pace: Pace, max_s: float, name: str) -> Sequence[str]:
    """The chunk in few parts of like length that keep the bound, cut between words."""
    if pace.seconds_of(chunk) <= max_s:
        return [chunk]
    words = WORD.findall(chunk)
    for number in range(math.ceil(pace.seconds_of(chunk) / max_s), len(words) + 1):
        parts = _even(words, number)
        if all(pace.seconds_of(part) <= max_s for part in parts):
            return parts
    raise InvalidRequest(
        "text.max_chunk_s", max_s, f"a word of {name} takes longer with this voice", "raise it, or use null"
    )


def _even(words: Sequence[str], number: int) -> list[str]:
    """The words in `number` parts, each cut at the word nearest to its share of the bytes."""
    total, done = sum(len(word.encode()) for word in words), 0
    parts: list[str] = []
    part = ""
    for place, word in enumerate(words, start=1):
        part += word
        done += len(word.encode())
        if done >= total * (len(parts) + 1) / number or len(words) - place < number - len(parts):
            parts.append(part.strip())
            part = ""
    return [text for text in [*parts, part.strip()] if text]
