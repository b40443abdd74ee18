"""The comparison verb: its command line, its processes with the real engine, revisions, sides that prove nothing."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baselines.paired.data import Block, Turn
from baselines.paired.selftests import HostErrors, Restarts
from engine.clock import HostClock
from engine.contract import ConfigError
from engine.paths import ROOT
from experiments.common.repository import commit_of
from experiments.compare import __main__ as compare
from experiments.compare import session as compare_session
from experiments.compare.bench import orders
from experiments.compare.child import Side
from experiments.compare.preparing import prepare
from experiments.compare.processes import Server, SideFailed, SideSpec
from experiments.compare.proof import Proof
from experiments.compare.revision import refuse_uncommitted, worktree
from experiments.compare.session import _quick_may_decide, _same_environment
from experiments.compare.settings import read_command, read_settings
from reports.verdicts.paired import comparison_sheet
from reports.verdicts.sheet import markdown_of
from tests.engines import config
from tests.test_paired_rule import LIMITS, block, blocks, judge

SHORT = ["workload=smoke", "workload.select=[en05]", "solver=euler_6", "tracking=none"]


def test_the_command_line_is_split_by_side() -> None:
    command = read_command(["reference.engine=bf16", "candidate.revision=HEAD", "workload=smoke", "pairs_per_block=8"])
    assert command.sides["reference"].overrides == ("engine=bf16", "workload=smoke")
    assert (command.sides["candidate"].overrides, command.sides["candidate"].revision) == (("workload=smoke",), "HEAD")
    assert command.settings.plan.turns_per_block == 8
    assert command.settings.plan.blocks_per_server == 1  # two trees: fresh imports for every block
    assert read_settings([]).plan.blocks_per_server == 4
    assert read_settings(["mode=quick", "pairs=48"]).limits.looks == (48,)  # as it was written before
    assert read_settings(["compare=quick", "compare.pairs=48"]).limits.looks == (48,)
    assert read_settings(["compare=quick"]).limits.looks == (12, 24, 48, 96, 192)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("pairs=48", "compare.pairs"), ("mode=fast", "compare.mode"), ("looks=[8,4]", "compare.looks"),
        ("compare.catch_ratio=0.9", "compare.catch_ratio"), ("compare.pears=1", "compare.pears"),
        ("compare.pairs=12,48", "compare.pairs"), ("compare=fast", "compare"), ("compare.looks=4", "compare.looks"),
        ("pairs_per_block=0", "compare.pairs_per_block"), ("sentinel=maybe", "compare.sentinel"),
        ("catch_ration=1.1", "catch_ration"), ("~compare.pairs", "compare.pairs"),
        ("reference=fp32", "reference"), ("metrics=[rtf]", "compare.metrics"),
        ("compare.time_limit_s=-1", "compare.time_limit_s"),
    ],
)  # fmt: skip
def test_a_setting_that_means_nothing_is_refused_by_name(text: str, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_command([text])
    assert refused.value.key == key


@pytest.mark.parametrize(
    "text",
    ["gate.catch_ratio=1.2", "measure=quick", "candidate.quality=full", "++stream.name=x", "sweep.fail_fast=true"],
)
def test_what_a_comparison_does_not_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="does not read it"):
        read_command([text])
    assert read_command(["sweep.lock=refuse"]).sides["candidate"].overrides == ("sweep.lock=refuse",)


def test_a_comparison_is_kept_and_logged_in_one_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="logged once"):
        compare.main([*SHORT, "reference.tracking.experiment=other", f"out={tmp_path}"])
    with pytest.raises(ConfigError, match="one folder"):
        compare.main([*SHORT, f"out={tmp_path}", "reference.out=elsewhere"])


@pytest.mark.parametrize("text", ["model=f5tts_v1_base_random", "model.checkpoint=random:1", "device.threads=1"])
def test_a_group_is_no_misspelt_setting(text: str) -> None:
    assert read_command([text]).sides["candidate"].overrides == (text,)


def test_sides_find_their_requests_from_any_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        prepared = prepare(read_command(["engine=fp32", "workload=smoke"]), Path("out"), stack)
    assert {spec.requests for spec in prepared.specs} == {tmp_path / "out" / "requests" / "requests.json"}


def test_a_cpu_has_no_clock_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.run_verb(compare.main, [*SHORT, "metrics=[wall_time,device_time]", f"out={tmp_path}"]) == 2
    assert "compare.metrics=device_time: a CPU has no clock of its own" in capsys.readouterr().err


def test_sides_that_speak_different_sentences_are_refused(tmp_path: Path) -> None:
    assert compare.run_verb(compare.main, ["reference.seed=1", f"out={tmp_path}"]) == 2


@pytest.mark.parametrize("name", ["verdict.json", "pairs.jsonl"])
def test_a_folder_of_another_comparison_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(ConfigError, match=f"already holds {name}"):
        compare.main([*SHORT, f"out={tmp_path}"])


def test_a_folder_that_cannot_be_made_is_a_line_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert compare.run_verb(compare.main, [*SHORT, f"out={tmp_path / 'file' / 'out'}"]) == 2
    assert "cannot be written (Not a directory)" in capsys.readouterr().err


def test_every_order_comes_equally_often() -> None:
    two = list(orders(("a", "b"), 8, random.Random(0)))
    assert [Counter(two[i : i + 4])["a", "b"] for i in (0, 4)] == [2, 2]
    assert set(Counter(orders(("a", "b", "c"), 12, random.Random(0))).values()) == {2}


def test_an_engine_against_itself_leaves_every_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*SHORT, f"out={tmp_path}", "looks=[2]", "pairs_per_block=4", "candidate.engine=int8", "sentinel=true"]
    code = compare.main(argv)
    content = json.loads((tmp_path / "verdict.json").read_text())
    assert code == content["exit_code"]
    assert content["num_turns"] == 8
    assert content["sides"]["candidate"]["facts"]["name"] == "int8"
    assert content["audio_checked"] == {"reference": 1, "candidate": 1, "sentinel": 1}
    assert content["known_errors"]
    assert content["outcome"] in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    turns = [line for line in lines if line["kind"] == "turn"]
    assert len(turns) == 8
    made = [line for line in lines if line["kind"] != "build"]
    calls = [(side, "order" in line) for line in made for side in line.get("order") or [line["side"]]]
    for (before, _), (side, is_timed) in itertools.pairwise(calls):
        assert not is_timed or side != before, "no timed call finds its own weights in the cache"
    assert all(set(turn["cpu_s"]) == {"reference", "candidate", "sentinel"} for turn in turns)
    assert content["outcome"] in (tmp_path / "summary.md").read_text()
    assert 'tests="1"' in (tmp_path / "junit.xml").read_text()


def test_a_revision_is_measured_with_its_own_engine(tmp_path: Path) -> None:
    root = tmp_path / "repo"
    subprocess.run(["git", "clone", "--quiet", "--shared", str(ROOT), str(root)], check=True)
    head = commit_of("reference.revision", "HEAD", root)
    refuse_uncommitted("candidate.revision", root)
    with worktree("reference.revision", "HEAD", root) as tree:
        side = SideSpec(side="reference", tree=tree, config=config(), requests=tmp_path / "none", threads=1)
        with (tmp_path / "log.txt").open("wb") as log, Server(side, log, None) as server:
            server.wait_ready()  # raises unless the engine package is that of the worktree
        assert subprocess.check_output(["git", "-C", str(tree), "rev-parse", "HEAD"], text=True).strip() == head
    assert not tree.exists()
    (root / "engine" / "build.py").write_text("changed")
    with pytest.raises(ConfigError, match="uncommitted"):
        refuse_uncommitted("candidate.revision", root)
    with pytest.raises(ConfigError, match="no such commit"):
        commit_of("reference.revision", "nonsense", root)


def test_a_side_that_cannot_be_built_fails_without_a_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise SideFailed("candidate", "UnsupportedEngine", "no kernels", "use fp32")

    monkeypatch.setattr(compare_session, "measure", fail)
    assert compare.main([*SHORT, f"out={tmp_path}"]) == 14
    content = json.loads((tmp_path / "verdict.json").read_text())
    assert (content["outcome"], content["findings"], content["reason"]) == ("FAILED", [], "no kernels")
    assert "<error" in (tmp_path / "junit.xml").read_text()


class BusyEngine:
    """Takes a few milliseconds and knows how many."""

    own_s = 0.0

    def synthesize(self, requests: list[Any]) -> list[str]:
        before_s = time.perf_counter()
        np.sort(np.random.default_rng(0).random(100_000))
        self.own_s = time.perf_counter() - before_s
        return ["spoken"]


@pytest.mark.parametrize("slow_frac", [0.5, 1.0])
def test_an_injected_slowdown_is_spent_inside_the_timed_region(slow_frac: float) -> None:
    side = object.__new__(Side)  # a built side without the seconds of building one
    side.engine, side._clock, side._slow_frac, side._events = BusyEngine(), HostClock(), slow_frac, None
    result, times = side._timed(None)
    assert result == "spoken"
    assert times["wall_s"] >= (1 + slow_frac) * side.engine.own_s
    assert times["cpu_s"] > 0
    assert "device_s" not in times


FACTS = {"name": "fp32", "steps": 7, "evals_per_step": 1, "proof": {"calls": 1}, "random_weights": False}
ANSWER = {
    "num_evals": 7, "num_chunks": 1, "finite": True, "peak": 0.5, "num_samples": 24000, "sample_rate_hz": 24000,
    "num_frames": 95, "noise_sha256": "n", "audio_sha256": "a",
}  # fmt: skip


def proof() -> Proof:
    return Proof({"reference": config(), "candidate": config()}, [("en04", "That was close.")], {"en04": 0.0})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_evals": 6}, "6 velocity evaluations"), ({"finite": False, "peak": None}, "not finite"),
        ({"peak": 0.0}, "all zero"), ({"num_samples": 12000}, "do not say the same"), ({"noise_sha256": "m"}, "noise"),
    ],
)  # fmt: skip
def test_an_answer_that_proves_nothing_fails_its_side(change: dict[str, Any], reason: str) -> None:
    asked = proof()
    asked.call("reference", FACTS, (0, 1), ANSWER)
    with pytest.raises(SideFailed, match=reason) as failed:
        asked.call("candidate", FACTS, (0, 1), {**ANSWER, "audio_sha256": "b", **change})
    assert failed.value.side == "candidate"


def test_a_replayed_answer_and_another_engine_are_found() -> None:
    asked = proof()
    asked.call("candidate", FACTS, (0, 1), ANSWER)
    with pytest.raises(SideFailed, match="replayed"):
        asked.call("candidate", FACTS, (0, 2), {**ANSWER, "noise_sha256": "m"})
    with pytest.raises(SideFailed, match="bf16 was built"):
        asked.facts("candidate", {**FACTS, "name": "bf16"})
    with pytest.raises(SideFailed, match="6 steps"):
        asked.facts("candidate", {**FACTS, "steps": 6})


def test_silence_is_not_valid_audio(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(94 * 256, np.float32))
    with pytest.raises(SideFailed, match="silent"):
        proof().audio("candidate", FACTS, 0, {**ANSWER, "num_samples": 94 * 256}, tmp_path / "a.npy")


def known(worst: float | None, upper: float | None) -> HostErrors:
    restarts = None if upper is None else Restarts(sd_frac=worst or 0.0, upper_frac=upper, num_blocks=8)
    return HostErrors(
        host_class="h", rule="r", created="2026-01-01", tallies=(), restart_sd_frac=worst, restarts=restarts
    )


def test_quick_mode_decides_only_on_machines_known_to_be_quiet() -> None:
    verdict = judge(blocks(1.0, 1.0, 1.0, 1.0), LIMITS)
    assert _quick_may_decide(verdict, known(0.002, 0.004), 0.005).outcome == "PASS"
    for errors, reason in (
        (None, "is not known"), (known(None, None), "is not known"), (known(0.02, 0.03), "is 2 %, over 0.5 %"),
        (known(0.002, None), "has no bound yet"), (known(0.0, 0.009), "may be 0.9 % (95 %, 8 blocks)"),
    ):  # fmt: skip
        undecided = _quick_may_decide(verdict, errors, 0.005)
        assert (undecided.exit_code, undecided.findings[0].outcome) == (11, "INCONCLUSIVE")
        assert reason in (undecided.reason or "")


class PatientBench:
    """Goes on with pairs for as long as it may, up to one before the last look."""

    def block(self, enough: Callable[[Sequence[Turn]], bool]) -> Block:
        turns: list[Turn] = []
        for _ in range(191):
            turns += block(1.0).turns
            if enough(turns):
                break
        return Block(turns=tuple(turns))


def test_quick_mode_ends_undecided_when_its_time_is_over() -> None:
    settings = read_settings(["mode=quick", "time_limit_s=1e-09"])
    measured: list[Block] = []
    verdict = compare_session._quick(PatientBench(), settings, measured, print)  # type: ignore[arg-type]
    assert (verdict.outcome, verdict.exit_code) == ("INCONCLUSIVE", 11)
    assert verdict.reason == "compare.time_limit_s=1e-09 was reached before a look decided"
    assert len(measured[0].turns) == 1


def test_a_machine_that_changed_meanwhile_is_an_invalid_environment() -> None:
    verdict = judge(blocks(1.0, 1.0, 1.0, 1.0), LIMITS)
    before = {"host_class": "x", "power_mode": "MODE_30W"}
    assert _same_environment(verdict, before, dict(before), 0.25) == verdict
    changed = _same_environment(verdict, before, {**before, "power_mode": "MAXN"}, 0.25)
    assert (changed.outcome, changed.exit_code) == ("INVALID_ENV", 12)
    assert "MAXN" in (changed.reason or "")


def test_the_summary_says_how_much_more_would_settle_it() -> None:
    verdict = judge([block(1.0, 1.0), block(1.1, 1.1)] * 4, LIMITS)
    comparison = compare_session.Comparison(
        verdict=verdict, limits=LIMITS, labels={"reference": "fp32", "candidate": "bf16"}, sides={},
        environment={"host_class": "h"}, workload={}, checked={"reference": 1}, error_rate="no selftest", wall_s=10.0,
        seconds_per_block=2.0,
    )  # fmt: skip
    text = markdown_of(comparison_sheet(comparison))
    assert "more blocks (about" in text
    assert text.startswith("## INCONCLUSIVE: bf16 against fp32")
    assert "moved" not in markdown_of(comparison_sheet(replace(comparison, verdict=replace(verdict, reason=None))))
    late = markdown_of(
        comparison_sheet(replace(comparison, verdict=replace(verdict, reason="time_limit_s was reached")))
    )
    assert "Time_limit_s was reached" in late
    assert "would settle it" not in late, "nobody knows what the rule would have said"
