"""The stored-baseline gate's self-test: what it counts, where that is kept and printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baselines.paired.selftests import STORED, HostErrors, Tally, load_errors, save_errors, stored_sentence
from baselines.stored.store import BaselineRefused
from engine.contract import ConfigError
from experiments.selftest.keep import Keeper
from experiments.selftest.stored import Gates, main, read_asked, slowed
from tests.baseline_runs import LIMITS, QUIET, Recipe, make_run

UNCHANGED = Recipe(world=QUIET)


def test_every_sixth_session_is_judged_against_the_five_before_it_and_so_are_its_scaled_copies(tmp_path: Path) -> None:
    gates = Gates(sessions=5, limits=LIMITS, folder=tmp_path)
    outcomes = [gates.add(make_run(seed, UNCHANGED)) for seed in range(25)]
    assert outcomes == 4 * [*[None] * 5, "PASS"] + [None], "no two verdicts share a session"
    counts = {(tally.source, tally.true_ratio): dict(tally.outcomes) for tally in gates.tallies()}
    assert counts["live", 1.0] == {"PASS": 4}
    assert counts["live, scaled", 0.95] == {"PASS": 4}
    assert counts["live, scaled", 1.10] == {"FAIL": 4}
    found = counts["live, scaled", 1.05]
    assert found.get("FAIL", 0) + found.get("WARN", 0) == 4


def test_a_session_that_cannot_be_part_of_a_baseline_is_refused(tmp_path: Path) -> None:
    gates = Gates(sessions=1, limits=LIMITS, folder=tmp_path)
    broken = make_run(1, UNCHANGED, status="failed", reason="killed")
    assert gates.add(broken) is None
    with pytest.raises(BaselineRefused, match="killed"):
        gates.add(make_run(2, UNCHANGED))


def test_a_scaled_session_differs_in_the_engines_times_only() -> None:
    run = make_run(1, UNCHANGED)
    slower = slowed(run, 1.05)
    assert [t.cpu_s for t in slower.trials] == pytest.approx([1.05 * t.cpu_s for t in run.trials])
    assert [t.wall_s for t in slower.trials] == pytest.approx([1.05 * t.wall_s for t in run.trials])
    assert (slower.calibrations, slower.scores, slower.utterances) == (run.calibrations, run.scores, run.utterances)
    assert slower.run_id != run.run_id


def test_counts_add_up_and_every_gate_can_print_them(tmp_path: Path) -> None:
    assert "python -m experiments.selftest.stored" in stored_sentence("h", tmp_path)
    for num in (8, 12):
        keep = Keeper("h", is_kept=True, folder=tmp_path, rule="stored-baseline-2")
        unchanged = Tally(source="live", true_ratio=1.0, outcomes={"PASS": num - 1, "INCONCLUSIVE": 1})
        keep([unchanged, Tally(source="live, scaled", true_ratio=1.05, outcomes={"FAIL": num})], None)
    kept = load_errors("h", tmp_path)
    assert kept is not None
    assert kept.rule == "stored-baseline-2"
    assert {t.true_ratio: dict(t.outcomes) for t in kept.tallies} == {
        1.0: {"PASS": 18, "INCONCLUSIVE": 2}, 1.05: {"FAIL": 20}
    }  # fmt: skip
    sentence = stored_sentence("h", tmp_path)
    assert "false alarms on this host class: 0 of 20 live (upper bound 14 %, 2 undecided)" in sentence
    assert "+5 % found in 20, passed in 0 of 20" in sentence


def test_another_rule_starts_anew(tmp_path: Path) -> None:
    old = Tally(source="live", true_ratio=1.0, outcomes={"FAIL": 9})
    save_errors(
        HostErrors(host_class="h", rule="stored-baseline-1", created="2026", tallies=(old,), restart_sd_frac=None),
        tmp_path,
    )
    Keeper("h", is_kept=True, folder=tmp_path, rule="stored-baseline-2")(
        [Tally(source="live", true_ratio=1.0, outcomes={"PASS": 1})], None
    )
    assert "0 of 1 live" in stored_sentence("h", tmp_path)


@pytest.mark.parametrize(
    ("argv", "key"),
    [
        ([], "minutes"), (["minutes=0"], "minutes"), (["minutes=1", "sessions=2.5"], "sessions"),
        (["minutes=1", "sessions=0"], "sessions"), (["minutes=1", "keep=no"], "keep"),
        (["minutes=1", "gate.catch_ratio=1.2"], "gate.catch_ratio"), (["minutes=1", "sessions=3"], "sessions"),
        (["minutes=1", "++gate.confidence=0.9"], "gate.confidence"),
        (["minutes=1", "measure.calibration=none"], "measure.calibration"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused_by_name(argv: list[str], key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_asked(argv)
    assert refused.value.key == key


def test_the_rest_is_for_the_run() -> None:
    asked = read_asked(["minutes=1", "engine=bf16", "out=here", "workload.limit=1"])
    assert asked.rest == ("engine=bf16", "workload.limit=1", "tracking=none")
    assert read_asked(["minutes=1"]).rest == ("workload=smoke", "tracking=none")


def test_a_session_of_the_real_engine_is_left_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So short that only the first session of the first baseline is made."""
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path / "locks"))
    before = {path: path.read_bytes() for path in STORED.glob("*")}
    short = ["workload.select=[en04]", "measure.rounds=1", "measure.calibration=none", "quality.metrics=[snr]"]
    assert main(["minutes=0.001", "keep=false", "solver=euler_5", *short, f"out={tmp_path / 'out'}"]) == 0
    assert json.loads((tmp_path / "out/0000/result.json").read_text())["status"] == "ok"
    assert "| times of |" in (tmp_path / "out/gate_selftest.md").read_text()
    assert "of a baseline" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in STORED.glob("*")} == before
