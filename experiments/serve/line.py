"""The waiting line of a service: bounded, first come first served, batches of requests of like length.

Pure: it is told the time. A batch is ready when a length bucket holds a full batch, or when the oldest of the bucket
has waited for the window; of several ready buckets the one with the oldest request goes first.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchRule:
    """max_batch 1 is batching switched off. window_s: how long the oldest may wait for company. bucket_chars: upper
    bounds of the length buckets, ascending; none: one bucket. capacity: how many may wait."""

    max_batch: int = 1
    window_s: float = 0.0
    bucket_chars: tuple[int, ...] = ()
    capacity: int = 64


class BatchQueue(Generic[Item]):
    """Raises nothing; `add` says whether there was room."""

    def __init__(self, rule: BatchRule):
        self._rule = rule
        self._buckets: list[deque[tuple[float, Item]]] = [deque() for _ in range(len(rule.bucket_chars) + 1)]

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self._buckets)

    def add(self, item: Item, num_chars: int, now_s: float) -> bool:
        """False where the line is full."""
        if len(self) >= self._rule.capacity:
            return False
        self._buckets[bisect.bisect_left(self._rule.bucket_chars, num_chars)].append((now_s, item))
        return True

    def take(self, now_s: float) -> list[Item]:
        """The next batch, empty where none is ready yet."""
        ready = [bucket for bucket in self._buckets if bucket and self._ready_s(bucket) <= now_s]
        if not ready:
            return []
        oldest = min(ready, key=lambda bucket: bucket[0][0])
        return [oldest.popleft()[1] for _ in range(min(len(oldest), self._rule.max_batch))]

    def ready_s(self) -> float | None:
        """When the next batch is ready if nobody else comes; None for an empty line."""
        return min((self._ready_s(bucket) for bucket in self._buckets if bucket), default=None)

    def drain(self) -> Sequence[Item]:
        """Everybody who waits; the line is empty afterwards."""
        items = [item for bucket in self._buckets for _, item in bucket]
        for bucket in self._buckets:
            bucket.clear()
        return items

    def _ready_s(self, bucket: deque[tuple[float, Item]]) -> float:
        first_s = bucket[0][0]
        return first_s if len(bucket) >= self._rule.max_batch else first_s + self._rule.window_s
