"""The same-run verdict's own error rates, on recorded traces and on six synthetic machines. Fixed seeds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from baselines.paired.selftests import HostErrors, Restarts, Tally, error_sentence, load_errors, save_errors
from baselines.simulation import rivals
from baselines.simulation.traces import load_traces, save_trace, trace_blocks
from baselines.simulation.worlds import WORLDS, world_blocks
from engine.contract import ConfigError
from experiments.selftest.__main__ import read_asked
from experiments.selftest.keep import Keeper, together
from experiments.selftest.replay import rival_rates, sources, tally
from experiments.settings.compose import compose_config
from metrics.record import RecordError

TRACES = {trace.name: trace for trace in load_traces()}
STEADY = [name for name, trace in TRACES.items() if "steady" in name]
SYNTHETIC = {name: blocks for name, blocks in sources([]).items()}


def wrong(one: Tally) -> int:
    return one.outcomes.get("FAIL", 0) + one.outcomes.get("WARN", 0)


@pytest.mark.parametrize("name", sorted(TRACES))
def test_recorded_machines_cry_wolf_in_at_most_1_percent(name: str) -> None:
    one = tally(name, sources([TRACES[name]])[name], 1.0, 400)
    assert wrong(one) <= 4, one


@pytest.mark.parametrize("name", sorted(SYNTHETIC))
def test_synthetic_machines_cry_wolf_in_at_most_1_percent(name: str) -> None:
    one = tally(name, SYNTHETIC[name], 1.0, 200)
    assert wrong(one) <= 2, one


@pytest.mark.parametrize("name", sorted({*TRACES, *SYNTHETIC}))
def test_5_percent_slower_never_passes_and_5_percent_faster_never_fails(name: str) -> None:
    blocks = {**SYNTHETIC, **sources(list(TRACES.values()))}[name]
    assert tally(name, blocks, 1.05, 60).outcomes.get("PASS", 0) == 0
    assert wrong(tally(name, blocks, 0.95, 60)) == 0


@pytest.mark.parametrize("name", ["synthetic: quiet", *sorted(STEADY)])
def test_5_percent_slower_is_found_where_the_machine_is_steady(name: str) -> None:
    blocks = {**SYNTHETIC, **sources(list(TRACES.values()))}[name]
    assert wrong(tally(name, blocks, 1.05, 100)) >= 95


def test_there_are_recorded_traces_of_a_steady_and_of_a_busy_machine() -> None:
    assert STEADY
    assert set(TRACES) - set(STEADY)
    assert all(len(trace.blocks) >= 16 for trace in TRACES.values())


def test_the_other_tools_cry_wolf_where_the_clocks_change() -> None:
    theirs = rival_rates(lambda seed, ratio: world_blocks(WORLDS[3], seed, ratio), 60)
    assert max(rates[1.0] for rates in theirs.values()) > 0.1
    assert set(theirs) == set(rivals.RIVALS)


@pytest.mark.parametrize("rule", rivals.RIVALS.values(), ids=list(rivals.RIVALS))
def test_every_restated_rule_sees_a_doubling_and_no_change_in_equal_times(rule: rivals.Rival) -> None:
    old_s = np.linspace(0.99, 1.01, 20)
    assert rule(old_s, 2 * old_s)
    assert not rule(old_s, old_s)
    assert not rule(2 * old_s, old_s)


def test_a_trace_survives_the_disk(tmp_path: Path) -> None:
    trace = next(iter(TRACES.values()))
    path = save_trace(trace, tmp_path)
    assert load_traces(tmp_path) == [trace]
    assert path.stat().st_size < 100_000
    path.write_text("{}")
    with pytest.raises(RecordError, match="not a trace"):
        load_traces(tmp_path)


def test_a_replay_is_the_same_every_time_and_scales_the_candidate_only() -> None:
    trace = next(iter(TRACES.values()))
    first, again, slower = (next(trace_blocks(trace, 3, ratio)) for ratio in (1.0, 1.0, 1.05))
    assert first == again
    assert slower.turns[0].wall_s["candidate"] == pytest.approx(1.05 * first.turns[0].wall_s["candidate"])
    assert slower.turns[0].wall_s["reference"] == first.turns[0].wall_s["reference"]


def errors(*tallies: Tally, rule: str = "r") -> HostErrors:
    return HostErrors(host_class="h", rule=rule, created="2026-01-01T00:00", tallies=tallies, restart_sd_frac=None)


def test_the_sentence_states_the_exact_bound(tmp_path: Path) -> None:
    known = errors(
        Tally(source="live", true_ratio=1.0, outcomes={"PASS": 639, "FAIL": 1}),
        Tally(source="live", true_ratio=1.05, outcomes={"FAIL": 19, "INCONCLUSIVE": 1}),
        Tally(source="epyc", true_ratio=1.0, outcomes={"PASS": 399, "WARN": 1}),
        Tally(source="synthetic: quiet", true_ratio=1.0, outcomes={"FAIL": 400}),
    )
    save_errors(known, tmp_path)
    assert load_errors("h", tmp_path) == known
    text = error_sentence(known, "h")
    assert "1 of 640 live (upper bound 0.74 %)" in text
    assert "1 of 400 replayed" in text
    assert "+5 % found in 19, passed in 0 of 20" in text
    assert "no selftest of host class x" in error_sentence(load_errors("x", tmp_path), "x")


def test_live_counts_add_up_and_replays_replace() -> None:
    live, trace = (
        Tally(source="live", true_ratio=1.0, outcomes={"PASS": 5}),
        Tally(source="t", true_ratio=1.0, outcomes={"PASS": 7}),
    )
    both = together(errors(live, trace), errors(live, trace))
    assert {t.source: t.num for t in both.tallies} == {"live": 10, "t": 7}
    assert together(errors(live, rule="old"), errors(live)).tallies == (live,)


@pytest.mark.parametrize(("before", "now"), [(0.008, 0.0), (0.0, 0.008), (0.008, None), (None, 0.008)])
def test_a_quiet_hour_does_not_unsay_what_restarts_differ_by(before: float | None, now: float | None) -> None:
    both = together(replace(errors(), restart_sd_frac=before), replace(errors(), restart_sd_frac=now))
    assert both.restart_sd_frac == 0.008


def test_the_bound_of_the_longer_measurement_of_restarts_is_kept(tmp_path: Path) -> None:
    short = Restarts(sd_frac=0.0, upper_frac=0.009, num_blocks=8)
    long = Restarts(sd_frac=0.003, upper_frac=0.004, num_blocks=60)
    for before, now in ((short, long), (long, short), (None, long), (long, None)):
        both = together(replace(errors(), restarts=before), replace(errors(), restarts=now))
        assert both.restarts == long
    save_errors(both, tmp_path)
    assert load_errors("h", tmp_path) == both


def test_a_file_without_a_bound_of_restarts_is_read(tmp_path: Path) -> None:
    path = save_errors(errors(), tmp_path)
    content = json.loads(path.read_text())
    del content["restarts"]
    path.write_text(json.dumps(content))
    assert load_errors("h", tmp_path) == errors()


@pytest.mark.parametrize(
    "argv", [["engine=bf16"], ["minutes=0"], ["minutes=1", "ratios=[2]"], ["record=x"], ["keep=no"]]
)
def test_what_a_selftest_cannot_do_is_refused(argv: list[str]) -> None:
    with pytest.raises(ConfigError):
        read_asked(argv)


@pytest.mark.parametrize(
    "text",
    [
        "candidate.engine=bf16",
        "reference.revision=HEAD~1",
        "looks=[4]",
        "catch_ratio=1.2",
        "pairs_per_block=12",
        "sentinel=true",
    ],
)
def test_what_is_no_self_comparison_by_the_default_rule_is_not_counted_as_one(text: str) -> None:
    with pytest.raises(ConfigError, match="keep=false"):
        read_asked(["minutes=1", text])
    assert read_asked(["minutes=1", "keep=false", text]).rest == (text,)


def test_two_selftests_side_by_side_keep_the_outcomes_of_both(tmp_path: Path) -> None:
    one, other = (Keeper("h", is_kept=True, folder=tmp_path) for _ in range(2))
    for num in (1, 2, 2):
        for keeper in (one, other):
            keeper([Tally(source="live", true_ratio=1.0, outcomes={"PASS": num})], None)
    kept = load_errors("h", tmp_path)
    assert kept is not None
    assert [tally.outcomes for tally in kept.tallies] == [{"PASS": 4}]
    Keeper("x", is_kept=False, folder=tmp_path)([], None)
    assert load_errors("x", tmp_path) is None


def test_outcomes_belong_to_the_device_that_was_asked_for() -> None:
    config = compose_config(read_asked(["minutes=1", "device=cuda", "out=here"]).overrides)
    assert (config["device"]["kind"], config["out"]) == ("cuda:0", "here")
    assert compose_config(read_asked([]).overrides)["device"]["kind"] == "cpu"
