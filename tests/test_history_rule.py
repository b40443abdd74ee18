"""The rule of courses: where a figure changed, whether that is worse, and when nothing can be told."""

from __future__ import annotations

import numpy as np
import pytest

from baselines.history.course import Better, Course, CourseLimits, judge_course
from baselines.history.scan import largest_step
from baselines.refused import SettingRefused
from baselines.simulation.histories import machines, rates_of

NIGHTLY = CourseLimits()


def nights(num: int, sd: float = 0.01, seed: int = 0) -> np.ndarray:
    """RTFs near 0.1 of a machine whose runs differ by `sd`."""
    return 0.1 * np.exp(np.random.default_rng(seed).normal(0, sd, num))


def stepped(values: np.ndarray, place: int, ratio: float) -> np.ndarray:
    return values * np.where(np.arange(values.size) >= place, ratio, 1.0)


def judged(values: np.ndarray, since: int = 0, better: Better = "lower") -> Course:
    return judge_course(values.tolist(), NIGHTLY, better=better, is_ratio=True, since=since)


def test_five_percent_is_found_within_five_runs_and_placed() -> None:
    course = judged(stepped(nights(25, 0.008), 20, 1.05))
    assert course.outcome == "FAIL"
    (change,) = course.changes
    assert change.place == 20
    assert change.first <= 20 <= change.last
    assert change.found <= 24
    assert change.low < 1.05 < change.high
    assert [place for place, _ in course.levels] == [0, 20]
    assert course.levels[1][1] / course.levels[0][1] == pytest.approx(1.05, abs=0.01)


def test_what_was_found_is_found_in_every_later_reading() -> None:
    values = stepped(nights(60, 0.008), 22, 1.06)
    found = [judged(values[:num]).changes for num in (27, 40, 60)]
    assert {len(changes) for changes in found} == {1}
    assert len({changes[0].found for changes in found}) == 1


def test_a_change_before_the_time_under_review_is_told_and_fails_no_more() -> None:
    values = stepped(nights(60, 0.008), 20, 1.06)
    course = judged(values, since=50)
    assert (len(course.changes), course.outcome) == (1, "PASS")
    assert judged(values, since=20).outcome == "FAIL"


def test_faster_is_no_failure_and_a_score_that_falls_is_worse() -> None:
    faster = judged(stepped(nights(45, 0.008), 20, 0.9))
    assert (faster.outcome, [one.is_worse for one in faster.changes]) == ("PASS", [False])
    assert judged(stepped(nights(30, 0.008), 20, 0.9), better="higher").outcome == "FAIL"


def test_a_real_change_that_is_surely_small_is_a_warning() -> None:
    course = judged(stepped(nights(40, 0.002), 20, 1.015))
    assert course.outcome == "WARN"
    assert course.changes[0].high < 1.05


def test_a_difference_is_judged_as_one_where_ratios_mean_nothing() -> None:
    """An SNR in dB may be below 0."""
    values = np.concatenate(
        [np.random.default_rng(0).normal(-1.0, 0.2, 20), np.random.default_rng(1).normal(-3, 0.2, 6)]
    )
    course = judge_course(values.tolist(), NIGHTLY, better="higher", is_ratio=False)
    assert course.outcome == "FAIL"
    assert course.changes[0].effect == pytest.approx(-2, abs=0.3)
    with pytest.raises(ValueError, match="above 0"):
        judge_course(values.tolist(), NIGHTLY, better="higher", is_ratio=True)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (nights(9), "9 runs of this level, it takes 15"),
        (nights(1), "1 run of this level"),
        (nights(40, 0.05), "runs differ by too much: a change has to be"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_said_with_its_reason(values: np.ndarray, says: str) -> None:
    course = judged(values)
    assert course.outcome == "INCONCLUSIVE"
    assert says in course.reason


def test_a_single_wild_run_is_no_new_level() -> None:
    values = nights(30, 0.008)
    values[25] *= 1.5
    assert judged(values).changes == ()


def test_figures_that_never_differ_are_a_pass_and_a_step_in_them_is_found() -> None:
    """Memory of a deterministic engine."""
    flat = np.full(20, 700.0)
    assert judged(flat).outcome == "PASS"
    assert judged(np.concatenate([flat, np.full(4, 701.0)])).outcome == "WARN"


def test_a_p_value_is_as_often_small_as_it_says() -> None:
    """Of rows without a step a tenth is at most 0.1, within four standard errors."""
    generator = np.random.default_rng(3)
    steps = [largest_step(generator.exponential(1, 25), 0.01, 30, seed) for seed in range(200)]
    small = sum(step is not None and step.p_value <= 0.1 for step in steps)
    assert abs(small - 20) <= 4 * np.sqrt(200 * 0.1 * 0.9)


def test_an_hourly_look_is_stricter_than_a_nightly_one() -> None:
    assert CourseLimits(runs_a_month=720).fewest > NIGHTLY.fewest
    assert CourseLimits(runs_a_month=720).p_limit == pytest.approx(NIGHTLY.p_limit / 24)


@pytest.mark.parametrize(
    "wrong", [{"catch_ratio": 1.0}, {"false_alarm_frac": 0.0}, {"runs_a_month": 0}, {"found_within": 2}]
)
def test_limits_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingRefused):
        CourseLimits(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("machine", "tells"), [("amx-2c", True), ("epyc-2c-shared", False)])
def test_on_recorded_machines_the_rule_alarms_rarely_and_says_where_it_cannot_tell(machine: str, tells: bool) -> None:
    """Many more in docs/watching.md, by `f5bench history --selftest 400`."""
    rates = rates_of(machines()[machine], 6, NIGHTLY)
    assert rates.alarms == 0
    assert (rates.found == 6, rates.unsure == 6) == (tells, not tells)
    assert rates.found_sure == rates.sure
