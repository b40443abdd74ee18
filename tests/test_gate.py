"""Verdicts on synthetic runs: a table of cases, error rates in simulated worlds, and order under slowdowns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.gate import judge
from baselines.verdict import SEVERITY, Finding, Limits, Verdict
from metrics.record import RecordError, RunRecord
from tests import baseline_runs as runs
from tests.baseline_runs import (
    IDS,
    LIMITS,
    Recipe,
    World,
    make_run,
    no_score,
    score,
    with_scores,
)

SNR = "snr_vs_reference_db"
VALID = "audio_valid"
Build = Callable[[], tuple[Sequence[RunRecord], RunRecord]]


def against(*baselines: RunRecord, new: RunRecord) -> Build:
    return lambda: (baselines, new)


def changed(**recipe: Any) -> RunRecord:
    """A new run that speaks other bits than the baseline."""
    return make_run(2, Recipe(audio="b", **recipe))


def with_facts(**changes: Any) -> RunRecord:
    return make_run(2, facts=runs.facts(**changes))


def with_environment(**changes: Any) -> RunRecord:
    return make_run(2, environment={**runs.environment(), **changes})


def snr_of_reference(run: RunRecord) -> RunRecord:
    """The quality reference itself: nothing to compare it with."""
    absent = [no_score(SNR, name, "not_applicable", "is the reference") for name in IDS]
    return with_scores(run, *absent)


BASE = make_run(1)
ONE_LOST = with_scores(changed(), no_score(SNR, "en05", "not_comparable", "audio shapes (1,) and (2,)"))
ONE_BROKEN = with_scores(changed(), score(SNR, "en05", 10.0))
ONE_SILENT = with_scores(make_run(2), no_score(VALID, "en03", "error", "silent"))
NO_SNR = replace(changed(), scores=changed().scores_of(VALID))
NO_QUALITY = with_scores(changed(), *(no_score(SNR, name, "not_applicable", "quality.enabled=false") for name in IDS))
UNCHECKED = replace(make_run(2), scores=make_run(2).scores_of(SNR))
NOT_SPOKEN = make_run(2, Recipe(ids=IDS[:-1]))
MIXED = with_scores(changed(), *(score(SNR, name, 14.3 + 0.5 * i + 2.2 * (-1) ** i) for i, name in enumerate(IDS)))
SKIPPED = make_run(2, status="skipped", reason="fp16 is not supported on cpu", remedy="use bf16", trials=())
RANDOM = {"facts": runs.facts(random_weights=True)}
NOT_SCORED = [no_score(VALID, name, "not_applicable", "random weights: a speed workload") for name in IDS] + [
    no_score(SNR, name, "not_applicable", "random weights: a speed workload") for name in IDS
]
NOISY = World(round=0.3, wall_factor=1)
NUM_EVALS_8 = replace(make_run(2), trials=tuple(replace(t, num_evals=8) for t in make_run(2).trials))
GPU = Recipe(device="cuda:0", calibrated=False)
GPU_SLOW = Recipe(device="cuda:0", calibrated=False, slower=1.12)

# name, (baseline sessions, new run), outcome, exit code, the findings that are not PASS
CASES: list[tuple[str, Build, str, int, dict[str, str]]] = [
    ("the same run", against(BASE, new=BASE), "PASS", 0, {}),
    ("another session of the same", against(BASE, new=make_run(2)), "PASS", 0, {}),
    ("3 % slower", against(BASE, new=make_run(2, Recipe(slower=1.03))), "WARN", 0, {"cpu_time": "WARN"}),
    ("10 % slower", against(BASE, new=make_run(2, Recipe(slower=1.10))), "FAIL", 10, {"cpu_time": "FAIL"}),
    (
        "40 % slower fails both clocks",
        against(BASE, new=make_run(2, Recipe(slower=1.40))),
        "FAIL",
        10,
        {"cpu_time": "FAIL", "wall_time": "FAIL"},
    ),
    ("10 % faster", against(BASE, new=make_run(2, Recipe(slower=0.90))), "PASS", 0, {}),
    (
        "noisy rounds",
        against(BASE, new=make_run(2, Recipe(world=NOISY))),
        "CANNOT_TELL",
        11,
        {"cpu_time": "CANNOT_TELL", "wall_time": "CANNOT_TELL"},
    ),
    (
        "one round",
        against(BASE, new=make_run(2, Recipe(rounds=1))),
        "CANNOT_TELL",
        11,
        {"cpu_time": "CANNOT_TELL", "wall_time": "CANNOT_TELL"},
    ),
    ("five sessions", against(*(make_run(s) for s in range(3, 8)), new=make_run(2)), "PASS", 0, {}),
    (
        "10 % slower than five sessions",
        against(*(make_run(s) for s in range(3, 8)), new=make_run(2, Recipe(slower=1.10))),
        "FAIL",
        10,
        {"cpu_time": "FAIL"},
    ),
    (
        "three sessions of one round each know their noise",
        against(*(make_run(s, Recipe(rounds=1)) for s in (3, 4, 5)), new=make_run(2, Recipe(rounds=1))),
        "PASS",
        0,
        {},
    ),
    (
        "no calibration on a CPU",
        against(BASE, new=make_run(2, Recipe(calibrated=False))),
        "CANNOT_TELL",
        11,
        {"cpu_time": "CANNOT_TELL", "wall_time": "CANNOT_TELL"},
    ),
    (
        "a GPU gates wall time, finely",
        against(make_run(1, GPU), new=make_run(2, GPU_SLOW)),
        "FAIL",
        10,
        {"wall_time": "FAIL"},
    ),
    ("another host class", against(BASE, new=with_environment(host_class="other-8c-cpu")), "INVALID_ENV", 12, {}),
    ("other threads", against(BASE, new=with_environment(threads=1)), "INVALID_ENV", 12, {}),
    ("another torch", against(BASE, new=with_environment(versions={"torch": "2.12.0"})), "INVALID_ENV", 12, {}),
    ("another power mode", against(BASE, new=with_environment(power_mode="30W")), "INVALID_ENV", 12, {}),
    ("another engine", against(BASE, new=with_facts(name="int8")), "INVALID_ENV", 12, {}),
    ("another solver", against(BASE, new=with_facts(solver="midpoint", evals_per_step=2)), "INVALID_ENV", 12, {}),
    ("another grid", against(BASE, new=with_facts(time_grid=[0.0, 0.4, 1.0])), "INVALID_ENV", 12, {}),
    ("other weights", against(BASE, new=with_facts(weights_sha256="m1")), "INVALID_ENV", 12, {}),
    ("another workload", against(BASE, new=make_run(2, workload={"identity_sha256": "w1"})), "INVALID_ENV", 12, {}),
    ("more evaluations than counted then", against(BASE, new=NUM_EVALS_8), "INVALID_ENV", 12, {}),
    (
        "a failing environment hides a failing speed",
        against(BASE, new=replace(make_run(2, Recipe(slower=2)), facts=runs.facts(steps=8))),
        "INVALID_ENV",
        12,
        {},
    ),
    ("one sentence with invalid audio", against(BASE, new=ONE_SILENT), "FAIL", 10, {VALID: "FAIL"}),
    ("one sentence not spoken", against(BASE, new=NOT_SPOKEN), "FAIL", 10, {VALID: "FAIL"}),
    ("audio never checked", against(BASE, new=UNCHECKED), "CANNOT_TELL", 11, {VALID: "CANNOT_TELL"}),
    (
        "100 MiB more memory",
        against(BASE, new=make_run(2, Recipe(peak_bytes=800 * 2**20))),
        "FAIL",
        10,
        {"peak_pss_bytes": "FAIL"},
    ),
    ("20 MiB more memory", against(BASE, new=make_run(2, Recipe(peak_bytes=720 * 2**20))), "PASS", 0, {}),
    ("RSS where PSS is missing on one side", against(BASE, new=make_run(2, peak_pss_bytes=None)), "PASS", 0, {}),
    (
        "no memory figure at all",
        against(BASE, new=make_run(2, peak_pss_bytes=None, peak_rss_bytes=None)),
        "CANNOT_TELL",
        11,
        {"peak_rss_bytes": "CANNOT_TELL"},
    ),
    (
        "device memory missing in the new run",
        against(make_run(1, peak_device_bytes=2**30), new=make_run(2)),
        "CANNOT_TELL",
        11,
        {"peak_device_bytes": "CANNOT_TELL"},
    ),
    ("other bits, same SNR", against(BASE, new=changed()), "PASS", 0, {}),
    ("2 dB lost in all sentences", against(BASE, new=changed(snr_change_db=-2.0)), "FAIL", 10, {SNR: "FAIL"}),
    ("0.5 dB lost in all sentences", against(BASE, new=changed(snr_change_db=-0.5)), "WARN", 0, {SNR: "WARN"}),
    ("2 dB won", against(BASE, new=changed(snr_change_db=2.0)), "PASS", 0, {}),
    ("one broken sentence in a good mean", against(BASE, new=ONE_BROKEN), "FAIL", 10, {SNR: "FAIL"}),
    ("a sentence lost its score", against(BASE, new=ONE_LOST), "FAIL", 10, {SNR: "FAIL"}),
    ("SNR spread wider than the margin", against(BASE, new=MIXED), "CANNOT_TELL", 11, {SNR: "CANNOT_TELL"}),
    ("SNR missing in the new run", against(BASE, new=NO_SNR), "CANNOT_TELL", 11, {SNR: "CANNOT_TELL"}),
    ("quality switched off", against(BASE, new=NO_QUALITY), "CANNOT_TELL", 11, {SNR: "CANNOT_TELL"}),
    ("bit-identical without any SNR", against(BASE, new=replace(NO_SNR, utterances=BASE.utterances)), "PASS", 0, {}),
    (
        "the reference engine itself speaks other bits",
        against(snr_of_reference(BASE), new=snr_of_reference(changed())),
        "CANNOT_TELL",
        11,
        {SNR: "CANNOT_TELL"},
    ),
    (
        "random weights are gated for speed only",
        against(make_run(1, **RANDOM), new=with_scores(replace(changed(), **RANDOM), *NOT_SCORED)),
        "PASS",
        0,
        {},
    ),
    ("a skipped run", against(BASE, new=SKIPPED), "CANNOT_TELL", 14, {"run": "CANNOT_TELL"}),
]


@pytest.mark.parametrize(
    ("build", "outcome", "exit_code", "not_passed"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_verdict(build: Build, outcome: str, exit_code: int, not_passed: dict[str, str]) -> None:
    baselines, new = build()
    verdict = judge(baselines, new, LIMITS)
    assert (verdict.outcome, verdict.exit_code) == (outcome, exit_code), explanations(verdict)
    if outcome != "INVALID_ENV":
        assert {f.metric: f.outcome for f in verdict.findings if f.outcome != "PASS"} == not_passed


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


def test_a_machine_half_as_fast_does_not_fail_the_same_code() -> None:
    slow = [
        replace(t, wall_s=2 * t.wall_s, cpu_s=2 * t.cpu_s, calibration_s=0.2, calibration_cpu_s=0.4)
        for t in make_run(2).trials
    ]
    verdict = judge([BASE], make_run(2, trials=tuple(slow)), LIMITS)
    assert finding(verdict, "cpu_time").effect == pytest.approx(1, abs=0.02)
    assert verdict.outcome != "FAIL"
    assert "the calibration itself took x2.0" in finding(verdict, "cpu_time").explanation


def test_effect_of_a_known_slowdown_is_exact_without_noise() -> None:
    silent = World(call=0, round=0, calibration=0)
    base, new = make_run(1, Recipe(world=silent)), make_run(2, Recipe(world=silent, slower=1.08))
    latency = finding(judge([base], new, LIMITS), "cpu_time")
    assert latency.effect == pytest.approx(1.08)
    # Nothing but the assumed session noise is left: 0.5 % on either side, normal, a third of 1 %
    assert latency.interval is not None
    assert latency.interval[0] == pytest.approx(1.08 * math.exp(-2.713 * 0.005 * math.sqrt(2)), rel=1e-4)
    assert latency.interval[1] == pytest.approx(1.08 * math.exp(1.645 * 0.005 * math.sqrt(2)), rel=1e-4)


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
    assert "a slowdown is found 95 % surely only " in latency.explanation


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


def explanations(verdict: Verdict) -> str:
    return "\n".join(f"{f.outcome} {f.metric}: {f.explanation}" for f in verdict.findings)
