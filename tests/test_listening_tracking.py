"""A listening test's verdict reaches the very MLflow runs of the systems that were heard."""

from pathlib import Path
from typing import Any

import pytest

from experiments.tracking.__main__ import main
from experiments.tracking.listening import heard_of
from metrics.record import RecordError
from reports.listening.judging.collect import collect
from reports.listening.making.build import build_set
from reports.listening.study.settings import BuildSettings
from tests.listening_runs import answered, save_result, two_runs, who_likes


def test_the_verdict_goes_into_the_same_runs(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    runs = two_runs(tmp_path / "runs", 8, 0.2)
    sync = ["sync", *map(str, runs), "--uri", uri]
    assert main(sync) == 0
    folder = build_set(BuildSettings(runs=tuple(runs), out=tmp_path / "set", num_pairs=8, seed=1)).page.parent
    for number in range(3):
        save_result(folder, answered(folder, f"L{number}", who_likes("int8-euler_7"), number))
    set_sha256 = collect([str(folder)]).findings.key.set_sha256
    assert main(sync) == 0
    client = MlflowClient(tracking_uri=uri)
    found: list[Any] = client.search_runs([client.get_experiment_by_name("f5bench").experiment_id])
    assert len(found) == 2  # no run beside the measured ones
    for run in found:
        name = f"listening.{set_sha256[:8]}"
        assert "int8-euler_7 is liked better" in run.data.tags[f"{name}.verdict"]
        assert run.data.metrics[f"{name}.preference_frac.int8-euler_7 over fp32-euler_7"] == 1.0
        assert run.data.metrics[f"{name}.listeners"] == 3.0
        assert "listening.json" in [file.path for file in client.list_artifacts(run.info.run_id)]


def test_nothing_heard_is_nothing_and_a_broken_file_is_said(tmp_path: Path) -> None:
    assert dict(heard_of(tmp_path).tags) == {}
    (tmp_path / "listening.json").write_text('{"sets": {"a": 1}}')
    with pytest.raises(RecordError, match="collect again"):
        heard_of(tmp_path)
