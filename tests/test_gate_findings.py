"""What a finding says: its effect, its error rate, what it could find; and order: worse never reads better."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.stored.gate import judge
from baselines.stored.latency import Known
from baselines.stored.power import Power
from baselines.stored.sessions import HostNoise
from baselines.stored.verdict import Finding, Limits, Verdict
from metrics.record import RecordError, RunRecord
from metrics.verdict import SEVERITY
from tests.baseline_runs import (
    IDS,
    LIMITS,
    NOISY,
    SNR,
    Recipe,
    World,
    changed,
    five,
    make_run,
    on_machine,
    score,
    with_environment,
    with_facts,
    with_scores,
)

BASES = five()
BASE = BASES[0]


def test_environment_finding_names_every_differing_key_with_both_values() -> None:
    new = with_environment(threads=1, versions={"torch": "2.12.0"})
    found = {f.metric: (f.baseline, f.new) for f in judge([BASE], new, LIMITS).findings}
    assert found == {"environment.threads": ("2", "1"), "environment.versions.torch": ("2.11.0", "2.12.0")}


def test_versions_of_the_engine_are_named_one_by_one() -> None:
    new = with_facts(versions={"torch": "2.11.0", "onnxruntime": "1.20"})
    found = {f.metric: (f.baseline, f.new) for f in judge([BASE], new, LIMITS).findings}
    assert found == {"facts.versions.onnxruntime": ("null", "1.20")}


@pytest.mark.parametrize("field", ["wall_s", "cpu_s", "calibration_s", "calibration_cpu_s"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0])
def test_times_that_are_no_numbers_are_refused(field: str, value: float) -> None:
    broken = replace(BASE.trials[5], **{field: value})
    new = replace(BASE, trials=(*BASE.trials[:5], broken, *BASE.trials[6:]))
    with pytest.raises(RecordError, match=f"{field}={value} of {broken.utterance_id}"):
        judge([BASE], new, LIMITS)


def test_a_slower_machine_does_not_fail_the_same_code() -> None:
    verdict = judge([BASE], on_machine(1.4), LIMITS)
    assert finding(verdict, "cpu_time").effect == pytest.approx(1, abs=0.02)
    assert verdict.outcome != "FAIL"
    assert "the gemm calibration itself took x1.40" in finding(verdict, "cpu_time").explanation


def test_a_changed_machine_is_named_with_what_its_history_allows() -> None:
    found = judge(BASES, on_machine(1.3), LIMITS).findings
    assert [f.metric for f in found] == ["machine.calibration"]
    assert "the gemm calibration took x1.30 of its time in the baseline" in found[0].explanation


def test_effect_of_a_known_slowdown_is_exact_without_noise() -> None:
    silent = World(call=0, round=0, calibration=0)
    base, new = make_run(1, Recipe(world=silent)), make_run(2, Recipe(world=silent, slower=1.08))
    latency = finding(judge([base], new, LIMITS), "cpu_time")
    assert latency.effect == pytest.approx(1.08)
    # Nothing but the assumed session noise is left: 2 % on either side, normal, a third of 1 %
    assert latency.interval is not None
    assert latency.interval[0] == pytest.approx(1.08 * math.exp(-2.713 * 0.02 * math.sqrt(2)), rel=1e-4)
    assert latency.interval[1] == pytest.approx(1.08 * math.exp(1.645 * 0.02 * math.sqrt(2)), rel=1e-4)
    assert latency.detectable == pytest.approx(math.exp((2.713 + 1.645) * 0.02 * math.sqrt(2)), rel=1e-4)


def test_a_gate_that_is_too_blind_for_its_limit_says_what_would_find_it() -> None:
    one = finding(judge([BASE], make_run(2), LIMITS), "cpu_time").explanation
    assert "a slowdown is found 95 % surely from x1.1" in one
    assert "for x1.05 on a machine like this use `python -m experiments.compare`" in one
    three = judge(BASES[:3], make_run(2, Recipe(world=World(cpu_session=0.02))), LIMITS)
    assert "sessions of this noise in the baseline would find x1.05" in finding(three, "cpu_time").explanation
    five_sessions = finding(judge(BASES, make_run(2), LIMITS), "cpu_time")
    assert five_sessions.detectable is not None
    assert five_sessions.detectable < 1.05
    assert "experiments.compare" not in five_sessions.explanation


def test_sessions_needed_are_those_of_the_published_table() -> None:
    """Largest SD of a session for 1 % false alarms and 95 % power at +5 %: 0.71 % with 5, 0.98 % with 10 sessions."""
    power = Power(ignore_ratio=1.0, catch_ratio=1.05, false_alarm_frac=0.01)
    for sessions, spread in ((5, 0.0068), (10, 0.0097), (20, 0.0110)):
        needed = power.sessions_needed(spread)
        assert needed is not None
        assert sessions - 2 <= needed <= sessions  # the sum of two Student quantiles is not quite exact
    assert power.sessions_needed(0.03) is None


def test_the_noise_of_the_host_class_takes_the_place_of_the_assumption() -> None:
    known = Known(noise={"cpu_time": HostNoise(sd_frac=0.003, df=12, num_baselines=3)})
    verdict = judge([BASE], make_run(2, Recipe(slower=1.05)), LIMITS, known)
    assert finding(verdict, "cpu_time").outcome == "FAIL"
    assert (
        "session noise 0.30 % of this host class, from 3 of its baselines" in finding(verdict, "cpu_time").explanation
    )


def test_the_recorded_calibration_is_the_one_divided_by() -> None:
    known = Known(works={"cpu_time": "memory", "wall_time": "gemm"})
    explanation = finding(judge(BASES, make_run(2), LIMITS, known), "cpu_time").explanation
    assert "the memory calibration itself took" in explanation


def test_every_statistical_finding_states_its_error_rate_and_the_verdict_the_sum() -> None:
    verdict = judge([BASE], changed(snr_change_db=-0.2), LIMITS)
    rates = [f for f in verdict.findings if "false alarm rate at most 0.33 %" in f.explanation]
    assert [f.metric for f in rates] == ["cpu_time", "wall_time", SNR]
    assert verdict.false_alarm_frac == pytest.approx(0.01)


def test_bit_identical_audio_is_said_to_be_so() -> None:
    snr = finding(judge([BASE], make_run(2), LIMITS), SNR)
    assert snr.effect == 0
    assert "bit-identical" in snr.explanation


def test_cannot_tell_says_what_could_be_found() -> None:
    latency = finding(judge([BASE], make_run(2, Recipe(world=NOISY)), LIMITS), "cpu_time")
    assert "CPU time too noisy for x1.05; a slowdown is found 95 % surely " in latency.explanation
    assert "experiments.compare" in latency.explanation


def test_the_slowest_sentence_is_named() -> None:
    trials = tuple(replace(t, cpu_s=t.cpu_s * (1.5 if t.utterance_id == "en07" else 1)) for t in BASE.trials)
    assert (
        "at most x1.500 in en07" in finding(judge([BASE], replace(BASE, trials=trials), LIMITS), "cpu_time").explanation
    )


def test_an_incomplete_last_round_is_left_out() -> None:
    whole = finding(judge([BASE], make_run(2), LIMITS), "cpu_time")
    cut = make_run(2, Recipe(rounds=5)).trials
    extra = tuple(replace(t, repeat=5, cpu_s=9.0) for t in cut[-12:-6])
    assert finding(judge([BASE], make_run(2, trials=cut + extra), LIMITS), "cpu_time").effect == whole.effect


def test_a_baseline_without_sessions_is_refused() -> None:
    with pytest.raises(RecordError, match="without sessions"):
        judge([], BASE, LIMITS)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    spread=st.floats(0, 0.3),
    slower=st.floats(0.8, 1.3),
    more=st.floats(1, 3),
    sessions=st.sampled_from([1, 2, 4]),
)
def test_slower_never_makes_the_verdict_better(
    seed: int, spread: float, slower: float, more: float, sessions: int
) -> None:
    world = World(round=spread)
    base = [make_run(seed + i, Recipe(world=world, rounds=3)) for i in range(sessions)]
    new = make_run(seed + 99, Recipe(world=world, rounds=3, slower=slower))
    slowed = replace(new, trials=tuple(replace(t, wall_s=t.wall_s * more, cpu_s=t.cpu_s * more) for t in new.trials))
    before, after = judge(base, new, LIMITS), judge(base, slowed, LIMITS)
    assert SEVERITY.index(after.outcome) >= SEVERITY.index(before.outcome)


@settings(max_examples=60, deadline=None)
@given(
    changes=st.lists(st.floats(-6, 6), min_size=12, max_size=12),
    loss_db=st.floats(0, 6),
)
def test_losing_snr_never_makes_the_verdict_better(changes: list[float], loss_db: float) -> None:
    def run(offset_db: float) -> RunRecord:
        values = zip(IDS, changes, strict=True)
        return with_scores(changed(), *(score(SNR, name, 15.0 + c - offset_db) for name, c in values))

    before, after = judge([BASE], run(0.0), LIMITS), judge([BASE], run(loss_db), LIMITS)
    assert SEVERITY.index(after.outcome) >= SEVERITY.index(before.outcome)


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"catch_ratio": 0.9}, r"gate.catch_ratio=0.9: must be above gate.ignore_ratio=1.0"),
        ({"confidence": 1.0}, r"gate.confidence=1.0: must lie between 0.5 and 1"),
        ({"snr_margin_db": -1}, r"gate.snr_margin_db=-1: must be above 0"),
        ({"memory_ratio": "2 %"}, r"gate.memory_ratio=2 %: not a finite number"),
        ({"catch": 1.1}, r"gate.catch=1.1: no such limit"),
    ],
)
def test_limits_that_make_no_sense_name_their_key(gate: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Limits.from_mapping({"name": "mine", **asdict(LIMITS), **gate})


def finding(verdict: Verdict, metric: str) -> Finding:
    return next(f for f in verdict.findings if f.metric == metric)
