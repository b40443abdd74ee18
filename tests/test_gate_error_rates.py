"""The gate's own error rates in simulated worlds: false alarms on unchanged code, and what is found. Fixed seeds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from baselines.gate import judge
from baselines.verdict import Limits
from tests.baseline_runs import DRIFTING, LIMITS, QUIET, SHARED, Recipe, World, make_run

WORLDS = [
    ("quiet, one session", QUIET, 1, LIMITS),
    ("shared machine, one session", SHARED, 1, LIMITS),
    ("sessions drift by 2 %, five sessions", DRIFTING, 5, LIMITS),
    ("sessions drift by 2 %, and the limits say so", DRIFTING, 1, replace(LIMITS, cpu_session_noise_frac=0.02)),
]


@pytest.mark.parametrize(("world", "sessions", "limits"), [w[1:] for w in WORLDS], ids=[w[0] for w in WORLDS])
def test_unchanged_code_fails_in_at_most_1_percent(world: World, sessions: int, limits: Limits) -> None:
    outcomes = simulate(world, sessions, limits, Recipe(world=world), num=500)
    assert outcomes["FAIL"] <= 5, outcomes
    assert outcomes["PASS"] >= 200, outcomes


@pytest.mark.parametrize(("world", "sessions", "limits"), [w[1:] for w in WORLDS], ids=[w[0] for w in WORLDS])
def test_10_percent_slower_never_passes(world: World, sessions: int, limits: Limits) -> None:
    outcomes = simulate(world, sessions, limits, Recipe(world=world, slower=1.10), num=100)
    assert outcomes["FAIL"] + outcomes["CANNOT_TELL"] == 100, outcomes


def test_5_percent_slower_is_found_where_the_machine_is_steady() -> None:
    outcomes = simulate(QUIET, 1, LIMITS, Recipe(world=QUIET, slower=1.05), num=100)
    assert outcomes["FAIL"] >= 95, outcomes


def test_5_percent_faster_never_fails() -> None:
    for world, sessions in ((QUIET, 1), (SHARED, 1), (DRIFTING, 5)):
        assert simulate(world, sessions, LIMITS, Recipe(world=world, slower=0.95), num=50)["FAIL"] == 0


def simulate(world: World, sessions: int, limits: Limits, recipe: Recipe, num: int) -> Counter[str]:
    """Outcomes of `num` gates of `recipe` against baselines of that world; seeds are fixed."""
    outcomes: Counter[str] = Counter()
    for i in range(num):
        base = [make_run(1000 * i + j, Recipe(world=world)) for j in range(sessions)]
        outcomes[judge(base, make_run(1000 * i + 99, recipe), limits).outcome] += 1
    return outcomes
