"""The walk between two revisions as a function of what was measured: where it goes, whom it names, how often wrong."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from baselines.paired.rule import PairedLimits, decide
from baselines.paired.walk import ENDS, PROOF, STEP, Pair, Tried, WalkPlan, conclude, decide_ends, next_pair, range_of
from baselines.simulation.worlds import WORLDS, World, world_blocks
from experiments.bisection.walk import tried_of
from metrics.verdict import Outcome
from tests.test_paired_rule import blocks

# What a revision is: its log time over revision 0, or None where it cannot be built
Machine = Callable[[Pair], Tried]
SLOW = 0.08


def plan(num_commits: int, spare: int = 3, wrong_frac: float = 0.05) -> WalkPlan:
    return WalkPlan(num_commits=num_commits, wrong_frac=wrong_frac, spare=spare)


def exact(times: Sequence[float | None], unsure: Sequence[int] = ()) -> Machine:
    """Measures without noise: bounds of 1 % on either side; `unsure` revisions are INCONCLUSIVE."""

    def measured(pair: Pair) -> Tried:
        before, after = times[pair.reference], times[pair.candidate]
        if before is None or after is None:
            return Tried(purpose=pair.purpose, reference=pair.reference, candidate=pair.candidate, outcome=None)
        log, catch = after - before, math.log(pair.catch_ratio or 1.05)
        low, high = log - 0.01, log + 0.01
        is_slow, is_small = low > 0, high < catch
        outcome: Outcome = "WARN" if is_slow and is_small else "FAIL" if is_slow else "PASS"
        if pair.candidate in unsure and pair.purpose != PROOF:
            outcome = "INCONCLUSIVE"
        return Tried(
            purpose=pair.purpose, reference=pair.reference, candidate=pair.candidate, outcome=outcome,
            ratio=math.exp(log), low=math.exp(low), high=math.exp(high),
        )  # fmt: skip

    return measured


def walked(asked: WalkPlan, machine: Machine) -> list[Tried]:
    tried: list[Tried] = []
    while (pair := next_pair(asked, tried)) is not None:
        assert len(tried) < 200, "the walk has an end"
        tried.append(machine(pair))
    return tried


def at(guilty: int, num_commits: int, by: float = SLOW) -> list[float | None]:
    return [by if index >= guilty else 0.0 for index in range(num_commits + 1)]


@pytest.mark.parametrize("num_commits", [1, 2, 3, 5, 8, 21, 64])
def test_every_place_is_found_within_the_comparisons_that_were_promised(num_commits: int) -> None:
    asked = plan(num_commits)
    for guilty in range(1, num_commits + 1):
        tried = walked(asked, exact(at(guilty, num_commits)))
        verdict = conclude(asked, tried)
        assert (verdict.outcome, verdict.exit_code, verdict.culprit) == ("FAIL", 10, guilty)
        assert (verdict.suspects, verdict.is_proven, verdict.in_parts) == ((guilty,), True, False)
        assert len(tried) <= asked.most - (0 if num_commits == 1 else asked.spare)
    assert asked.share * asked.most == pytest.approx(0.05)


def test_the_proof_compares_the_commit_with_the_one_before_it() -> None:
    asked = plan(8)
    tried = walked(asked, exact(at(5, 8)))
    assert [(one.purpose, one.reference, one.candidate) for one in tried] == [
        (ENDS, 0, 8), (STEP, 0, 4), (STEP, 0, 6), (STEP, 0, 5), (PROOF, 4, 5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("by", "outcome", "code"), [(0.0, "PASS", 0), (-0.2, "PASS", 0), (0.03, "WARN", 0), (0.2, "FAIL", 10)]
)
def test_nothing_is_walked_where_the_last_revision_is_not_slow(by: float, outcome: str, code: int) -> None:
    asked = plan(4)
    tried = walked(asked, exact(at(2, 4, by)))
    verdict = conclude(asked, tried)
    assert (verdict.outcome, verdict.exit_code) == (outcome, code)
    assert (len(tried) == 1) == (code == 0)
    assert (verdict.suspects == ()) == (code == 0)


def test_ends_that_cannot_be_told_leave_everybody_suspect() -> None:
    asked = plan(3)
    verdict = conclude(asked, walked(asked, exact(at(2, 3), unsure=[3])))
    assert (verdict.outcome, verdict.exit_code, verdict.suspects) == ("INCONCLUSIVE", 11, (1, 2, 3))


def test_a_revision_that_cannot_be_told_is_walked_around() -> None:
    asked = plan(8)
    tried = walked(asked, exact(at(7, 8), unsure=[4]))
    assert [one.candidate for one in tried[:3]] == [8, 4, 2], "a quarter, once the middle has told nothing"
    assert conclude(asked, tried).culprit == 7


@pytest.mark.parametrize("broken", [{3}, {3, 4}, {2, 3, 4, 5}])
def test_revisions_that_cannot_be_built_stay_suspects_with_the_first_that_is_slow(broken: set[int]) -> None:
    times: list[float | None] = [None if index in broken else one for index, one in enumerate(at(4, 8))]
    asked = plan(8)
    tried = walked(asked, exact(times))
    verdict = conclude(asked, tried)
    if 4 not in broken and broken == {3}:
        assert verdict.suspects == (3, 4)
    first_slow = min(index for index in range(4, 9) if index not in broken)
    last_fast = max(index for index in range(4) if index not in broken)
    assert verdict.suspects == tuple(range(last_fast + 1, first_slow + 1))
    assert (verdict.outcome, verdict.culprit, verdict.is_proven) == ("INCONCLUSIVE", None, True)
    assert tried[-1].purpose == PROOF


def test_a_long_stretch_that_cannot_be_built_is_left_soon() -> None:
    times: list[float | None] = [None if 20 <= index <= 44 else one for index, one in enumerate(at(60, 64))]
    asked = plan(64)
    tried = walked(asked, exact(times))
    assert conclude(asked, tried).culprit == 60
    assert sum(one.outcome is None for one in tried) <= 3


def test_doubt_ends_when_the_spare_comparisons_are_used_up() -> None:
    asked = plan(16, spare=2)
    tried = walked(asked, exact(at(9, 16), unsure=range(1, 16)))
    assert len(tried) == asked.most - 1, "one is kept for a proof, which the ends are here"
    verdict = conclude(asked, tried)
    assert verdict.suspects == tuple(range(1, 17))
    assert (verdict.outcome, verdict.is_proven) == ("INCONCLUSIVE", True)


def test_a_slowdown_in_parts_names_its_first_part_and_says_that_there_are_more() -> None:
    times: list[float | None] = [0.0, 0.0, 0.04, 0.04, 0.04, 0.04, 0.12, 0.12, 0.12]
    asked = plan(8)
    tried = walked(asked, exact(times))
    verdict = conclude(asked, tried)
    assert (verdict.outcome, verdict.culprit, verdict.in_parts) == ("FAIL", 2, True)
    assert range_of(asked, tried).catch_ratio == pytest.approx(math.exp(0.03)), "the part's own lower bound"


def test_a_creeping_slowdown_names_no_commit() -> None:
    """Half a per cent a commit: nobody is surely slower than the one before."""
    asked = plan(16)
    verdict = conclude(asked, walked(asked, exact([0.005 * index for index in range(17)])))
    assert (verdict.outcome, verdict.exit_code, verdict.culprit) == ("INCONCLUSIVE", 11, None)
    assert verdict.suspects == tuple(range(1, 17)), "what was shown of the range was not: all of them are left"


def test_a_walk_that_has_not_ended_has_no_verdict() -> None:
    asked = plan(4)
    first = exact(at(2, 4))(next_pair(asked, []))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has not come to its end"):
        conclude(asked, [first])


def test_ends_that_are_only_just_slower_go_on_to_the_next_look() -> None:
    """x1.05 with a lower bound near 1 would leave next to nothing to look for at every step."""
    limits, doubtful = PairedLimits(looks=(4, 8)), blocks(1.0405, 1.0596, 1.0405, 1.0596)
    verdict = decide(doubtful, limits)
    assert verdict is not None
    assert verdict.outcome == "FAIL"
    assert 1 < verdict.findings[0].low < 1.02
    assert decide_ends(doubtful, limits) is None
    assert decide_ends(doubtful * 2, limits) == decide(doubtful * 2, limits), "at the last look it is as it is"
    clear = blocks(1.10, 1.101, 1.099, 1.10)
    assert decide_ends(clear, limits) == decide(clear, limits)


def simulated(world: World, seed: int, log_times: Sequence[float], asked: WalkPlan) -> Machine:
    """Each comparison on a synthetic machine, by the rule of pairs."""

    def measured(pair: Pair) -> Tried:
        ratio = math.exp(log_times[pair.candidate] - log_times[pair.reference])
        catch = 1.05 if pair.catch_ratio is None else pair.catch_ratio
        limits = PairedLimits(catch_ratio=catch, false_alarm_frac=asked.share, miss_frac=asked.share)
        rule = decide_ends if pair.purpose == ENDS else decide
        seen = []
        for block in world_blocks(world, 1000 * seed + 10 * pair.candidate + len(pair.purpose), ratio, turns=3):
            seen.append(block)
            if (verdict := rule(seen, limits)) is not None:
                return tried_of(pair, verdict, catch)
        raise AssertionError("a machine has no end")

    return measured


@pytest.mark.parametrize("world", [WORLDS[0], WORLDS[2], WORLDS[5]], ids=lambda world: world.name)
def test_a_wrong_commit_is_named_no_more_often_than_stated(world: World) -> None:
    """Planted at a random place of nine; a large budget, so that a rule that overspends it is seen in few walks."""
    num, commits, asked = 135, 9, plan(9, wrong_frac=0.2)
    found: Counter[str] = Counter()
    for seed in range(num):
        guilty = seed % commits + 1
        times = [SLOW if index >= guilty else 0.0 for index in range(commits + 1)]
        verdict = conclude(asked, walked(asked, simulated(world, seed, times, asked)))
        found["named"] += verdict.culprit == guilty
        found["wrong"] += verdict.culprit is not None and verdict.culprit != guilty
        found["lost"] += bool(verdict.suspects) and guilty not in verdict.suspects
    assert asked.share == pytest.approx(0.2 / 9)
    assert found["wrong"] <= asked.share * num
    assert found["lost"] <= asked.wrong_frac * num
    if world.name == "quiet":
        assert found["named"] >= 0.9 * num


def test_unchanged_code_is_walked_no_more_often_than_stated() -> None:
    asked, num = plan(9, wrong_frac=0.2), 100
    verdicts = [conclude(asked, walked(asked, simulated(WORLDS[0], seed, [0.0] * 10, asked))) for seed in range(num)]
    assert sum(verdict.culprit is not None for verdict in verdicts) <= 3
    assert sum(verdict.outcome == "PASS" for verdict in verdicts) >= 90
