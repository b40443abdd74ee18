"""A form of post-processing as blocks in, blocks out: the same code serves a whole utterance and a stream.

S: samples, float32 mono. However the blocks of an utterance are cut, what comes out is the same bit for bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Flow(Protocol):
    """One utterance on its way through one form."""

    def add(self, audio_S: np.ndarray) -> np.ndarray:
        """What is final once this block has come, (S,) float32; empty where everything may still change."""
        ...

    def finish(self) -> np.ndarray:
        """The rest."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One form by its name. begin: a flow for one utterance."""

    name: str
    begin: Callable[[], Flow]


class Whole:
    """A flow that gives nothing before the end: a function of the whole utterance."""

    def __init__(self, function: Callable[[np.ndarray], np.ndarray]):
        self._function = function
        self._blocks: list[np.ndarray] = []

    def add(self, audio_S: np.ndarray) -> np.ndarray:
        self._blocks.append(audio_S)
        return nothing()

    def finish(self) -> np.ndarray:
        return self._function(joined(self._blocks))


class Framed(ABC):
    """A flow that looks at whole frames: what a block leaves of one waits for the next block. hop: samples a frame."""

    def __init__(self, hop: int):
        self._hop, self._rest = hop, nothing()

    def add(self, audio_S: np.ndarray) -> np.ndarray:
        audio_S = joined([self._rest, audio_S])
        size = len(audio_S) // self._hop * self._hop
        self._rest = audio_S[size:]
        return self._through(audio_S[:size], self._hop) if size else nothing()

    def finish(self) -> np.ndarray:
        last, self._rest = self._rest, nothing()
        return self._through(last, len(last)) if len(last) else nothing()

    @abstractmethod
    def _through(self, audio_S: np.ndarray, frame: int) -> np.ndarray:
        """Whole frames of so many samples, one at least."""


class Chain:
    """Several flows, one behind the other."""

    def __init__(self, flows: Sequence[Flow]):
        self._flows = flows

    def add(self, audio_S: np.ndarray) -> np.ndarray:
        for flow in self._flows:
            audio_S = flow.add(audio_S)
        return audio_S

    def finish(self) -> np.ndarray:
        audio_S = nothing()
        for flow in self._flows:
            audio_S = joined([flow.add(audio_S), flow.finish()])
        return audio_S


def whole(flow: Flow, audio_S: np.ndarray) -> np.ndarray:
    """A whole utterance through a flow that has just begun."""
    return joined([flow.add(audio_S), flow.finish()])


def nothing() -> np.ndarray:
    return np.zeros(0, dtype=np.float32)


def joined(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """(S,) float32; one block that is not empty comes back as it is."""
    filled = [block for block in blocks if len(block)]
    return filled[0] if len(filled) == 1 else np.concatenate([nothing(), *filled])
