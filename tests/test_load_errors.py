"""A load whose requests fail: no figure of the few that were answered, exit 14 and the reason, in every scenario."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import ConfigError, Synthesis, SynthesisRequest, UnsupportedEngine
from experiments.load import __main__ as load
from experiments.load import cold as load_cold
from experiments.load.cold import ColdBench, cold_vs_warm
from experiments.load.report import LoadReport, content_of, markdown_of
from experiments.load.scenarios import Result
from experiments.serve.settings import read_settings
from experiments.tracking.verdicts import verdict_folder
from metrics.speed.load import Served, judge_limit, summarise, without_figures_of_few
from tests.load_fakes import ToneEngine

ARGV = ["workload=smoke", "solver=euler_6", "warmup_requests=2", "tracking=none"]
TIMES = ("latency_p50", "latency_p95", "latency_p99")
FIGURES = ("requests_per_s", "generated_s_per_s", "wait_p50_s", "service_p50_s", "batch_mean")


@pytest.fixture(autouse=True)
def _own_locks(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path_factory.mktemp("locks")))


class Flaky(ToneEngine):
    """Answers its first `good` calls and every `every`-th one after them."""

    def __init__(self, good: int, every: int = 10**9):
        super().__init__()
        self._good, self._every, self._num = good, every, 0

    def synthesize(self, requests: Sequence[SynthesisRequest]) -> list[Synthesis]:
        self._num += 1
        spoken = super().synthesize(requests)
        if self._num > self._good and self._num % self._every:
            raise RuntimeError("boom")
        return spoken


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    made = {"good": 6}
    monkeypatch.setattr(load, "build_by_name", lambda config, clock: Flaky(**made))
    return made


def loaded(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "load.json").read_text())
    return content


@pytest.mark.parametrize(
    "argv",
    [
        ["users=[2]", "requests=40"], ["scenario=open", "rate_per_s=200", "requests=40"],
        ["scenario=open", "requests=40"], ["scenario=offline", "requests=40"],
        ["users=[1]", "soak_min=0.02", "memory_every_s=0.01"], ["scenario=search", "probe_requests=20"],
    ],
    ids=["closed", "open", "open from a capacity", "offline", "soak", "search"],
)  # fmt: skip
def test_most_requests_fail(
    flaky: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    assert load.main([*ARGV, *argv, f"out={tmp_path}"]) == 14
    content, said = loaded(tmp_path), capsys.readouterr()
    assert content["status"] == "failed"
    assert "RuntimeError: boom" in content["reason"]
    level = content["levels"][-1]
    assert (level["num_failed"] > 0, level["refusal"] in content["reason"]) == (True, True)
    assert [level[name]["value_s"] for name in TIMES] == [None] * 3
    assert [level[name] for name in FIGURES] == [None] * len(FIGURES)
    assert (level["by_length"], content["leak"], content["search"]) == ({}, None, None)
    assert content["reason"] in said.err
    assert "max_error_frac=0.01" in said.err
    assert f"**Not valid: {content['reason']}.**" in said.out
    assert "## Highest rate" not in said.out
    run = verdict_folder(tmp_path).parent
    assert (run.status, run.tags["harness.reason"]) == ("FAILED", content["reason"])
    assert {key.rpartition("/")[2] for key in run.summary} <= {"error_frac"}


def test_good_levels_before_a_bad_one_keep_their_figures(flaky: dict[str, int], tmp_path: Path) -> None:
    flaky["good"] = 22  # the warm-up and the first level
    assert load.main([*ARGV, "users=[1,2]", "requests=20", f"out={tmp_path}"]) == 14
    first, second = loaded(tmp_path)["levels"]
    assert first["refusal"] is None
    assert first["latency_p50"]["value_s"] > 0
    assert second["latency_p50"]["value_s"] is None
    numbers = verdict_folder(tmp_path).parent.summary
    assert numbers["load/users-1/p50_s"] > 0
    assert "load/users-2/p50_s" not in numbers


def test_errors_under_the_limit_are_named_and_the_figures_stand(
    flaky: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flaky.update(good=41, every=5)  # the last of forty
    assert load.main([*ARGV, "users=[1]", "requests=40", "max_error_frac=0.03", f"out={tmp_path}"]) == 0
    (level,) = loaded(tmp_path)["levels"]
    assert (level["num_failed"], level["refusal"]) == (1, None)
    assert level["latency_p50"]["value_s"] > 0
    assert "users-1: not answered: RuntimeError: boom (1)" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["-0.1", "1", "2", "null", "lots", ".nan", "true"])
def test_a_limit_that_is_no_share_is_refused(value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_settings([f"max_error_frac={value}"])
    assert refused.value.key == "load.max_error_frac"


def served(words: Sequence[str]) -> list[Served]:
    return [
        Served(
            utterance_id="a", status=word, intended_s=float(i), sent_s=float(i), started_s=float(i), ended_s=i + 0.1,  # type: ignore[arg-type]
            audio_s=1.0, batch_size=1, reason=None if word == "ok" else "boom",
        )
        for i, word in enumerate(words)
    ]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(words=st.lists(st.sampled_from(["ok", "failed", "rejected"]), min_size=1, max_size=80), limit=st.floats(0, 0.99))
def test_figures_stand_exactly_where_the_share_is_allowed(words: list[str], limit: float) -> None:
    num_errors = sum(word != "ok" for word in words)
    summary = without_figures_of_few(summarise(served(words)), limit)
    if num_errors > limit * len(words):
        assert str(num_errors) in (summary.refusal or "")
        assert all(getattr(summary, name).value_s is None for name in TIMES)
        assert all(getattr(summary, name) is None for name in FIGURES)
    else:
        assert (summary.refusal, summary.latency_p50.value_s is not None) == (None, "ok" in words)
    assert summary.num_requests - summary.num_ok == num_errors
    assert judge_limit(served(words), 1.0, 0.95, max_error_frac=limit).outcome != "holds" or not summary.refusal


def test_a_rate_with_errors_does_not_hold_though_its_p95_would() -> None:
    few = served(["failed" if i % 50 == 0 else "ok" for i in range(1000)])  # 2 %
    assert judge_limit(few, 1.0, 0.95).outcome == "holds"
    found = judge_limit(few, 1.0, 0.95, max_error_frac=0.01)
    assert (found.outcome, found.reason) == ("fails", "2.0 % were not answered, more than the 1 % allowed")
    assert judge_limit(few[:120], 1.0, 0.95, max_error_frac=0.01).outcome == "cannot tell"


@contextmanager
def cold_bench(folder: Path, said: list[dict[str, Any]], max_error_frac: float) -> Any:
    class Journal:
        def append(self, kind: str, entry: dict[str, Any]) -> None:
            said.append(entry)

    class Check:
        def hear(self, item: int, heard: Any) -> str:
            return "sha"

    yield ColdBench(
        world=None, config={}, check=Check(), journal=Journal(), folder=folder, lock=0, num_items=1,  # type: ignore[arg-type]
        max_error_frac=max_error_frac, say=lambda text: None,
    )  # fmt: skip


@pytest.mark.parametrize(("limit", "num_pairs"), [(0.01, 1), (0.2, 8)])
def test_a_cold_comparison_ends_with_what_was_answered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: float, num_pairs: int
) -> None:
    """The second warm call of ten fails: too much for one limit, named under the other."""
    calls: list[int] = []

    def warm(world: object, item: int) -> tuple[float, None]:
        calls.append(item)
        if len(calls) == 3:  # one for the warm-up
            raise UnsupportedEngine("the service answered 500", "see log.txt")
        return 0.1, None

    monkeypatch.setattr(load_cold, "warm_call", warm)
    monkeypatch.setattr(load_cold, "cold_call", lambda *_: ({"wall_s": 1.0, "build_s": 0.5, "call_s": 0.2}, None))
    said: list[dict[str, Any]] = []
    with cold_bench(tmp_path, said, limit) as bench:
        cold = cold_vs_warm(bench, 9, 0)
    assert cold["num_pairs"] == num_pairs
    assert cold["errors"] == {"warm: the service answered 500": 1}
    assert [line["reason"] for line in said if line.get("status") == "failed"] == ["the service answered 500"]
    assert (cold["refusal"] is None, cold["ratio"] is None) == (limit == 0.2, limit == 0.01)
    report = LoadReport(
        label="x",
        head={"settings": {"scenario": "cold_vs_warm", "transport": "http"}, "environment": {"host_class": "h"}},
        result=Result(errors=cold["refusal"]), num_heard=1, num_distinct=1, invalid=(), cold=cold,
    )  # fmt: skip
    assert content_of(report)["status"] == ("ok" if limit == 0.2 else "failed")
    assert load.exit_code(report) == (0 if limit == 0.2 else 14)
    assert ("cold / warm: 10.0" in markdown_of(report)) == (limit == 0.2)
    assert "the service answered 500" in markdown_of(report)
