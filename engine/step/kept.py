"""Tables that depend on a length alone, kept for the lengths used last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch

KEPT_BYTES = 64 << 20  # RoPE for 128,000 frames of a model that turns all heads alike


class KeptTables:
    """What `make(length)` gives, made once for as long as it is among the last KEPT_BYTES: a service meets every
    length there is. The newest is kept whatever its size."""

    def __init__(self, make: Callable[[int], tuple[torch.Tensor, torch.Tensor]], max_bytes: int = KEPT_BYTES):
        self._make, self._max_bytes = make, max_bytes
        self._tables: OrderedDict[int, tuple[torch.Tensor, torch.Tensor]] = OrderedDict()
        self.num_bytes = 0

    def of(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        if length in self._tables:
            self._tables.move_to_end(length)
            return self._tables[length]
        self._tables[length] = self._make(length)
        self.num_bytes += _num_bytes(self._tables[length])
        while self.num_bytes > self._max_bytes and len(self._tables) > 1:
            self.num_bytes -= _num_bytes(self._tables.popitem(last=False)[1])
        return self._tables[length]


def _num_bytes(tables: tuple[torch.Tensor, torch.Tensor]) -> int:
    return sum(table.nbytes for table in tables)
