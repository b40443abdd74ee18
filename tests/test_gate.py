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
from baselines.latency import Known
from baselines.power import Power
from baselines.sessions import HostNoise
from baselines.verdict import SEVERITY, Finding, Limits, Verdict
from metrics.record import CalibrationReading, RecordError, RunRecord, Score
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


def five(recipe: Recipe | None = None, **changes: Any) -> list[RunRecord]:
    """Sessions of one baseline: enough to know its noise."""
    return [make_run(seed, recipe, **changes) for seed in (1, 11, 12, 13, 14)]


def counted(status: Any, reason: str | None) -> Score:
    value = 1.0 if status == "ok" else None
    return Score(
        metric="steady_counters", utterance_id=None, value=value, status=status, reason=reason, better="higher"
    )


def plus(run: RunRecord, *scores: Score) -> RunRecord:
    return replace(run, scores=(*run.scores, *scores))


BASES = five()
BASE = BASES[0]
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

ONE_SENTENCE = Recipe(ids=IDS[:1])


def on_machine(factor: float) -> RunRecord:
    """The same code on a machine on which everything takes that many times as long."""
    run = make_run(2)
    trials = tuple(replace(t, wall_s=factor * t.wall_s, cpu_s=factor * t.cpu_s) for t in run.trials)
    return runs.with_calibration(replace(run, trials=trials), factor, factor)


def only(run: RunRecord, work: str) -> tuple[CalibrationReading, ...]:
    return tuple(reading for reading in run.calibrations if reading.work == work)


# name, (baseline sessions, new run), outcome, exit code, the findings that are not PASS
CASES: list[tuple[str, Build, str, int, dict[str, str]]] = [
    ("the same run", against(*BASES, new=BASE), "PASS", 0, {}),
    ("another session of the same", against(*BASES, new=make_run(2)), "PASS", 0, {}),
    ("3 % slower", against(*BASES, new=make_run(2, Recipe(slower=1.03))), "WARN", 0, {"cpu_time": "WARN"}),
    ("10 % slower", against(*BASES, new=make_run(2, Recipe(slower=1.10))), "FAIL", 10, {"cpu_time": "FAIL"}),
    (
        "40 % slower fails both clocks",
        against(*BASES, new=make_run(2, Recipe(slower=1.40))),
        "FAIL",
        10,
        {"cpu_time": "FAIL", "wall_time": "FAIL"},
    ),
    ("10 % faster", against(*BASES, new=make_run(2, Recipe(slower=0.90))), "PASS", 0, {}),
    (
        "noisy rounds",
        against(*BASES, new=make_run(2, Recipe(world=NOISY))),
        "CANNOT_TELL",
        11,
        {"cpu_time": "CANNOT_TELL", "wall_time": "CANNOT_TELL"},
    ),
    (
        "one round",
        against(*BASES, new=make_run(2, Recipe(rounds=1))),
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
        against(*BASES, new=make_run(2, Recipe(calibrated=False))),
        "CANNOT_TELL",
        11,
        {"cpu_time": "CANNOT_TELL", "wall_time": "CANNOT_TELL"},
    ),
    (
        "a GPU gates wall time, finely",
        against(*five(GPU), new=make_run(2, GPU_SLOW)),
        "FAIL",
        10,
        {"wall_time": "FAIL"},
    ),
    ("another host class", against(*BASES, new=with_environment(host_class="other-8c-cpu")), "INVALID_ENV", 12, {}),
    ("other threads", against(*BASES, new=with_environment(threads=1)), "INVALID_ENV", 12, {}),
    ("another torch", against(*BASES, new=with_environment(versions={"torch": "2.12.0"})), "INVALID_ENV", 12, {}),
    ("another power mode", against(*BASES, new=with_environment(power_mode="30W")), "INVALID_ENV", 12, {}),
    ("another engine", against(*BASES, new=with_facts(name="int8")), "INVALID_ENV", 12, {}),
    ("another solver", against(*BASES, new=with_facts(solver="midpoint", evals_per_step=2)), "INVALID_ENV", 12, {}),
    ("another grid", against(*BASES, new=with_facts(time_grid=[0.0, 0.4, 1.0])), "INVALID_ENV", 12, {}),
    ("other weights", against(*BASES, new=with_facts(weights_sha256="m1")), "INVALID_ENV", 12, {}),
    ("another workload", against(*BASES, new=make_run(2, workload={"identity_sha256": "w1"})), "INVALID_ENV", 12, {}),
    ("more evaluations than counted then", against(*BASES, new=NUM_EVALS_8), "INVALID_ENV", 12, {}),
    (
        "a failing environment hides a failing speed",
        against(*BASES, new=replace(make_run(2, Recipe(slower=2)), facts=runs.facts(steps=8))),
        "INVALID_ENV",
        12,
        {},
    ),
    ("one sentence with invalid audio", against(*BASES, new=ONE_SILENT), "FAIL", 10, {VALID: "FAIL"}),
    ("one sentence not spoken", against(*BASES, new=NOT_SPOKEN), "FAIL", 10, {VALID: "FAIL"}),
    ("audio never checked", against(*BASES, new=UNCHECKED), "CANNOT_TELL", 11, {VALID: "CANNOT_TELL"}),
    (
        "100 MiB more memory",
        against(*BASES, new=make_run(2, Recipe(peak_bytes=800 * 2**20))),
        "FAIL",
        10,
        {"peak_pss_bytes": "FAIL"},
    ),
    ("20 MiB more memory", against(*BASES, new=make_run(2, Recipe(peak_bytes=720 * 2**20))), "PASS", 0, {}),
    ("RSS where PSS is missing on one side", against(*BASES, new=make_run(2, peak_pss_bytes=None)), "PASS", 0, {}),
    (
        "no memory figure at all",
        against(*BASES, new=make_run(2, peak_pss_bytes=None, peak_rss_bytes=None)),
        "CANNOT_TELL",
        11,
        {"peak_rss_bytes": "CANNOT_TELL"},
    ),
    (
        "device memory missing in the new run",
        against(*five(peak_device_bytes=2**30), new=make_run(2)),
        "CANNOT_TELL",
        11,
        {"peak_device_bytes": "CANNOT_TELL"},
    ),
    ("other bits, same SNR", against(*BASES, new=changed()), "PASS", 0, {}),
    ("2 dB lost in all sentences", against(*BASES, new=changed(snr_change_db=-2.0)), "FAIL", 10, {SNR: "FAIL"}),
    ("0.5 dB lost in all sentences", against(*BASES, new=changed(snr_change_db=-0.5)), "WARN", 0, {SNR: "WARN"}),
    ("2 dB won", against(*BASES, new=changed(snr_change_db=2.0)), "PASS", 0, {}),
    ("one broken sentence in a good mean", against(*BASES, new=ONE_BROKEN), "FAIL", 10, {SNR: "FAIL"}),
    ("a sentence lost its score", against(*BASES, new=ONE_LOST), "FAIL", 10, {SNR: "FAIL"}),
    ("SNR spread wider than the margin", against(*BASES, new=MIXED), "CANNOT_TELL", 11, {SNR: "CANNOT_TELL"}),
    ("SNR missing in the new run", against(*BASES, new=NO_SNR), "CANNOT_TELL", 11, {SNR: "CANNOT_TELL"}),
    ("quality switched off", against(*BASES, new=NO_QUALITY), "CANNOT_TELL", 11, {SNR: "CANNOT_TELL"}),
    ("bit-identical without any SNR", against(*BASES, new=replace(NO_SNR, utterances=BASE.utterances)), "PASS", 0, {}),
    (
        "the reference engine itself speaks other bits",
        against(*map(snr_of_reference, BASES), new=snr_of_reference(changed())),
        "CANNOT_TELL",
        11,
        {SNR: "CANNOT_TELL"},
    ),
    (
        "random weights are gated for speed only",
        against(*five(**RANDOM), new=with_scores(replace(changed(), **RANDOM), *NOT_SCORED)),
        "PASS",
        0,
        {},
    ),
    (
        "5 % slower than one session, which does not know its noise",
        against(BASE, new=make_run(2, Recipe(slower=1.05))),
        "CANNOT_TELL",
        11,
        {"cpu_time": "CANNOT_TELL"},
    ),
    (
        "20 % slower than one session is beyond any noise assumed",
        against(BASE, new=make_run(2, Recipe(slower=1.20))),
        "FAIL",
        10,
        {"cpu_time": "FAIL", "wall_time": "CANNOT_TELL"},
    ),
    ("one sentence, one pair of a round", against(*five(ONE_SENTENCE), new=make_run(2, ONE_SENTENCE)), "PASS", 0, {}),
    (
        "one sentence a little worse in one pair",
        against(*five(ONE_SENTENCE), new=make_run(2, replace(ONE_SENTENCE, audio="b", snr_change_db=-0.5))),
        "CANNOT_TELL",
        11,
        {SNR: "CANNOT_TELL"},
    ),
    ("identical samples on every side", against(BASE, BASE, BASE, new=BASE), "PASS", 0, {}),
    (
        "a baseline whose memory is zero",
        against(*five(peak_pss_bytes=0, peak_rss_bytes=0), new=make_run(2)),
        "CANNOT_TELL",
        11,
        {"peak_rss_bytes": "CANNOT_TELL"},
    ),
    ("less memory", against(*BASES, new=make_run(2, Recipe(peak_bytes=400 * 2**20))), "PASS", 0, {}),
    (
        "an SNR of 0 dB is a number",
        against(*(with_scores(run, score(SNR, "en05", 0.0)) for run in BASES), new=changed(snr_change_db=0.5)),
        "PASS",
        0,
        {},
    ),
    (
        "the engine compiled while it was timed",
        against(*BASES, new=plus(make_run(2), counted("error", "compilations went from 3 to 4 in the timed region"))),
        "FAIL",
        10,
        {"steady_counters": "FAIL"},
    ),
    ("no counter moved", against(*BASES, new=plus(make_run(2), counted("ok", None))), "PASS", 0, {}),
    ("a machine 5 % slower", against(*BASES, new=on_machine(1.05)), "PASS", 0, {}),
    ("a machine twice as slow", against(*BASES, new=on_machine(2.0)), "INVALID_ENV", 12, {}),
    ("a machine twice as slow as one session's", against(BASE, new=on_machine(2.0)), "INVALID_ENV", 12, {}),
    ("a machine twice as fast", against(*BASES, new=on_machine(0.5)), "INVALID_ENV", 12, {}),
    (
        "a machine busy with other things",
        against(*BASES, new=with_environment(other_cpu_frac=0.9)),
        "INVALID_ENV",
        12,
        {},
    ),
    ("a machine that is shared a little", against(*BASES, new=with_environment(other_cpu_frac=0.5)), "PASS", 0, {}),
    (
        "no calibration that both sides made",
        against(
            *(replace(run, calibrations=only(run, "gemm")) for run in BASES),
            new=replace(make_run(2), calibrations=only(make_run(2), "memory")),
        ),
        "CANNOT_TELL",
        11,
        {"cpu_time": "CANNOT_TELL", "wall_time": "CANNOT_TELL"},
    ),
    ("a skipped run", against(*BASES, new=SKIPPED), "CANNOT_TELL", 14, {"run": "CANNOT_TELL"}),
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


def explanations(verdict: Verdict) -> str:
    return "\n".join(f"{f.outcome} {f.metric}: {f.explanation}" for f in verdict.findings)
