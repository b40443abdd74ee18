"""The main job in small: a real sweep of the pocket model with MLflow, a baseline, a gate and the report."""

import json
from pathlib import Path

import pytest

from experiments import baseline, gate
from experiments.common.cli import run_verb
from experiments.sweep import __main__ as sweep

pytestmark = pytest.mark.slow


def test_sweep_tracking_baseline_gate_and_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("F5BENCH_STATE_DIR", str(tmp_path / "locks"))
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    small = ["workload.select=[en04,en05]", "measure.rounds=3", "measure.machine_ratio=null", f"tracking.uri={uri}"]
    assert run_verb(sweep.main, ["engine=upstream,fp32", "solver=euler_6", *small, "out=first"]) == 0
    assert "fp32-euler_6" in capfd.readouterr().out
    report = Path("first/report.md").read_text("utf-8")
    assert "reference" in report
    assert "upstream-euler_6" in report
    assert Path("first/plots").is_dir()

    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("f5bench").experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert {run.data.tags["mlflow.runName"] for run in children} >= {"upstream-euler_6", "fp32-euler_6"}
    assert all(run.info.status == "FINISHED" for run in children)

    fp32 = ["--run", "first/cells/fp32-euler_6", "--records", "records"]
    shared = "gate.other_cpu_frac=1"  # neighbours do not matter here
    assert run_verb(baseline.main, ["record", "main", *fp32, shared, "--why", "the first"]) == 0
    code = run_verb(gate.main, ["main", *fp32, shared, "out=verdict"])
    verdict = json.loads(Path("verdict/verdict.json").read_text("utf-8"))
    assert code in (0, 11), "a run against itself never fails; on a noisy machine it may be undecided"
    quality = [finding for finding in verdict["findings"] if finding["metric"] == "snr_vs_reference_db"]
    assert quality[0]["outcome"] == "PASS"
    assert run_verb(gate.main, ["absent", *fp32]) == 13
    peer = ["--run", "first/cells/upstream-euler_6", "--records", "records"]
    assert run_verb(gate.main, ["main", *peer, "out=other"]) == 12, "another engine is not a regression"
