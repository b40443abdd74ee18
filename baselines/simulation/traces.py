"""Recorded comparisons of an engine with itself, and how they are replayed. They lie compactly in baselines/traces/.

A replay takes consecutive blocks from a random place on (round the end), and by a coin for each block swaps the two
sides: both are fresh processes of one engine, so either could have been the candidate. Replays of one trace share
blocks; their counts describe this trace, they are not that many independent machines.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from baselines.paired.data import CANDIDATE, REFERENCE, Block, Turn, relabelled, scaled
from metrics.record import RecordError, write_atomically

TRACES = Path(__file__).resolve().parents[1] / "traces"
SCHEMA_VERSION = 1
SWAPPED = {REFERENCE: CANDIDATE, CANDIDATE: REFERENCE}


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """conditions: what else the machine did; label: the engine; sentences: what it said."""

    name: str
    host_class: str
    recorded: str
    conditions: str
    label: str
    sentences: tuple[str, ...]
    blocks: tuple[Block, ...]


def save_trace(trace: Trace, folder: Path = TRACES) -> Path:
    """One line a block: [sentence, who came first (0 reference), wall of both, CPU of both] per turn, in 10 us."""
    index = {name: i for i, name in enumerate(trace.sentences)}
    head = {
        "schema_version": SCHEMA_VERSION, "name": trace.name, "host_class": trace.host_class,
        "recorded": trace.recorded, "conditions": trace.conditions, "label": trace.label,
        "sentences": list(trace.sentences),
    }  # fmt: skip
    lines = [json.dumps([_row(turn, index) for turn in block.turns], separators=(",", ":")) for block in trace.blocks]
    text = json.dumps(head, indent=1)[:-2] + ',\n "blocks": [\n' + ",\n".join(lines) + "\n]\n}\n"
    path = folder / f"{trace.name}.json"
    write_atomically(path, text)
    return path


def _row(turn: Turn, index: dict[str, int]) -> list[float]:
    times = [turn.seconds(metric, side) for metric in ("wall_time", "cpu_time") for side in (REFERENCE, CANDIDATE)]
    return [index[turn.utterance_id], int(turn.order[0] == CANDIDATE), *(round(seconds, 5) for seconds in times)]


def load_trace(path: Path) -> Trace:
    """Raises RecordError for what is not a trace."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("schema_version") != SCHEMA_VERSION:
            raise ValueError("another schema")
        sentences = tuple(content.pop("sentences"))
        blocks = tuple(Block(turns=tuple(_turn(row, sentences) for row in rows)) for rows in content.pop("blocks"))
        return Trace(**content, sentences=sentences, blocks=blocks)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise RecordError(
            f"{path}: not a trace ({error}); "
            f"`python -m experiments.selftest minutes=10 'ratios=[1]' {shlex.quote(f'record={path.stem}')}` makes one"
        ) from error


def _turn(row: Sequence[float], sentences: Sequence[str]) -> Turn:
    sentence, candidate_first, *times = row
    order = (CANDIDATE, REFERENCE) if candidate_first else (REFERENCE, CANDIDATE)
    return Turn(
        utterance_id=sentences[int(sentence)],
        order=order,
        wall_s={REFERENCE: times[0], CANDIDATE: times[1]},
        cpu_s={REFERENCE: times[2], CANDIDATE: times[3]},
    )


def load_traces(folder: Path = TRACES) -> list[Trace]:
    return [load_trace(path) for path in sorted(folder.glob("*.json"))]


def trace_blocks(trace: Trace, seed: int, true_ratio: float) -> Iterator[Block]:
    """Blocks without end of a replay whose candidate takes true_ratio of the reference's time."""
    rng = np.random.default_rng([seed, *trace.name.encode()])
    start = int(rng.integers(len(trace.blocks)))
    while True:
        block = trace.blocks[start % len(trace.blocks)]
        swapped = relabelled(block, SWAPPED) if rng.random() < 0.5 else block
        yield scaled(swapped, CANDIDATE, true_ratio)
        start += 1
