"""What a same-run comparison measures: turns of all sides on the same sentence, in blocks of fresh processes.

A turn is one call of every side, in a random order; a block is the turns that one set of processes made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

REFERENCE, CANDIDATE, SENTINEL = "reference", "candidate", "sentinel"
DEVICE_TIME = "device_time"
METRICS = ("wall_time", "cpu_time", DEVICE_TIME)


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """Seconds of one call of each side on one sentence; order: who was called first, second, third.

    device_s: by the device's own clock, between two events; empty on a CPU, which has none.
    """

    utterance_id: str
    order: tuple[str, ...]
    wall_s: Mapping[str, float]
    cpu_s: Mapping[str, float]
    device_s: Mapping[str, float] = field(default_factory=dict)

    def seconds(self, metric: str, side: str) -> float:
        """Raises KeyError for a metric or a side that was not measured."""
        return {"wall_time": self.wall_s, "cpu_time": self.cpu_s, DEVICE_TIME: self.device_s}[metric][side]


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """The turns of one set of fresh processes."""

    turns: tuple[Turn, ...]

    def log_ratios(self, metric: str, over: str, under: str) -> list[float]:
        """ln(over / under) of every turn. Raises ValueError for a time that is not above 0."""
        return [log_ratio(turn.seconds(metric, over), turn.seconds(metric, under)) for turn in self.turns]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What both sides said in turn, as far as a comparison knows it.

    num_evals: per side the least and the most velocity evaluations of a call. num_pairs: calls of both sides on the
    same sentence with the same noise; num_equal: those whose audio was equal bit for bit. log_mel_nats: mean distance
    of the sides' log-mels over num_sentences first answers; None where none could be compared. what: was compared.
    """

    num_evals: Mapping[str, tuple[int, int]]
    num_pairs: int
    num_equal: int
    log_mel_nats: float | None = None
    num_sentences: int = 0
    what: str = "audio"


def log_ratio(over_s: float, under_s: float) -> float:
    if not (over_s > 0 and under_s > 0 and math.isfinite(over_s) and math.isfinite(under_s)):
        raise ValueError(f"{over_s} s over {under_s} s: a ratio of times needs finite values above 0")
    return math.log(over_s / under_s)


def turn_content(turn: Turn) -> dict[str, object]:
    return {
        "utterance_id": turn.utterance_id, "order": list(turn.order), "wall_s": dict(turn.wall_s),
        "cpu_s": dict(turn.cpu_s), **({"device_s": dict(turn.device_s)} if turn.device_s else {}),
    }  # fmt: skip


def relabelled(block: Block, names: Mapping[str, str]) -> Block:
    """The same times with the sides called by other names; sides without a new name are left out."""
    return Block(
        turns=tuple(
            Turn(
                utterance_id=turn.utterance_id,
                order=tuple(names[side] for side in turn.order if side in names),
                wall_s={names[side]: s for side, s in turn.wall_s.items() if side in names},
                cpu_s={names[side]: s for side, s in turn.cpu_s.items() if side in names},
                device_s={names[side]: s for side, s in turn.device_s.items() if side in names},
            )
            for turn in block.turns
        )
    )


def scaled(block: Block, side: str, factor: float) -> Block:
    """`side` slower by `factor` by every clock."""

    def change(times: Mapping[str, float]) -> dict[str, float]:
        return {name: s * factor if name == side else s for name, s in times.items()}

    return Block(
        turns=tuple(
            replace(t, wall_s=change(t.wall_s), cpu_s=change(t.cpu_s), device_s=change(t.device_s)) for t in block.turns
        )
    )
