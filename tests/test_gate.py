"""Verdicts on synthetic runs: a table of cases, each with its outcome, its exit code and what did not pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from baselines.stored.gate import judge
from baselines.stored.verdict import Verdict
from metrics.record import CalibrationReading, RunRecord, Score
from tests import baseline_runs as runs
from tests.baseline_runs import (
    IDS,
    LIMITS,
    NOISY,
    SNR,
    VALID,
    Recipe,
    changed,
    five,
    make_run,
    no_score,
    on_machine,
    score,
    with_environment,
    with_facts,
    with_scores,
)

Build = Callable[[], tuple[Sequence[RunRecord], RunRecord]]


def against(*baselines: RunRecord, new: RunRecord) -> Build:
    return lambda: (baselines, new)


def snr_of_reference(run: RunRecord) -> RunRecord:
    """The quality reference itself: nothing to compare it with."""
    absent = [no_score(SNR, name, "not_applicable", "is the reference") for name in IDS]
    return with_scores(run, *absent)


def counted(status: Any, reason: str | None) -> Score:
    value = 1.0 if status == "ok" else None
    return Score(
        metric="steady_counters", utterance_id=None, value=value, status=status, reason=reason, better="higher"
    )


def with_unified(run: RunRecord, more_mib: int = 0) -> RunRecord:
    """Of a board with one memory; PSS stays what it is."""
    lost = {"lost_bytes": (3000 + more_mib) * 2**20}
    return replace(run, environment={**run.environment, "unified_memory": lost})


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
NUM_EVALS_8 = replace(make_run(2), trials=tuple(replace(t, num_evals=8) for t in make_run(2).trials))
GPU = Recipe(device="cuda:0", calibrated=False)
GPU_SLOW = Recipe(device="cuda:0", calibrated=False, slower=1.12)

ONE_SENTENCE = Recipe(ids=IDS[:1])


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
        "INCONCLUSIVE",
        11,
        {"cpu_time": "INCONCLUSIVE", "wall_time": "INCONCLUSIVE"},
    ),
    (
        "one round",
        against(*BASES, new=make_run(2, Recipe(rounds=1))),
        "INCONCLUSIVE",
        11,
        {"cpu_time": "INCONCLUSIVE", "wall_time": "INCONCLUSIVE"},
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
        "INCONCLUSIVE",
        11,
        {"cpu_time": "INCONCLUSIVE", "wall_time": "INCONCLUSIVE"},
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
    ("other processor flags", against(*BASES, new=with_environment(cpu_flags=["avx2"])), "INVALID_ENV", 12, {}),
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
    ("audio never checked", against(*BASES, new=UNCHECKED), "INCONCLUSIVE", 11, {VALID: "INCONCLUSIVE"}),
    (
        "100 MiB more memory",
        against(*BASES, new=make_run(2, Recipe(peak_bytes=800 * 2**20))),
        "FAIL",
        10,
        {"peak_pss_bytes": "FAIL"},
    ),
    (
        "100 MiB more of the one memory of a board, and no more of the process's own",
        against(*map(with_unified, BASES), new=with_unified(make_run(2), 100)),
        "FAIL",
        10,
        {"peak_unified_bytes": "FAIL"},
    ),
    ("20 MiB more of it", against(*map(with_unified, BASES), new=with_unified(make_run(2), 20)), "PASS", 0, {}),
    (
        "a board whose memory nobody read",
        against(*map(with_unified, BASES), new=make_run(2)),
        "INCONCLUSIVE",
        11,
        {"peak_unified_bytes": "INCONCLUSIVE"},
    ),
    ("20 MiB more memory", against(*BASES, new=make_run(2, Recipe(peak_bytes=720 * 2**20))), "PASS", 0, {}),
    ("RSS where PSS is missing on one side", against(*BASES, new=make_run(2, peak_pss_bytes=None)), "PASS", 0, {}),
    (
        "no memory figure at all",
        against(*BASES, new=make_run(2, peak_pss_bytes=None, peak_rss_bytes=None)),
        "INCONCLUSIVE",
        11,
        {"peak_rss_bytes": "INCONCLUSIVE"},
    ),
    (
        "device memory missing in the new run",
        against(*five(peak_device_bytes=2**30), new=make_run(2)),
        "INCONCLUSIVE",
        11,
        {"peak_device_bytes": "INCONCLUSIVE"},
    ),
    ("other bits, same SNR", against(*BASES, new=changed()), "PASS", 0, {}),
    ("2 dB lost in all sentences", against(*BASES, new=changed(snr_change_db=-2.0)), "FAIL", 10, {SNR: "FAIL"}),
    ("0.5 dB lost in all sentences", against(*BASES, new=changed(snr_change_db=-0.5)), "WARN", 0, {SNR: "WARN"}),
    ("2 dB won", against(*BASES, new=changed(snr_change_db=2.0)), "PASS", 0, {}),
    ("one broken sentence in a good mean", against(*BASES, new=ONE_BROKEN), "FAIL", 10, {SNR: "FAIL"}),
    ("a sentence lost its score", against(*BASES, new=ONE_LOST), "FAIL", 10, {SNR: "FAIL"}),
    ("SNR spread wider than the margin", against(*BASES, new=MIXED), "INCONCLUSIVE", 11, {SNR: "INCONCLUSIVE"}),
    ("SNR missing in the new run", against(*BASES, new=NO_SNR), "INCONCLUSIVE", 11, {SNR: "INCONCLUSIVE"}),
    ("quality switched off", against(*BASES, new=NO_QUALITY), "INCONCLUSIVE", 11, {SNR: "INCONCLUSIVE"}),
    ("bit-identical without any SNR", against(*BASES, new=replace(NO_SNR, utterances=BASE.utterances)), "PASS", 0, {}),
    (
        "the reference engine itself speaks other bits",
        against(*map(snr_of_reference, BASES), new=snr_of_reference(changed())),
        "INCONCLUSIVE",
        11,
        {SNR: "INCONCLUSIVE"},
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
        "INCONCLUSIVE",
        11,
        {"cpu_time": "INCONCLUSIVE"},
    ),
    (
        "20 % slower than one session is beyond any noise assumed",
        against(BASE, new=make_run(2, Recipe(slower=1.20))),
        "FAIL",
        10,
        {"cpu_time": "FAIL", "wall_time": "INCONCLUSIVE"},
    ),
    ("one sentence, one pair of a round", against(*five(ONE_SENTENCE), new=make_run(2, ONE_SENTENCE)), "PASS", 0, {}),
    (
        "one sentence a little worse in one pair",
        against(*five(ONE_SENTENCE), new=make_run(2, replace(ONE_SENTENCE, audio="b", snr_change_db=-0.5))),
        "INCONCLUSIVE",
        11,
        {SNR: "INCONCLUSIVE"},
    ),
    ("identical samples on every side", against(BASE, BASE, BASE, new=BASE), "PASS", 0, {}),
    (
        "a baseline whose memory is zero",
        against(*five(peak_pss_bytes=0, peak_rss_bytes=0), new=make_run(2)),
        "INCONCLUSIVE",
        11,
        {"peak_rss_bytes": "INCONCLUSIVE"},
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
        "INCONCLUSIVE",
        11,
        {"cpu_time": "INCONCLUSIVE", "wall_time": "INCONCLUSIVE"},
    ),
    ("a skipped run", against(*BASES, new=SKIPPED), "INCONCLUSIVE", 14, {"run": "INCONCLUSIVE"}),
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


def explanations(verdict: Verdict) -> str:
    return "\n".join(f"{f.outcome} {f.metric}: {f.explanation}" for f in verdict.findings)
