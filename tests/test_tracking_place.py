"""Which MLflow store is written into: one that was moved, one that the environment names, and no empty child."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.common.cli import run_verb
from experiments.tracking.__main__ import main
from experiments.tracking.content import load_content
from experiments.tracking.place import DEFAULT_URI, chosen_uri, moved_reason
from tests.tracking_folders import keep_environment, record, runs_by_name, write_run

pytest.importorskip("mlflow")


def test_the_environment_names_the_store_unless_a_setting_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert chosen_uri(None) == (DEFAULT_URI, "tracking.uri")
    monkeypatch.chdir(tmp_path)
    for named, uri in (
        ("http://there:5000", "http://there:5000"), ("sqlite:///a/b.db", f"sqlite:///{tmp_path}/a/b.db"),
        ("sqlite:////abs/b.db", "sqlite:////abs/b.db"),
    ):  # fmt: skip
        monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
        assert chosen_uri(None) == (uri, "MLFLOW_TRACKING_URI")
        assert chosen_uri("sqlite:///c.db") == ("sqlite:///c.db", "tracking.uri")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "  ")
    assert chosen_uri(None)[0] == DEFAULT_URI


def test_an_address_of_the_environment_with_a_password_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = record("run-1", "fp32-euler_7", "")
    write_run(tmp_path / "run", replace(run, config={**run.config, "tracking": {"uri": None, "mode": "auto"}}))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@there")
    assert run_verb(main, ["sync", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: MLFLOW_TRACKING_URI=")
    assert "secret" not in said


def test_a_reference_is_shared_and_no_child(tmp_path: Path) -> None:
    write_run(tmp_path / "run", record("run-1", "int8-euler_7", ""))
    spoken = replace(record("cached", "fp32-euler_32", ""), scores=(), trials=())
    write_run(tmp_path / "run/reference", spoken)
    content = load_content(tmp_path / "run")
    assert content.children == ()
    assert [(run.run_uuid, run.status) for run in content.shared] == [("cached", "FINISHED")]
    failed = replace(spoken, status="failed", reason="killed", remedy="-")
    shutil.rmtree(tmp_path / "run/reference")
    write_run(tmp_path / "run/reference", failed)
    assert [run.status for run in load_content(tmp_path / "run").shared] == ["FAILED"]


def stored_paths(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        places = connection.execute("select artifact_location from experiments where name = 'f5bench'").fetchall()
        return [path for (path,) in places + connection.execute("select artifact_uri from runs").fetchall()]


def test_a_store_that_was_moved_fills_its_new_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a real MLflow: filled, moved as a whole, filled again; then its database alone is moved."""
    keep_environment(monkeypatch)
    run = record("run-1", "fp32-euler_7", "")
    for name in ("one", "two"):
        own = replace(run, run_id=name, label=name, config={**run.config, "tracking": {"uri": None, "mode": "auto"}})
        write_run(tmp_path / name, own)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/old/mlflow.db")
    assert run_verb(main, ["sync", str(tmp_path / "one")]) == 0
    assert f"note: the store is sqlite:///{tmp_path}/old/mlflow.db, by MLFLOW_TRACKING_URI" in capsys.readouterr().err
    (tmp_path / "old").rename(tmp_path / "new")
    moved = ["--uri", f"sqlite:///{tmp_path}/new/mlflow.db"]
    assert run_verb(main, ["sync", str(tmp_path / "two"), *moved]) == 0
    assert "note: the store was moved" in capsys.readouterr().err
    assert not (tmp_path / "old").exists()
    paths = stored_paths(tmp_path / "new/mlflow.db")
    assert len(paths) == 3
    assert all(path.startswith(f"{tmp_path}/new/mlartifacts") for path in paths)
    assert set(runs_by_name(tmp_path / "new/mlflow.db")) == {"one", "two"}
    assert all((Path(path) / "result.json").is_file() for path in paths[1:])
    (tmp_path / "else").mkdir()
    shutil.copy(tmp_path / "new/mlflow.db", tmp_path / "else/mlflow.db")
    assert run_verb(main, ["sync", str(tmp_path / "two"), "--uri", f"sqlite:///{tmp_path}/else/mlflow.db"]) == 14
    said = capsys.readouterr().err
    assert "was moved without its files" in said
    assert "--experiment NAME" in said
    assert stored_paths(tmp_path / "else/mlflow.db") == paths


@pytest.mark.parametrize("location", [None, "s3://bucket/mlartifacts", "/somewhere/of/my/own", "mlflow-artifacts:/1"])
def test_a_place_that_somebody_chose_is_theirs(location: str | None, tmp_path: Path) -> None:
    (tmp_path / "mlartifacts").mkdir()
    assert moved_reason(tmp_path / "mlflow.db", "mine", location) is None
    assert not (tmp_path / "mlflow.db").exists(), "nothing is rewritten"
