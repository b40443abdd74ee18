"""Measure a comparison block by block: fresh processes, warm-up, turns in random order, each on the disk at once.

The order of the sides is balanced in permuted blocks: of every four turns of two sides each side comes first in two. So
a penalty of the second place, which a fixed order turned into 0.8 to 18 % false alarms, cancels. And every timed call
comes after a call of another side: one after a call of its own finds its weights in the cache and is 2 to 6 % faster,
which made the turns of a block fall into two heaps and its median jump between them.
"""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from baselines.paired.data import CANDIDATE, REFERENCE, Answers, Block, Turn, turn_content
from experiments.common.journal import JournalWriter
from experiments.compare.answers import Built, Called
from experiments.compare.processes import Child, Program, Server, SideSpec
from experiments.compare.settings import RunPlan

Enough = Callable[[Sequence[Turn]], bool]


class Witness(Protocol):
    """Asked after every answer whether it may become a number; every method raises SideFailed where it may not."""

    checked: dict[str, int]

    def facts(self, side: str, facts: Built) -> None: ...
    def call(self, side: str, facts: Built, order: tuple[int, int], answer: Called) -> None: ...
    def audio(self, side: str, facts: Built, sentence: int, answer: Called, path: Path) -> None: ...
    def steady(self, side: str, before: Mapping[str, int], after: Mapping[str, int]) -> None: ...
    def answers(self) -> Answers | None: ...


@dataclass(slots=True, eq=False)
class Bench:
    """Runs blocks of the sides `specs` over the sentences. A context manager that ends all processes.

    proof is asked after every answer, and raises where it proves nothing; audio of first calls goes to `keep` for it.
    """

    specs: Sequence[SideSpec]
    sentences: Sequence[str]
    plan: RunPlan
    journal: JournalWriter
    log: BinaryIO
    proof: Witness
    keep: Path
    seed: int = 0
    lock: int | None = None
    facts: dict[str, Built] = field(default_factory=dict)
    _servers: dict[str, Server] = field(default_factory=dict)
    _heard: set[tuple[str, int]] = field(default_factory=set)
    _num_blocks: int = 0
    _num_turns: int = 0
    _last_called: str = ""
    _peak_bytes: dict[str, int] = field(default_factory=dict)
    _peaks: dict[str, list[int]] = field(default_factory=dict)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_servers()

    def block(self, enough: Enough | None = None) -> Block:
        """One more block, ended early where `enough` says so. Raises SideFailed."""
        number = self._num_blocks
        if number % self.plan.blocks_per_server == 0:
            self._renew_servers()
        chance = random.Random(f"{self.plan.order_seed}/{number}")
        sentences = _sentences(number, len(self.sentences), self.plan.sentences_per_block)
        with ExitStack() as stack:
            children = self._build(stack, chance)
            self._warm(children, sentences, chance)
            warm = self._counted(children)
            turns: list[Turn] = []
            for turn in self._turns(children, sentences, chance):
                turns.append(turn)
                if enough is not None and enough(turns):
                    break
            for side, counted in self._counted(children).items():
                self.proof.steady(side, warm[side], counted)
            for side, peak_bytes in self._peak_bytes.items():
                self._peaks.setdefault(side, []).append(peak_bytes)
        self._num_blocks += 1
        return Block(turns=tuple(turns))

    def memory_bytes(self) -> dict[str, float] | None:
        """Resident peak of each side's process, the median over blocks; None where it is not known of both."""
        if not {REFERENCE, CANDIDATE} <= self._peaks.keys():
            return None
        return {side: float(statistics.median(self._peaks[side])) for side in (REFERENCE, CANDIDATE)}

    def _build(self, stack: ExitStack, chance: random.Random) -> dict[str, Child]:
        """Fresh children of all sides, built side by side (nothing is timed yet), forked in random order."""
        children = {}
        for spec in chance.sample(list(self.specs), len(self.specs)):
            child = self._servers[spec.side].fork(spec.side)
            stack.callback(child.close)
            child.start_building(spec)
            children[spec.side] = child
        for side, child in children.items():
            build_s = child.finish_building(self.plan.call_limit_s)
            self.facts[side] = child.facts
            self.proof.facts(side, child.facts)
            content = {"block": self._num_blocks, "side": side, "build_s": build_s}
            self.journal.append("build", {**content, "facts": child.facts} if self._num_blocks == 0 else content)
        return children

    def _warm(self, children: Mapping[str, Child], sentences: Sequence[int], chance: random.Random) -> None:
        """Every side once on every sentence of the block, journalled and never judged; the first audio is kept."""
        for index in sentences:
            for side in chance.sample(sorted(children), len(children)):
                self._untimed(children[side], side, index)

    def _counted(self, children: Mapping[str, Child]) -> dict[str, dict[str, int]]:
        return {side: child.counted(self.plan.call_limit_s) for side, child in children.items()}

    def _untimed(self, child: Child, side: str, index: int) -> None:
        path = self.keep / f"{side}-{index}.npy"
        is_new = (side, index) not in self._heard
        answer = child.call(index, self.seed, self.plan.call_limit_s, path if is_new else None)
        self.proof.call(side, child.facts, (index, self.seed), answer)
        if is_new:
            self.proof.audio(side, child.facts, index, answer, path)
            self._heard.add((side, index))
        content = {"block": self._num_blocks, "side": side, "sentence": self.sentences[index], **answer}
        self.journal.append("warmup", content)
        self._last_called = side

    def _turns(self, children: Mapping[str, Child], sentences: Sequence[int], chance: random.Random) -> Iterator[Turn]:
        for i, order in enumerate(orders(sorted(children), self.plan.turns_per_block, chance)):
            index = sentences[i % len(sentences)]
            if order[0] == self._last_called:
                self._untimed(children[order[1]], order[1], index)
            self._num_turns += 1
            # Each turn has noise of its own: an answer kept from an earlier call cannot be this call's answer
            seed = self.seed + self._num_turns
            answers = {side: children[side].call(index, seed, self.plan.call_limit_s) for side in order}
            self._last_called = order[-1]
            for side, answer in answers.items():
                self.proof.call(side, children[side].facts, (index, seed), answer)
                if answer.get("peak_rss_bytes"):
                    self._peak_bytes[side] = int(answer["peak_rss_bytes"])
            turn = Turn(
                utterance_id=self.sentences[index],
                order=order,
                wall_s={side: float(answer["wall_s"]) for side, answer in answers.items()},
                cpu_s={side: float(answer["cpu_s"]) for side, answer in answers.items()},
                device_s={side: float(answer["device_s"]) for side, answer in answers.items() if "device_s" in answer},
            )
            self.journal.append("turn", {"block": self._num_blocks, "turn": i, **turn_content(turn)})
            yield turn

    def _renew_servers(self) -> None:
        """Sides of the same tree and environment share a server: their processes then have the same layout."""
        self._end_servers()
        shared: dict[tuple[Path, int, Program], Server] = {}
        for spec in self.specs:
            key = (spec.tree, spec.threads, spec.program)
            if key not in shared:
                shared[key] = Server(spec, self.log, self.lock)
            self._servers[spec.side] = shared[key]
        for server in shared.values():
            server.wait_ready()

    def _end_servers(self) -> None:
        for server in set(self._servers.values()):
            server.close()
        self._servers.clear()


def orders(sides: Sequence[str], count: int, chance: random.Random) -> Iterator[tuple[str, ...]]:
    """`count` orders of the sides, balanced: every permutation equally often in each run of four (two sides) or six."""
    permutations = list(itertools.permutations(sides))
    deck = permutations * max(1, 4 // len(permutations))
    made = 0
    while made < count:
        for order in chance.sample(deck, len(deck))[: count - made]:
            made += 1
            yield order


def _sentences(block: int, num_sentences: int, per_block: int) -> list[int]:
    """Indices of the sentences of a block: the next few, so that all are spoken in turn."""
    per_block = min(per_block, num_sentences)
    return [(block * per_block + i) % num_sentences for i in range(per_block)]
