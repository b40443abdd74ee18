"""The load verb: settings, the real engine on its thread, what is left on the disk, what is never printed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.contract import ConfigError, Synthesis, SynthesisRequest
from experiments.common.cli import run_verb
from experiments.load import __main__ as load
from experiments.load.report import LoadReport, target_line
from experiments.load.scenarios import Level, Result
from experiments.serve import __main__ as serve
from experiments.serve.line import BatchRule
from experiments.serve.settings import read_settings, refuse_unread, refuse_unserved, split_command
from metrics.speed.load import Served, judge_limit, summarise
from reports.verdicts.spoken.load import spoken_load
from tests.load_fakes import ToneEngine

SMOKE = ["workload=smoke", "solver=euler_6", "warmup_requests=2", "tracking=none"]


@pytest.fixture(autouse=True)
def _own_locks(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path_factory.mktemp("locks")))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The verb with a fake engine; what stands in the dictionary makes it."""
    made: dict[str, Any] = {"kind": ToneEngine, "arguments": {}}

    def build(config: Any, clock: Any) -> ToneEngine:
        made["engine"] = made["kind"](**made["arguments"])
        return made["engine"]

    monkeypatch.setattr(load, "build_by_name", build)
    return made


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]


def test_settings_and_overrides_are_told_apart() -> None:
    settings, overrides = split_command(["engine=bf16", "users=[1,4]", "batching=true", "solver.sway=0"])
    assert overrides == ["engine=bf16", "solver.sway=0"]
    assert settings.levels == (1, 4)
    assert settings.rule(8) == BatchRule(max_batch=8, window_s=0.02, bucket_chars=(40, 100), capacity=64)
    assert read_settings([]).levels == (1, 2, 3, 4)
    assert read_settings([]).rule(8).max_batch == 1
    assert read_settings(["load.soak_min=2"]).levels == (4,)
    assert read_settings(["soak_min=2"]).soak_s == 120


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("scenario=burst", "scenario"), ("users=0", "users"), ("users=[]", "users"),
        ("rate_per_s=-1", "rate_per_s"), ("batch_window_s=0.2", "batch_window_s"), ("requests=1.5", "requests"),
        ("bucket_chars=[100,40]", "bucket_chars"), ("batching=1", "batching"), ("url=http://a", "url"),
        ("scenario=cold_vs_warm", "transport"), ("search_ratio=1", "search_ratio"), ("rate_per_sec=3", "rate_per_sec"),
        ("requests=", "requests"),
        ("load.nosuch=1", "load.nosuch"), ("load.users=0", "users"), ("limit_s=.nan", "limit_s"),
    ],
)  # fmt: skip
def test_a_setting_that_means_nothing_is_refused_by_name(text: str, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        split_command([text])
    assert refused.value.key == (key if key in ("rate_per_sec", "load.nosuch") else f"load.{key}")


@pytest.mark.parametrize(
    ("argv", "key"),
    [
        (["scenario=open", "users=4"], "users"), (["rate_per_s=3"], "rate_per_s"), (["limit_s=0.5"], "limit_s"),
        (["soak_min=1", "requests=10"], "requests"), (["batch_window_s=0.05"], "batch_window_s"),
        (["connections=4"], "connections"), (["leak_limit_bytes_per_h=1"], "leak_limit_bytes_per_h"),
        (["cold_pairs=4"], "cold_pairs"), (["scenario=search", "requests=50"], "requests"),
        (["transport=http", "url=http://me:secret@host"], "url"), (["port=9000"], "port"),
        (["memory_every_s=1"], "memory_every_s"), (["request_limit_s=5"], "request_limit_s"),
        (["transport=http", "scenario=cold_vs_warm", "warmup_requests=3"], "warmup_requests"),
    ],
)  # fmt: skip
def test_a_setting_that_this_load_would_not_read_is_refused(argv: list[str], key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        refuse_unread(argv, split_command(argv)[0])
    assert refused.value.key == ("port" if key == "port" else f"load.{key}")
    assert "secret" not in str(refused.value)


def test_the_verbs_refuse_them_before_anything_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(load.main, [*SMOKE, "scenario=offline", "users=4", f"out={tmp_path}"]) == 2
    assert run_verb(serve.main, ["workload=smoke", "port=0", "users=4"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert ["users=" in line for line in lines] == [True, True]


def test_a_service_takes_no_settings_of_a_load() -> None:
    refuse_unserved(["batching=true", "port=0", "serve.port=0", "engine=bf16"])
    with pytest.raises(ConfigError, match="is for a load"):
        refuse_unserved(["users=4"])


def test_a_soak_of_an_offline_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match="soak_min"):
        read_settings(["scenario=offline", "soak_min=1"])


def test_an_engine_that_takes_one_request_cannot_batch() -> None:
    with pytest.raises(ConfigError, match="batching"):
        read_settings(["batching=true"]).rule(1)
    with pytest.raises(ConfigError, match="max_batch"):
        read_settings(["batching=true", "max_batch=9"]).rule(8)


def test_every_level_is_measured_and_every_request_is_on_the_disk(fake: dict[str, Any], tmp_path: Path) -> None:
    assert load.main([*SMOKE, "users=2", "requests=20", f"out={tmp_path}"]) == 0
    content = json.loads((tmp_path / "load.json").read_text())
    assert [level["name"] for level in content["levels"]] == ["users-1", "users-2"]
    assert [level["num_ok"] for level in content["levels"]] == [20, 20]
    assert content["audio"] == {"num_heard": 42, "num_distinct": 2, "num_invalid": 0, "invalid": []}
    requests = [line for line in lines_of(tmp_path) if line["kind"] == "request"]
    assert Counter(line["level"] for line in requests) == {"warmup": 2, "users-1": 20, "users-2": 20}
    assert len({line["sha256"] for line in requests}) == 2
    assert sorted(path.name for path in (tmp_path / "audio").iterdir()) == ["en03.wav", "en05.wav"]
    assert content["levels"][0]["latency_p99"]["value_s"] is None
    assert "too few" in (tmp_path / "load.md").read_text()
    assert fake["engine"].closed


def test_nothing_measured_is_overwritten(fake: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").touch()
    assert run_verb(load.main, [*SMOKE, f"out={tmp_path}"]) == 2


def test_an_offline_batch_shares_calls(fake: dict[str, Any], tmp_path: Path) -> None:
    argv = [*SMOKE, "scenario=offline", "requests=100", "batching=true", "warmup_requests=0", f"out={tmp_path}"]
    assert load.main(argv) == 0
    assert fake["engine"].batches == [8] * 12 + [4]


def test_offline_throughput_by_requests_a_call(fake: dict[str, Any], tmp_path: Path) -> None:
    """Sizes up to what the engine takes, each heard before it is timed."""
    assert load.main([*SMOKE, "scenario=batches", "requests=16", f"out={tmp_path}"]) == 0
    levels = json.loads((tmp_path / "load.json").read_text())["levels"]
    assert [(level["name"], level["setting"]["max_batch"]) for level in levels] == [
        ("batch-1", 1), ("batch-2", 2), ("batch-4", 4), ("batch-8", 8),
    ]  # fmt: skip
    assert [level["batch_mean"] for level in levels] == [1, 2, 4, 8]
    assert all(level["generated_s_per_s"] > 0 for level in levels)
    assert fake["engine"].batches[-30:] == [1] * 16 + [2] * 8 + [4] * 4 + [8] * 2
    assert sum(fake["engine"].batches[:-30]) == 4 * 16


def test_a_batch_over_the_engines_most_is_refused_with_the_way_to_build_it(
    fake: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb(load.main, [*SMOKE, "scenario=batches", "batches=[1,64]", f"out={tmp_path}"]) == 2
    assert "load.batches=64: this engine takes 8 requests a call" in (said := capsys.readouterr().err)
    assert "engine.max_batch=64" in said


@pytest.mark.parametrize(
    ("argv", "key"),
    [
        (["scenario=batches", "batches=[]"], "batches"), (["scenario=batches", "batches=[0]"], "batches"),
        (["scenario=batches", "transport=http"], "transport"), (["target_s=0", "scenario=open"], "target_s"),
    ],
)  # fmt: skip
def test_sizes_and_targets_that_mean_nothing_are_refused(argv: list[str], key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        split_command(argv)
    assert refused.value.key == f"load.{key}"


def test_the_seeds_target_is_a_preset() -> None:
    settings, rest = split_command(["load=seeds_rps", "engine=bf16"])
    assert (settings.scenario, settings.rate_per_s, settings.target_s, rest) == ("open", 100, 1, ["engine=bf16"])
    rule = settings.rule(64)
    assert (rule.max_batch, rule.capacity, settings.requests) == (64, 256, 3000)
    with pytest.raises(ConfigError, match=r"is for load.scenario=open"):
        refuse_unread(["target_s=1"], split_command(["target_s=1"])[0])


def test_an_open_load_is_judged_against_its_target(fake: dict[str, Any], tmp_path: Path) -> None:
    argv = [*SMOKE, "load=seeds_rps", "requests=100", "rate_per_s=400", "target_s=1e-6", f"out={tmp_path}"]
    assert load.main(argv) == 10
    content = json.loads((tmp_path / "load.json").read_text())
    assert content["target"]["outcome"] == "fails"
    assert "p95 under 0 ms at 400 requests/s: fails; 100.0 % were over it" in (tmp_path / "load.md").read_text()
    assert spoken_load(content).startswith("400 requests/s do not hold 95 % of answers")


@pytest.mark.parametrize(("latency_s", "num", "word", "code"), [(0.2, 300, "holds", 0), (0.2, 30, "cannot tell", 11)])
def test_what_the_target_says_decides_the_end(latency_s: float, num: int, word: str, code: int) -> None:
    served = [
        Served(utterance_id="a", status="ok", intended_s=i, sent_s=i, started_s=i, ended_s=i + latency_s, audio_s=1.0)
        for i in map(float, range(num))
    ]
    level = Level(name="open", setting={"rate_per_s": 1}, summary=summarise(served), by_length={})
    result = Result(levels=[level], target=judge_limit(served, 1.0, 0.95))
    head = {"environment": {}, "settings": {"target_s": 1.0}}
    report = LoadReport(label="x", head=head, result=result, num_heard=num, num_distinct=1, invalid=())
    assert (result.target is not None and result.target.outcome, load.exit_code(report)) == (word, code)
    assert f"at 1 requests/s: {word}; 0.0 % were over it" in target_line(report)


def test_requests_that_fail_are_counted_and_the_rest_goes_on(fake: dict[str, Any], tmp_path: Path) -> None:
    fake["arguments"] = {"breaks": "en05"}
    assert load.main([*SMOKE, "users=[1]", "requests=20", "max_error_frac=0.5", f"out={tmp_path}"]) == 0
    (level,) = json.loads((tmp_path / "load.json").read_text())["levels"]
    assert (level["num_ok"], level["num_failed"], level["error_frac"]) == (10, 10, 0.5)
    reasons = {line.get("reason") for line in lines_of(tmp_path) if line["kind"] == "request"}
    assert reasons == {None, "RuntimeError: out of tune"}


def test_no_figure_stands_beside_invalid_audio(
    fake: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake["arguments"] = {"silent": True}
    assert load.main([*SMOKE, "users=[1]", "requests=10", f"out={tmp_path}"]) == 14
    content = json.loads((tmp_path / "load.json").read_text())
    assert content["status"] == "invalid"
    assert "levels" not in content
    printed = capsys.readouterr().out + (tmp_path / "load.md").read_text()
    assert "No figure is given" in printed
    assert "requests/s" not in printed


class Capturing(ToneEngine):
    """Captures something once for every utterance that it has not spoken before, and counts that."""

    def __init__(self) -> None:
        super().__init__()
        self.facts = replace(self.facts, proof={"steady_counters": {"captures": 0}})

    def synthesize(self, requests: Sequence[SynthesisRequest]) -> list[Synthesis]:
        spoken = super().synthesize(requests)
        proof = {**self.facts.proof, "steady_counters": {"captures": len(set(self.calls))}}
        self.facts = replace(self.facts, proof=proof)
        return spoken


def test_an_engine_that_counts_captures_hears_every_sentence_before_it_is_timed(
    fake: dict[str, Any], tmp_path: Path
) -> None:
    fake["kind"] = Capturing
    assert load.main([*SMOKE, "warmup_requests=1", "users=[1]", "requests=10", f"out={tmp_path}"]) == 0
    requests = Counter(line["level"] for line in lines_of(tmp_path) if line["kind"] == "request")
    assert requests == {"warmup": 2, "users-1": 10}


def test_no_figure_of_an_engine_that_captured_while_it_was_timed(
    fake: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake["kind"] = Capturing
    assert load.main([*SMOKE, "warmup_requests=0", "users=[1]", "requests=10", f"out={tmp_path}"]) == 14
    content = json.loads((tmp_path / "load.json").read_text())
    assert (content["status"], "levels" in content) == ("unsteady", False)
    said = "captures went from 0 to 2 while requests were timed; raise warmup_requests"
    assert content["reason"] == said
    assert said in (tmp_path / "load.md").read_text()
    assert said in capsys.readouterr().err
    assert len([line for line in lines_of(tmp_path) if line["kind"] == "request"]) == 10


def test_an_engine_that_answers_nothing_fails_the_load(fake: dict[str, Any], tmp_path: Path) -> None:
    fake["arguments"] = {"breaks": "en05"}
    assert load.main([*SMOKE, "workload.select=[en05]", "users=[1]", "requests=5", f"out={tmp_path}"]) == 14


def test_a_replayed_answer_is_not_believed(fake: dict[str, Any], tmp_path: Path) -> None:
    class Replaying(ToneEngine):
        def _tone(self, request: SynthesisRequest) -> Synthesis:
            spoken = super()._tone(request)
            self.first_S = getattr(self, "first_S", spoken.audio_S)
            return replace(spoken, audio_S=self.first_S)

    fake["kind"] = Replaying
    # en03 and en05 have the same length, so only the audio itself tells
    assert load.main([*SMOKE, "users=[1]", "requests=10", f"out={tmp_path}"]) == 14
    assert "was given again" in json.loads((tmp_path / "load.json").read_text())["audio"]["invalid"][0]


def test_a_soak_reads_memory_and_says_whether_it_leaks(
    fake: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = load.main([*SMOKE, "users=[1]", "soak_min=0.02", "memory_every_s=0.01", f"out={tmp_path}"])
    leak = json.loads((tmp_path / "load.json").read_text())["leak"]
    assert code == {"leak": 10, "no leak": 0, "cannot tell": 11}[leak["outcome"]]
    readings = [line["pss_bytes"] for line in lines_of(tmp_path) if line["kind"] == "memory"]
    assert len(readings) == leak["num_samples"] > 1
    assert min(readings) > 1 << 20
    assert f"## Memory\n\n{leak['outcome']}: " in capsys.readouterr().out


@pytest.mark.parametrize(("limit_s", "outcome", "code"), [(60.0, "cannot tell", 11), (1e-6, "fails everywhere", 0)])
def test_a_search_says_where_the_limit_breaks(
    fake: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], limit_s: float, outcome: str, code: int
) -> None:
    """Twenty requests can show that a p95 breaks its limit, not that it holds."""
    few = ["probe_requests=20", "probe_requests_most=20"]
    assert load.main([*SMOKE, "scenario=search", *few, f"limit_s={limit_s:g}", f"out={tmp_path}"]) == code
    content = json.loads((tmp_path / "load.json").read_text())
    assert content["search"]["outcome"] == outcome
    assert [level["name"].split("-")[0] for level in content["levels"][:2]] == ["capacity", "rate"]
    assert f"{outcome};" in capsys.readouterr().out


def test_pocket_under_an_open_load_in_batches(tmp_path: Path) -> None:
    """The real engine: closed levels are covered above, so this one makes it batch, wait and answer on its thread."""
    argv = [*SMOKE, "workload.select=[en05]", "scenario=open", "requests=6", "batching=true", "max_batch=2"]
    assert load.main([*argv, f"out={tmp_path}"]) == 0
    content = json.loads((tmp_path / "load.json").read_text())
    assert [level["name"] for level in content["levels"]] == ["capacity", "open"]
    capacity, opened = content["levels"]
    assert opened["setting"]["rate_per_s"] == pytest.approx(0.7 * capacity["requests_per_s"])
    assert capacity["batch_mean"] == pytest.approx(2)
    assert opened["generated_s_per_s"] > 0
    assert opened["lag_most_s"] < 1
    assert content["facts"]["proof"]["calls"] > 0


def test_the_report_keeps_the_queue_readable(fake: dict[str, Any], tmp_path: Path) -> None:
    assert load.main([*SMOKE, "scenario=offline", "requests=250", f"out={tmp_path}"]) == 0
    (level,) = json.loads((tmp_path / "load.json").read_text())["levels"]
    assert level["queue"]["most"] >= 249
    assert len(level["queue"]["series"]) <= 200
