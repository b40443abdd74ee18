"""The measuring loop: what is timed, in which order, and what is on the disk when."""

import gc
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from engine.clock import HostClock
from engine.contract import Synthesis, SynthesisRequest
from experiments.checks import overhead, sampled
from experiments.common.journal import JournalWriter, read_journal
from experiments.measuring.calibration import gemm_shape, make_calibrations
from experiments.measuring.measure import OutOfTime, measure, plan_for, same_bits
from tests.engines import config
from tests.fakes import FakeClock, FakeEngine, calibrate_with, facts, plan, probes, request

MEASURE = {
    "warmup_rounds": 1, "rounds": 5, "slow_warmup_rounds": 0, "slow_rounds": 2, "slow_from_evals": 32, "order_seed": 0,
    "time_limit_s": 900, "warmup_utterances": 3, "calibrations_per_round": 4,
}  # fmt: skip


def test_the_timed_region_is_the_call_alone_between_two_synchronisations(tmp_path: Path) -> None:
    clock = FakeClock()
    with JournalWriter(tmp_path / "j") as journal:
        measure(FakeEngine(facts(), clock), [request("a")], plan(rounds=1), probes(clock, False), journal)
    timed = ["sync", "cpu", "now", "synthesize a", "sync", "now", "cpu"]
    trial = ["now", *timed, "peak"]  # the first `now` looks at the time limit
    assert clock.log == ["now", *timed, *trial, "round over", "reset peak", *trial, "round over"]


def test_each_call_costs_what_the_engine_took_and_nothing_else(tmp_path: Path) -> None:
    clock = FakeClock()
    with JournalWriter(tmp_path / "j") as journal:
        measure(FakeEngine(facts(), clock, 0.25), [request("a"), request("b")], plan(), probes(clock), journal)
    read = read_journal(tmp_path / "j")
    assert read.first_call_s == pytest.approx(0.25)
    assert [trial.wall_s for trial in read.trials] == pytest.approx([0.25] * 6)
    assert [trial.cpu_s for trial in read.trials] == pytest.approx([0.5] * 6)
    assert [(t.is_warmup, t.repeat) for t in read.trials] == [(True, 0)] * 2 + [(False, 0)] * 2 + [(False, 1)] * 2
    assert {(t.calibration_s, t.calibration_cpu_s) for t in read.trials} == {(0.03, 0.06)}
    assert {t.num_evals for t in read.trials} == {7}
    assert {t.peak_bytes for t in read.trials} == {1000}


def test_every_round_speaks_every_sentence_once_in_an_order_that_the_seed_decides(tmp_path: Path) -> None:
    names = [f"u{i}" for i in range(8)]

    def order(seed: int) -> list[str]:
        engine = FakeEngine(facts())
        with JournalWriter(tmp_path / "j") as journal:
            measure(engine, [request(n) for n in names], plan(order_seed=seed), probes(FakeClock()), journal)
        return engine.calls

    first, again, other = order(0), order(0), order(1)
    assert first[0] == "u0"
    rounds = [first[1 + 8 * i : 9 + 8 * i] for i in range(3)]
    assert all(sorted(spoken) == names for spoken in rounds)
    assert len({tuple(spoken) for spoken in rounds}) == 3
    assert first == again != other


def test_the_calibration_runs_once_a_round_at_changing_places(tmp_path: Path) -> None:
    clock = FakeClock()
    with JournalWriter(tmp_path / "j") as journal:
        measure(FakeEngine(facts(), clock), [request("a"), request("b")], plan(rounds=12), probes(clock), journal)
    rounds = " ".join(event for event in clock.log if event.startswith(("synth", "calib", "round"))).split("round over")
    assert [spoken.count("calibrate") for spoken in rounds[:-1]] == [1] * 13
    places = {spoken.split("calibrate")[0].count("synthesize") for spoken in rounds[1:-1]}
    assert places == {0, 1, 2}


def test_a_trial_is_on_the_disk_before_the_next_one_starts(tmp_path: Path) -> None:
    path = tmp_path / "j"
    seen: list[int] = []

    class Looking(FakeEngine):
        def synthesize(self, requests):  # type: ignore[no-untyped-def]
            seen.append(sum(json.loads(line)["kind"] == "trial" for line in path.read_text().splitlines()))
            return super().synthesize(requests)

    with JournalWriter(path) as journal:
        measure(Looking(facts()), [request("a"), request("b")], plan(), probes(FakeClock()), journal)
    assert seen == [0, 0, 1, 2, 3, 4, 5]


def test_the_collector_is_off_while_timing_and_on_afterwards(tmp_path: Path) -> None:
    states: list[bool] = []

    class Looking(FakeEngine):
        def synthesize(self, requests):  # type: ignore[no-untyped-def]
            states.append(gc.isenabled())
            return super().synthesize(requests)

    with JournalWriter(tmp_path / "j") as journal:
        measure(Looking(facts()), [request("a")], plan(), probes(FakeClock()), journal)
    assert states == [False] * 4
    assert gc.isenabled()


def test_the_time_limit_ends_the_loop_between_trials_and_keeps_what_was_measured(tmp_path: Path) -> None:
    clock = FakeClock()
    with JournalWriter(tmp_path / "j") as journal, pytest.raises(OutOfTime, match="1 s reached, 3 of 6 trials"):
        measure(
            FakeEngine(facts(), clock, 0.25),
            [request("a"), request("b")],
            plan(time_limit_s=1),
            probes(clock, False),
            journal,
        )
    assert len(read_journal(tmp_path / "j").trials) == 3


def test_audio_is_kept_of_the_first_steady_round_and_compared_bit_by_bit(tmp_path: Path) -> None:
    class Drifting(FakeEngine):
        def _one(self, request: SynthesisRequest) -> Synthesis:
            synthesis = super()._one(request)
            if request.utterance_id == "b":
                synthesis.audio_S[0] = len(self.calls)
            return synthesis

    with JournalWriter(tmp_path / "j") as journal:
        measured = measure(Drifting(facts()), [request("a"), request("b")], plan(), probes(FakeClock()), journal)
    assert measured.repeats_identical == {"a": True, "b": False}
    assert 4 <= measured.spoken["b"].audio_S[0] <= 5  # the calls of the round after first call and warm-up


def test_not_a_number_repeats_itself_too() -> None:
    audio_S = np.array([0.0, np.nan], np.float32)
    assert same_bits(audio_S, audio_S.copy())
    assert not same_bits(audio_S, np.array([-0.0, np.nan], np.float32))


def test_an_engine_that_answers_for_another_sentence_is_an_error(tmp_path: Path) -> None:
    class Confused(FakeEngine):
        def _one(self, request: SynthesisRequest) -> Synthesis:
            return replace(super()._one(request), utterance_id="z")

    with JournalWriter(tmp_path / "j") as journal, pytest.raises(ValueError, match="asked for a"):
        measure(Confused(facts()), [request("a")], plan(), probes(FakeClock()), journal)


@pytest.mark.parametrize(("num_evals", "rounds", "warmup"), [(7, 5, 1), (31, 5, 1), (32, 2, 0), (64, 2, 0)])
def test_slow_solvers_are_measured_fewer_times(num_evals: int, rounds: int, warmup: int) -> None:
    chosen = plan_for(MEASURE, num_evals)
    assert (chosen.rounds, chosen.warmup_rounds) == (rounds, warmup)
    assert chosen.num_trials(12) == 12 * rounds + 3 * warmup
    assert chosen.num_trials(2) == 2 * (rounds + warmup)


def test_a_warm_up_round_may_be_short_and_a_round_has_several_calibrations(tmp_path: Path) -> None:
    clock = FakeClock()
    names = [request(f"u{i}") for i in range(5)]
    chosen = plan(warmup_utterances=2, calibrations_per_round=3)
    with JournalWriter(tmp_path / "j") as journal:
        measure(FakeEngine(facts(), clock, 0.25), names, chosen, probes(clock), journal)
    read = read_journal(tmp_path / "j")
    assert [sum(t.is_warmup for t in read.trials), len(read.trials)] == [2, 2 + 2 * 5]
    assert clock.log.count("calibrate") == 3 * 3
    assert {trial.calibration_s for trial in read.trials} == {0.03}


def test_the_calibration_is_a_fixed_amount_of_the_models_largest_product() -> None:
    pocket = gemm_shape({"dim": 256, "ff_mult": 2}, "cpu")
    base = gemm_shape({"dim": 1024, "ff_mult": 2}, "cpu")
    assert (pocket.inner, pocket.columns, base.inner, base.columns) == (256, 512, 1024, 2048)
    for shape in (pocket, base):
        flop = 2 * shape.rows * shape.inner * shape.columns * shape.count
        assert 2.5e9 <= flop < 2.5e9 + 2 * shape.rows * shape.inner * shape.columns


def test_every_calibration_runs_on_the_clock_that_it_was_given() -> None:
    clock = FakeClock()
    made = make_calibrations(config("measure.calibration=all"), clock)
    assert list(made.by_work) == ["gemm", "memory", "dispatch"]
    for calibrate in made.by_work.values():
        assert calibrate().wall_s == 0
    assert clock.log == ["sync", "now", "sync", "now"] * 3
    assert 2 * 16 * 2**20 < made.num_bytes < 40 * 2**20
    assert list(make_calibrations(config("measure.calibration=memory"), clock).by_work) == ["memory"]
    none = make_calibrations(config("measure.calibration=none"), clock)
    assert (dict(none.by_work), none.num_bytes) == ({}, 0)


def test_calibrations_of_every_kind_stand_at_changing_places_of_a_round(tmp_path: Path) -> None:
    clock = FakeClock()
    both = {name: (lambda: calibrate_with(clock)) for name in ("gemm", "memory")}
    chosen = plan(rounds=6, warmup_rounds=0, calibrations_per_round=2)
    with JournalWriter(tmp_path / "j") as journal:
        measure(FakeEngine(facts(), clock), [request("a")], chosen, replace(probes(clock), calibrations=both), journal)
    read = read_journal(tmp_path / "j").calibrations
    rounds = [[c.work for c in read if c.repeat == repeat] for repeat in range(6)]
    assert all(sorted(works) == ["gemm", "gemm", "memory", "memory"] for works in rounds)
    assert len({tuple(works) for works in rounds}) > 1


def test_the_overhead_benchmark_prints_both_loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    engine = FakeEngine(facts())
    pairs = overhead.measure_pairs(engine, request("a"), 8, config())
    assert len(pairs) == 8
    assert len(engine.calls) == 18
    assert all(pair.turn_s >= pair.timed_s > 0 for pair in pairs)
    printed = overhead.report([overhead.Pair(0.2, 0.2, 0.201)] * 8)
    assert "call in a bare loop    200.000 ms (200.000..200.000)" in printed
    assert "ratio                  1.000 (1.000..1.000)" in printed
    assert "beyond the call        1.000 ms (1.000..1.000): 0.50 % of a 200 ms call" in printed
    assert list((tmp_path / "outputs").iterdir()) == []


def test_calls_are_timed_with_telemetry_beside_them_and_without() -> None:
    switched: list[bool] = []
    engine = FakeEngine(facts())
    found = sampled.measure_stretches(engine, request("a"), HostClock(), 6, switched.append, stretch_s=0.001)
    assert len(found) == 6
    assert all(set(pair) == {True, False} for pair in zip(switched[::2], switched[1::2], strict=True))
    assert len({*switched[::2]}) == 2, "in random order"
    assert all(one.with_s > 0 and one.without_s > 0 for one in found)
    printed = sampled.report([sampled.Stretches(with_s=0.2002, without_s=0.2)] * 8, 24)
    assert "8 pairs of stretches of at least 3 s, 24 samples read" in printed
    assert "ratio                  1.0010 (1.0010..1.0010), allowed is 1.01" in printed


def test_the_sampler_beside_calls_reads_and_stands_still_as_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.jsonl"

    with sampled.sampler("cpu", path) as sampling:
        assert sampled.num_samples(path) >= 1
        process = psutil.Process(sampling.pid)
        for runs in (False, True):
            sampling(runs)
            while (process.status() == psutil.STATUS_STOPPED) is runs:
                pass
    assert not psutil.pid_exists(sampling.pid)
    assert json.loads(path.read_text().splitlines()[0])["kind"] == "head"
