"""Where a sync says that its runs are shown, and the view of MLflow's table that it leaves with the experiment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.common.cli import run_verb
from experiments.tracking.__main__ import main
from tests.tracking_folders import keep_environment, new_database, record, runs_by_name, write_run, write_sweep

pytest.importorskip("mlflow")


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    keep_environment(monkeypatch)
    return new_database(tmp_path / "mlflow.db")


def experiment(database: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{database}").get_experiment_by_name("f5bench")


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    return {words[0]: words[1] for words in lines if len(words) == 2}


def test_a_sweep_is_shown_by_itself_the_fastest_first(
    tmp_path: Path, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_sweep(tmp_path / "sweep", f"sqlite:///{database}")
    assert run_verb(main, ["sync", str(folder)]) == 0
    said = printed(capsys)
    assert said["start"].endswith(f"mlflow ui --backend-store-uri sqlite:///{database}")
    base, _, key = said["mlflow"].partition("&viewStateShareKey=")
    held = experiment(database)
    assert base == f"http://127.0.0.1:5000/#/experiments/{held.experiment_id}/runs?workflowType=machine_learning"
    view = json.loads(held.tags[f"mlflow.sharedViewState.{key}"])
    assert view["searchFilter"] == f"tags.`mlflow.parentRunId` = '{runs_by_name(database)['sweep'].info.run_id}'"
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`rtf`", True)
    assert {"metrics.`rtf`", "metrics.`speedup_vs_upstream`", "params.`engine`"} <= set(view["selectedColumns"])
    assert run_verb(main, ["sync", str(folder)]) == 0
    assert experiment(database).tags == held.tags


def test_a_run_alone_and_several_folders_are_shown_among_all_runs(
    tmp_path: Path, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        write_run(tmp_path / "out" / name, record(f"run-{name}", f"{name}-euler_7", f"sqlite:///{database}"))
    write_sweep(tmp_path / "out" / "sweep", f"sqlite:///{database}")
    for folder in ("out/one", "out"):
        assert run_verb(main, ["sync", str(tmp_path / folder)]) == 0
        assert printed(capsys)["mlflow"].endswith("&viewStateShareKey=f5bench")
    view = json.loads(experiment(database).tags["mlflow.sharedViewState.f5bench"])
    assert (view["searchFilter"], view["orderByKey"]) == ("", "attributes.start_time")


def test_what_somebody_says_of_their_experiment_stays(tmp_path: Path, database: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    tags = {"mlflow.note.content": "mine", "mlflow.experimentKind": "genai_development"}
    client.create_experiment("f5bench", artifact_location=str(tmp_path / "mlartifacts"), tags=tags)
    write_run(tmp_path / "one", record("run-1", "fp32-euler_7", f"sqlite:///{database}"))
    assert run_verb(main, ["sync", str(tmp_path / "one")]) == 0
    assert tags.items() <= experiment(database).tags.items()
