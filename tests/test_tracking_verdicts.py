"""Comparisons, loads and quality verdicts in MLflow, against a real MLflow on sqlite."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from baselines.paired.data import Block, turn_content
from baselines.paired.rule import judge
from experiments.common.cli import run_verb
from experiments.compare import __main__ as compare
from experiments.compare import session as compare_session
from experiments.compare.processes import SideFailed
from experiments.load import __main__ as load
from experiments.load.search import SearchResult
from experiments.tracking.__main__ import main
from metrics.speed.leak import LeakVerdict
from reports.verdicts.paired import Comparison, comparison_content, failed_content
from tests.load_fakes import ToneEngine
from tests.test_paired_rule import LIMITS, blocks
from tests.tracking_folders import keep_environment, record, rows, runs, runs_by_name, write_run

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
pytest.importorskip("mlflow")

CREATED = "2023-11-14T22:14:00+00:00"
ENDED_MS = 1_700_000_040_000


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    keep_environment(monkeypatch)
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path / "locks"))
    return tmp_path / "mlflow.db"


def tracking(database: Path) -> dict[str, Any]:
    return {"name": "local", "mode": "auto", "uri": f"sqlite:///{database}", "experiment": "f5bench", "timeout_s": 2}


def write_comparison(folder: Path, database: Path, measured: list[Block], **changes: Any) -> Path:
    """Of int8 against fp32, as experiments.compare leaves one."""
    folder.mkdir(parents=True)
    sides = {
        side: {
            "label": f"{name}-euler_7", "commit": f"{name}-commit", "facts": {"precision": name, "proof": {"evals": 7}},
            "config": {"engine": {"name": name}, "workload": {"name": "smoke"}},
        }
        for side, name in (("reference", "fp32"), ("candidate", "int8"))
    }  # fmt: skip
    comparison = Comparison(
        verdict=replace(judge(measured, LIMITS), **changes), limits=LIMITS, sides=sides,
        labels={side: str(content["label"]) for side, content in sides.items()},
        environment={"host_class": "test-2c-cpu", "device": "cpu", "git_commit": "abc123", "git_dirty": False},
        workload={"name": "smoke", "identity_sha256": "w0"},
        checked={"reference": 1, "candidate": 1}, error_rate="0 of 9",
        wall_s=20.5, seconds_per_block=5.0,
    )  # fmt: skip
    content = {**comparison_content(comparison, CREATED, {}), "tracking": tracking(database)}
    (folder / "verdict.json").write_text(json.dumps(content))
    (folder / "summary.md").write_text("## a summary\n")
    turns = [turn_content(turn) for block in measured for turn in block.turns]
    lines = [{"kind": "build", "side": "candidate"}, *({"kind": "turn", **turn} for turn in turns)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_comparison_is_a_run_with_its_verdict_its_ratio_and_every_turn(tmp_path: Path, database: Path) -> None:
    folder = write_comparison(tmp_path / "versus", database, blocks(0.9, 0.91, 0.89, 0.9))
    assert run_verb(main, ["sync", str(folder)]) == 0
    (run,) = runs(database)
    expected = {
        "verdict": "pass", "env.valid": "true", "harness.kind": "compare", "host.class": "test-2c-cpu",
        "git.commit": "abc123", "candidate.git.commit": "int8-commit", "reference.git.commit": "fp32-commit",
    }  # fmt: skip
    assert expected.items() <= run.data.tags.items()
    assert (run.info.status, run.info.start_time, run.info.end_time) == ("FINISHED", ENDED_MS - 20_500, ENDED_MS)
    assert run.data.params == {
        "reference.engine": "fp32", "reference.precision": "fp32", "reference.workload": "smoke",
        "candidate.engine": "int8", "candidate.precision": "int8", "candidate.workload": "smoke",
    }  # fmt: skip
    assert run.data.tags["mlflow.note.content"].startswith("PASS: int8-euler_7 against fp32-euler_7")
    assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["smoke"]
    metrics = run.data.metrics
    assert metrics["wall_time/ratio"] == pytest.approx(0.9, abs=1e-4)
    assert metrics["wall_time/ratio_low"] < metrics["wall_time/ratio"] < metrics["wall_time/ratio_high"]
    assert metrics["wall_time/reference_p50_s"] == 0.2
    assert (metrics["num_blocks"], metrics["num_turns"]) == (4.0, 8.0)
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    turns = client.get_metric_history(run.info.run_id, "turn/candidate_wall_s")
    assert [turn.step for turn in turns] == list(range(8))
    assert turns[2].value == pytest.approx(0.2 * 0.91)
    names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert names == {"verdict.json", "summary.md", "pairs.jsonl"}


def test_a_verdict_of_old_is_logged_where_its_candidate_said(tmp_path: Path, database: Path) -> None:
    folder = write_comparison(tmp_path / "old", database, blocks(1.0, 1.0, 1.0, 1.0))
    content = json.loads((folder / "verdict.json").read_text())
    content["sides"]["candidate"]["config"]["tracking"] = {**content.pop("tracking"), "mode": "off"}
    del content["workload"]
    (folder / "verdict.json").write_text(json.dumps(content))
    assert run_verb(main, ["sync", str(folder)]) == 0
    assert not database.exists(), "it was measured with tracking=none"


def test_a_second_sync_writes_nothing(tmp_path: Path, database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_comparison(tmp_path / "versus", database, blocks(1.0, 1.0, 1.0, 1.0))
    assert run_verb(main, ["sync", str(folder)]) == 0
    before = rows(database)
    assert run_verb(main, ["sync", str(tmp_path)]) == 0
    assert rows(database) == before
    assert "0 new, 0 changed" in capsys.readouterr().out


def test_the_same_question_has_the_same_fingerprint(tmp_path: Path, database: Path) -> None:
    for name, ratio in (("monday", 1.0), ("friday", 1.2)):
        write_comparison(tmp_path / name, database, blocks(*[ratio] * 4))
    assert run_verb(main, ["sync", str(tmp_path)]) == 0
    tags = [run.data.tags for run in runs_by_name(database).values()]
    assert {tag["verdict"] for tag in tags} == {"pass", "fail"}
    assert len({tag["harness.fingerprint"] for tag in tags}) == 1


def test_what_proves_nothing_has_no_number(tmp_path: Path, database: Path) -> None:
    changes = {"outcome": "INVALID_ENV", "exit_code": 12, "reason": "the host class changed"}
    invalid = write_comparison(tmp_path / "invalid", database, blocks(1.0, 1.0, 1.0, 1.0), **changes)
    failed = tmp_path / "failed"
    failed.mkdir()
    asked = {"candidate": {"overrides": ["engine=onnx"], "revision": None}}
    environment = {"host_class": "test-2c-cpu"}
    content = failed_content("candidate", "no kernels", "use fp32", CREATED, asked, environment)
    content["tracking"] = tracking(database)
    (failed / "verdict.json").write_text(json.dumps(content))
    assert run_verb(main, ["sync", str(invalid), str(failed)]) == 0
    found = runs_by_name(database)
    assert found["invalid"].data.metrics == found["failed"].data.metrics == {}
    assert found["invalid"].data.tags["env.valid"] == "false"
    assert found["invalid"].data.tags["verdict.reason"] == "the host class changed"
    assert found["failed"].info.status == "FAILED"
    tags = found["failed"].data.tags
    assert (tags["verdict"], tags["host.class"]) == ("failed", "test-2c-cpu")
    assert "env.valid" not in tags, "nothing was checked"


def test_the_verb_logs_by_itself_also_where_a_side_fails(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise SideFailed("candidate", "UnsupportedEngine", "no kernels", "use fp32")

    monkeypatch.setattr(compare_session, "measure", fail)
    argv = ["workload=smoke", "workload.select=[en04]", f"out={tmp_path / 'failed'}"]
    assert compare.main([*argv, f"tracking.uri=sqlite:///{database}"]) == 14
    (run,) = runs(database)
    assert (run.info.run_name, run.info.status) == ("failed", "FAILED")
    assert run.data.tags["verdict.reason"] == "no kernels"


def test_a_damaged_comparison_is_a_line_and_keeps_no_other_back(
    tmp_path: Path, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = write_comparison(tmp_path / "damaged", database, blocks(1.0, 1.0, 1.0, 1.0))
    (damaged / "pairs.jsonl").write_text('{"kind": "tu')
    write_comparison(tmp_path / "whole", database, blocks(1.0, 1.0, 1.0, 1.0))
    assert run_verb(main, ["sync", str(tmp_path)]) == 2
    assert "holds what cannot be tracked" in capsys.readouterr().err
    assert set(runs_by_name(database)) == {"whole"}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The verb with a fake engine; what stands in the dictionary makes it."""
    made: dict[str, Any] = {}
    monkeypatch.setattr(load, "build_by_name", lambda config, clock: ToneEngine(**made))
    return made


def loaded(tmp_path: Path, database: Path, *settings: str) -> int:
    """The whole verb, which logs what it has measured by itself."""
    where = [f"tracking.uri=sqlite:///{database}", f"out={tmp_path / 'load'}"]
    return load.main(["workload=smoke", "solver=euler_6", "warmup_requests=2", *settings, *where])


def test_a_load_logs_every_level_by_its_name(tmp_path: Path, database: Path, fake: dict[str, Any]) -> None:
    assert loaded(tmp_path, database, "users=2", "requests=20") == 0
    (run,) = runs(database)
    expected = {"harness.kind": "load", "load.scenario": "closed", "audio.valid": "valid", "workload": "smoke"}
    assert expected.items() <= run.data.tags.items()
    assert run.info.status == "FINISHED"
    assert run.info.start_time <= run.info.end_time
    assert (run.data.params["solver"], run.data.params["load.requests"]) == ("euler_6", "20")
    content = json.loads((tmp_path / "load/load.json").read_text())
    for level in content["levels"]:
        logged = run.data.metrics[f"load/{level['name']}/requests_per_s"]
        assert logged == pytest.approx(level["requests_per_s"])
    assert {f"load/users-1/{name}" for name in ("p50_s", "error_frac", "queue_mean")} <= set(run.data.metrics)
    assert "load/users-1/p99_s" not in run.data.metrics, "twenty requests have no p99"


def test_a_load_with_invalid_audio_has_no_number(tmp_path: Path, database: Path, fake: dict[str, Any]) -> None:
    fake["silent"] = True
    assert loaded(tmp_path, database, "users=[1]", "requests=10") == 14
    (run,) = runs(database)
    assert run.data.metrics == {}
    assert run.data.tags["audio.valid"] == "invalid"


def test_a_load_that_nobody_answered_has_failed(tmp_path: Path, database: Path, fake: dict[str, Any]) -> None:
    fake["breaks"] = "en05"
    assert loaded(tmp_path, database, "workload.select=[en05]", "users=[1]", "requests=10") == 14
    (run,) = runs(database)
    assert run.info.status == "FAILED"
    assert run.data.metrics == {}
    assert "10 of 10 requests were not answered" in run.data.tags["harness.reason"]
    assert "audio.valid" not in run.data.tags, "nothing was heard"


def test_what_a_load_was_for_is_its_summary(tmp_path: Path, database: Path, fake: dict[str, Any]) -> None:
    """A search, a soak and a pair of cold and warm, as load.json holds them."""
    assert loaded(tmp_path, database, "users=[1]", "requests=10", "tracking=none") == 0
    path = tmp_path / "load/load.json"
    content = json.loads(path.read_text())
    del content["reason"]  # as loads had it once
    content["config"]["tracking"] = tracking(database)
    content["search"] = asdict(
        SearchResult(outcome="found", holds_per_s=4.0, fails_per_s=4.5, probes=(), reason="close enough")
    )
    content["leak"] = asdict(
        LeakVerdict(
            outcome="cannot tell", slope_bytes_per_h=5.0, interval_bytes_per_h=(-1.0, 11.0), num_samples=9,
            soak_s=60.0, limit_bytes_per_h=8.0, reason="too short",
        )
    )  # fmt: skip
    content["cold_vs_warm"] = {"ratio": {"ratio": 9.0, "low": 8.0, "high": 10.0, "num_pairs": 8}}
    path.write_text(json.dumps(content))
    assert run_verb(main, ["sync", str(tmp_path / "load")]) == 0
    (run,) = runs(database)
    assert run.data.metrics == {
        "search/holds_per_s": 4.0, "search/fails_per_s": 4.5, "leak/bytes_per_h": 5.0, "leak/bytes_per_h_low": -1.0,
        "leak/bytes_per_h_high": 11.0, "cold_over_warm/ratio": 9.0, "cold_over_warm/low": 8.0,
        "cold_over_warm/high": 10.0,
    }  # fmt: skip
    assert run.data.tags["load.search"] == "found"
    assert run.data.tags["load.leak"] == "cannot tell"


def test_a_load_that_is_not_tracked_leaves_no_store(tmp_path: Path, database: Path, fake: dict[str, Any]) -> None:
    assert loaded(tmp_path, database, "users=[1]", "requests=10", "tracking=none") == 0
    assert not database.exists()


def test_a_quality_verdict_below_a_run_is_carried_along(tmp_path: Path, database: Path) -> None:
    folder = tmp_path / "run"
    write_run(folder, record("run-1", "int8-euler_7", f"sqlite:///{database}"))
    assert run_verb(main, ["sync", str(folder)]) == 0
    assert "quality.verdict" not in runs(database)[0].data.tags
    (folder / "quality_gate").mkdir()
    (folder / "quality_gate/verdict.json").write_text('{"outcome": "INCONCLUSIVE"}')
    assert run_verb(main, ["sync", str(folder)]) == 0
    (run,) = runs(database)
    assert run.data.tags["quality.verdict"] == "inconclusive"
    assert "verdict" not in run.data.tags, "nobody judged its speed"
