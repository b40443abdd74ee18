"""A recorder for CPUs: like a CUDA graph it keeps the operations of one run and the addresses that they read, and on
replay runs those and nothing else. What a graph would freeze wrongly is frozen here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx


class TracingRecorder:
    """Implements engine.runtimes.cuda_graphs.Recorder: a replay repeats the operations on the very tensors that the run
    closed over. operations: of each recording, by name."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0
        self.operations: list[list[str]] = []

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        self.recorded += 1
        graph = make_fx(lambda: run())()
        self.operations.append([str(node.target) for node in graph.graph.nodes if node.op == "call_function"])
        kept = graph()

        def replay() -> None:
            self.replayed += 1
            if isinstance(kept, torch.Tensor):
                kept.copy_(graph())
            else:
                for mine, new in zip(kept, graph(), strict=True):
                    mine.copy_(new)

        return replay, kept
