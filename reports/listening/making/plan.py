"""Which clips a listener meets, in which order, on which side: balanced, with hidden controls, without any audio.

A page knows clips by opaque ids only. Orders are drawn here, many of them, and a listener takes one: two neighbouring
orders show every pair on opposite sides, and within an order each system stands on either side equally often.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["pair", "identical", "catch", "repeat", "practice"]
ANCHOR = "anchor"
DEGRADED = "degraded"
NUM_SCHEDULES = 24
CONTROL_SHARE = 0.1
NUM_REPEATS = 2
SENTENCE_DISTANCE = 3
ORDER_TRIES = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """One clip to be: a sentence by a system, or a version of it that is bad on purpose (`treatment`)."""

    utterance_id: str
    system: str
    treatment: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """roles: the clips; the first `num_fixed` keep their place (an open reference). of: the trial that is repeated."""

    kind: Kind
    utterance_id: str
    roles: tuple[Role, ...]
    of: int | None = None

    @property
    def group(self) -> tuple[str, tuple[str, ...]]:
        """Trials that sides are balanced over: the same comparison."""
        return self.kind, tuple(f"{role.system}/{role.treatment}" for role in self.roles)


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One screen of one order. order: positions of the trial's clips as shown; x: which of them is X (ABX)."""

    trial: int
    order: tuple[int, ...]
    x: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """trials[0] is the practice; schedules show it first, and answers to it count for nothing."""

    method: str
    num_fixed: int
    trials: tuple[Trial, ...]
    schedules: tuple[tuple[Turn, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What to plan. sentences: (utterance id, category)."""

    method: str
    systems: tuple[str, ...]
    sentences: tuple[tuple[str, str], ...]
    num_pairs: int
    reference: str


def make_plan(wish: Wish, rng: np.random.Generator) -> Plan:
    """The same wish and generator state give the same plan."""
    sentences = _interleaved(wish.sentences, rng)
    make = _screens if wish.method == "mushra" else _pairs
    trials = tuple(make(wish, sentences, rng))
    num_fixed = 1 if wish.method in ("dcr", "mushra") else 0
    schedules: list[tuple[Turn, ...]] = []
    for _ in range(NUM_SCHEDULES // 2):
        schedules += _mirrored(trials, num_fixed, wish.method, rng)
    return Plan(method=wish.method, num_fixed=num_fixed, trials=trials, schedules=tuple(schedules))


def _interleaved(sentences: Sequence[tuple[str, str]], rng: np.random.Generator) -> list[str]:
    """Drawn so that the first n hold every category as evenly as possible."""
    ranked = []
    categories = dict.fromkeys(category for _, category in sentences)
    for category in categories:
        ids = [utterance_id for utterance_id, own in sentences if own == category]
        offset = rng.random()
        order = rng.permutation(len(ids))
        ranked += [((place + offset) / len(ids), ids[i]) for place, i in enumerate(order)]
    return [utterance_id for _, utterance_id in sorted(ranked)]


def _pairs(wish: Wish, sentences: Sequence[str], rng: np.random.Generator) -> Iterator[Trial]:
    if wish.method == "dcr":
        contests = [(wish.reference, system) for system in wish.systems if system != wish.reference]
    else:
        contests = list(itertools.combinations(wish.systems, 2))
    # Every sentence meets another contest in each round, and every contest comes as often as any other
    cells = [
        (sentence, contests[(place + turn) % len(contests)])
        for turn in range(len(contests))
        for place, sentence in enumerate(sentences)
    ]
    chosen = cells[: wish.num_pairs]
    yield _bad_pair("practice", sentences[-1], wish, rng)
    for sentence, contest in chosen:
        yield Trial(
            kind="pair",
            utterance_id=sentence,
            roles=tuple(Role(utterance_id=sentence, system=system) for system in contest),
        )
    num_controls = max(1, math.ceil(CONTROL_SHARE * len(chosen)))
    picks = itertools.cycle(rng.permutation(np.array(sentences, dtype=object)))
    for _ in range(num_controls):
        yield _bad_pair("catch", str(next(picks)), wish, rng)
    if wish.method == "abx":
        return  # X is both of two identical clips: no answer could be wrong
    for _ in range(num_controls):
        sentence = str(next(picks))
        system = wish.reference if wish.method == "dcr" else str(rng.choice(np.array(wish.systems, dtype=object)))
        same = Role(utterance_id=sentence, system=system)
        yield Trial(kind="identical", utterance_id=sentence, roles=(same, same))
    for index in rng.permutation(len(chosen))[: min(NUM_REPEATS, len(chosen) // 5)]:
        sentence, contest = chosen[index]
        roles = tuple(Role(utterance_id=sentence, system=system) for system in contest)
        yield Trial(kind="repeat", utterance_id=sentence, roles=roles, of=int(index) + 1)


def _bad_pair(kind: Kind, sentence: str, wish: Wish, rng: np.random.Generator) -> Trial:
    """A clip and the same in heavy noise; the good one first, which is the open reference in DCR."""
    system = wish.reference if wish.method == "dcr" else str(rng.choice(np.array(wish.systems, dtype=object)))
    good = Role(utterance_id=sentence, system=system)
    return Trial(
        kind=kind,
        utterance_id=sentence,
        roles=(good, Role(utterance_id=sentence, system=system, treatment=DEGRADED)),
    )


def _screens(wish: Wish, sentences: Sequence[str], rng: np.random.Generator) -> Iterator[Trial]:
    """MUSHRA: the reference openly, then hidden, every other system, and the anchor. Controls are on every screen."""
    del rng
    chosen = list(sentences[: wish.num_pairs])
    for kind, sentence in [("practice", chosen[-1]), *(("pair", sentence) for sentence in chosen)]:
        reference = Role(utterance_id=sentence, system=wish.reference)
        others = [Role(utterance_id=sentence, system=s) for s in wish.systems if s != wish.reference]
        low = Role(utterance_id=sentence, system=wish.reference, treatment=ANCHOR)
        yield Trial(
            kind="practice" if kind == "practice" else "pair",
            utterance_id=sentence,
            roles=(reference, reference, *others, low),
        )


def _mirrored(
    trials: Sequence[Trial], num_fixed: int, method: str, rng: np.random.Generator
) -> Iterator[tuple[Turn, ...]]:
    """Two schedules with opposite sides and orders of their own. A repeat stands on the other side of its original."""
    flips = _balanced([trial.group for trial in trials], rng)
    for index, trial in enumerate(trials):
        if trial.of is not None:
            flips[index] = not flips[trial.of]
    x_places = _balanced([(trial.kind, flip) for trial, flip in zip(trials, flips, strict=True)], rng)
    rotations = [0, *rng.permutation(len(trials) - 1)]  # every place equally often, the practice aside
    base = rng.permutation(max(len(trial.roles) for trial in trials))
    for is_mirror in (False, True):
        turns = []
        for index in _order(trials, rng):
            movable = [num_fixed + int(p) for p in base if p < len(trials[index].roles) - num_fixed]
            if len(movable) == 2:
                shown = sorted(movable, reverse=flips[index] != is_mirror)
            else:
                shift = int(rotations[index]) % len(movable)
                shown = (movable[shift:] + movable[:shift])[:: -1 if is_mirror else 1]
            x = int(x_places[index]) if method == "abx" else None
            turns.append(Turn(trial=index, order=(*range(num_fixed), *shown), x=x))
        yield tuple(turns)


def _balanced(groups: Sequence[object], rng: np.random.Generator) -> list[bool]:
    """True for half of the members of every group; the odd ones of all groups alternate."""
    members: dict[object, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    chosen = [False] * len(groups)
    extra = bool(rng.integers(2))
    for indices in members.values():
        half = len(indices) // 2 + (extra if len(indices) % 2 else 0)
        extra = not extra if len(indices) % 2 else extra
        for place in rng.permutation(len(indices))[:half]:
            chosen[indices[place]] = True
    return chosen


def _order(trials: Sequence[Trial], rng: np.random.Generator) -> list[int]:
    """Practice first, then a draw in which a sentence returns late, and no control opens the test."""
    best: tuple[int, list[int]] | None = None
    for _ in range(ORDER_TRIES):
        order = [int(index) + 1 for index in rng.permutation(len(trials) - 1)]
        faults = sum(
            trials[a].utterance_id == trials[b].utterance_id
            for distance in range(1, SENTENCE_DISTANCE + 1)
            for a, b in zip(order, order[distance:], strict=False)
        )
        faults += trials[order[0]].kind != "pair"
        faults += sum(trial.of is not None and order.index(i) < order.index(trial.of) for i, trial in enumerate(trials))
        if best is None or faults < best[0]:
            best = faults, order
        if faults == 0:
            break
    assert best is not None
    return [0, *best[1]]
