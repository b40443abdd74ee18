"""The gate's own error rates in simulated worlds: false alarms on unchanged code, and what is found. Fixed seeds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from baselines.stored.gate import judge
from baselines.stored.known import chosen_works
from baselines.stored.latency import Known
from baselines.stored.verdict import Finding
from metrics.record import RunRecord
from tests.baseline_runs import DRIFTING, IDS, LIMITS, QUIET, SHARED, Recipe, World, make_run

FEW = IDS[:3]
WORLDS = [
    ("quiet, one session", QUIET, 1),
    ("shared machine, one session", SHARED, 1),
    ("sessions drift by 2 %, one session", DRIFTING, 1),
    ("sessions drift by 2 %, three sessions", DRIFTING, 3),
    ("quiet, five sessions", QUIET, 5),
]


@pytest.mark.parametrize(("world", "sessions"), [w[1:] for w in WORLDS], ids=[w[0] for w in WORLDS])
def test_unchanged_code_fails_in_at_most_1_percent(world: World, sessions: int) -> None:
    outcomes = simulate(world, sessions, Recipe(world=world), num=400)
    assert outcomes["FAIL"] <= 4, outcomes
    assert outcomes["PASS"] >= 120, outcomes


@pytest.mark.parametrize(("world", "sessions"), [w[1:] for w in WORLDS], ids=[w[0] for w in WORLDS])
def test_5_percent_slower_passes_in_at_most_5_percent_and_what_must_be_seen(world: World, sessions: int) -> None:
    """5 % by the rule; the bound of 10 of 100 leaves room for luck. 10 % and more lies far beyond it."""
    assert simulate(world, sessions, Recipe(world=world, slower=1.05), num=100)["PASS"] <= 10
    assert simulate(world, sessions, Recipe(world=world, slower=1.15), num=50)["PASS"] == 0


def test_5_percent_slower_is_found_where_the_machine_is_steady() -> None:
    outcomes = simulate(QUIET, 5, Recipe(world=QUIET, slower=1.05), num=100)
    assert outcomes["FAIL"] + outcomes["WARN"] >= 95, outcomes
    assert outcomes["FAIL"] >= 90, outcomes


def test_a_gate_finds_what_it_says_that_it_finds() -> None:
    """Every baseline names, from its own noise, the slowdown that it finds 95 % surely: 57 of 60, 51 with bad luck."""
    found = 0
    for i in range(60):
        base = [make_run(1000 * i + j, Recipe(world=SHARED, ids=FEW)) for j in range(6)]
        claim = cpu_finding(base, make_run(1000 * i + 98, Recipe(world=SHARED, ids=FEW))).detectable
        assert claim is not None
        slower = cpu_finding(base, make_run(1000 * i + 99, Recipe(world=SHARED, ids=FEW, slower=claim)))
        found += slower.interval is not None and slower.interval[0] > 1
    assert found >= 51


def cpu_finding(base: list[RunRecord], new: RunRecord) -> Finding:
    return next(finding for finding in judge(base, new, LIMITS).findings if finding.metric == "cpu_time")


def test_5_percent_faster_never_fails() -> None:
    for world, sessions in ((QUIET, 1), (SHARED, 1), (DRIFTING, 5)):
        assert simulate(world, sessions, Recipe(world=world, slower=0.95), num=50)["FAIL"] == 0


def test_a_calibration_that_follows_the_engine_only_inside_a_session_is_not_chosen_from_one() -> None:
    """Chosen by the spread inside one session, unchanged code failed in 8 % of gates."""
    choices = [chosen_works([make_run(seed)])["cpu_time"].work for seed in range(20)]
    assert set(choices) == {"gemm"}


def simulate(world: World, sessions: int, recipe: Recipe, num: int) -> Counter[str]:
    """Outcomes of `num` gates of `recipe` against baselines of that world as they are recorded; seeds are fixed."""
    outcomes: Counter[str] = Counter()
    for i in range(num):
        base = [make_run(1000 * i + j, Recipe(world=world, ids=FEW)) for j in range(sessions)]
        known = Known(works={metric: choice.work for metric, choice in chosen_works(base).items()})
        outcomes[judge(base, make_run(1000 * i + 99, replace(recipe, ids=FEW)), LIMITS, known).outcome] += 1
    return outcomes
