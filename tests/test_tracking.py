"""The MLflow sink against a real MLflow on sqlite: what one finds there afterwards; a repeat changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from experiments.common.cli import run_verb
from experiments.tracking.__main__ import main
from metrics.record import save_record
from tests.tracking_folders import (
    SENTENCES,
    STARTED_UNIX_S,
    keep_environment,
    record,
    rows,
    runs,
    runs_by_name,
    write_run,
    write_sweep,
)

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
pytest.importorskip("mlflow")


VARIANT = {
    "engine": "int8", "precision": "float32", "solver": "euler_7", "evals": "7", "workload": "smoke", "device": "cpu",
    "seed": "0",
}  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """A store that was filled once. runs: name -> MLflow run."""

    runs: dict[str, Any]
    database: Path


@pytest.fixture(scope="session")
def prepared_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The schema migrations of a new database take seconds: once for all tests."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").get_experiment_by_name("f5bench")
    return path


@pytest.fixture
def database(prepared_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    keep_environment(monkeypatch)
    path = tmp_path / "store" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(prepared_database, path)
    return path


@pytest.fixture
def sweep(tmp_path: Path, database: Path) -> Path:
    """Two measured cells, one that failed and one that is not supported here."""
    return write_sweep(tmp_path / "outputs" / "sweep", f"sqlite:///{database}")


@pytest.fixture
def synced(sweep: Path, database: Path) -> dict[str, Any]:
    """For tests that go on writing."""
    assert run_verb(main, ["sync", str(sweep)]) == 0
    return runs_by_name(database)


@pytest.fixture(scope="module")
def stored(prepared_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """For tests that only look."""
    folder = tmp_path_factory.mktemp("stored")
    database = Path(shutil.copy(prepared_database, folder / "mlflow.db"))
    sweep = write_sweep(folder / "outputs" / "sweep", f"sqlite:///{database}")
    with pytest.MonkeyPatch.context() as monkeypatch:
        keep_environment(monkeypatch)
        assert run_verb(main, ["sync", str(sweep)]) == 0
    return Stored(runs=runs_by_name(database), database=database)


def test_a_sweep_is_a_parent_with_a_child_for_every_variant_that_came_to_an_end(stored: Stored) -> None:
    children = {"fp32-euler_7", "int8-euler_7", "bf16-euler_7", "fp16-euler_7"}
    assert set(stored.runs) == {"sweep", *children}
    parent = stored.runs["sweep"]
    assert {stored.runs[name].data.tags["mlflow.parentRunId"] for name in children} == {parent.info.run_id}
    counts = {"cells/ok": 2.0, "cells/failed": 1.0, "cells/skipped": 1.0}
    assert parent.data.metrics == {**counts, "best_rtf": pytest.approx(2.06 / 8)}
    assert parent.data.params == {key: value for key, value in VARIANT.items() if key != "engine"}
    assert (parent.data.tags["best.label"], parent.data.tags["best.quality"]) == ("fp32-euler_7", "not judged")
    assert "No variant is faster than the base. Fastest: fp32-euler_7." in parent.data.tags["mlflow.note.content"]
    assert "uncommitted changes" in parent.data.tags["warnings"]
    assert parent.data.tags["sweep.labels"].split(", ")[:2] == ["fp32-euler_7", "int8-euler_7"]
    assert (parent.info.status, parent.info.start_time, parent.info.end_time) == (
        "FINISHED",
        1_699_999_980_000,
        1_700_000_040_000,
    )


def test_a_variant_shows_its_settings_numbers_and_times(stored: Stored) -> None:
    run = stored.runs["int8-euler_7"]
    assert run.data.params == VARIANT
    # four trials of 0.50, 0.51, 0.52, 0.53 s, each for two seconds of audio: too few for a p95
    assert run.data.metrics == {
        "rtf": pytest.approx(2.06 / 8), "latency/p50_ms": pytest.approx(515), "trial/wall_ms": pytest.approx(530),
        "quality/snr_db": 21.0, "memory/peak_mib": 0.0009537,
    }  # fmt: skip
    assert "1 of 2 sentences (lengths differ)" in run.data.tags["quality.gaps"]
    assert run.data.tags["mlflow.note.content"].startswith("RTF 0.258, 515 ms a call (median)")
    assert "Quality not judged" in run.data.tags["mlflow.note.content"]
    assert (run.info.start_time, run.info.end_time) == (1_700_000_000_000, 1_700_000_020_000)
    expected = {
        "host.class": "test-2c-cpu", "git.commit": "abc123", "git.dirty": "true", "audio.valid": "valid",
        "mlflow.source.name": "f5bench run", "mlflow.user": Path(stored.database).owner(),
    }  # fmt: skip
    assert expected.items() <= run.data.tags.items()
    assert run.data.tags["harness.fingerprint"] != stored.runs["fp32-euler_7"].data.tags["harness.fingerprint"]


def test_every_trial_is_a_point_of_a_series(stored: Stored) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{stored.database}")
    run_id = stored.runs["fp32-euler_7"].info.run_id
    series = sorted(client.get_metric_history(run_id, "trial/wall_ms"), key=lambda point: point.step)
    assert [(point.step, round(point.value, 6)) for point in series] == [(2, 500), (3, 510), (4, 520), (5, 530)]
    assert series[0].timestamp == int((STARTED_UNIX_S + 0.5) * 1000)


def test_p95_is_logged_from_59_trials_on(tmp_path: Path, database: Path) -> None:
    run = record("run-9", "fp32-euler_7", f"sqlite:///{database}", num_rounds=30)
    write_run(tmp_path / "outputs/one", run)
    assert run_verb(main, ["sync", str(tmp_path / "outputs/one")]) == 0
    (stored,) = runs_by_name(database).values()
    assert stored.data.metrics["latency/p95_ms"] == pytest.approx(
        1000 * np.quantile(0.5 + np.arange(60) / 100, 0.95), rel=1e-3
    )
    assert "mlflow.parentRunId" not in stored.data.tags, "a run alone has no parent"


def test_audio_plots_reports_and_the_sentence_table_are_artifacts(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{stored.database}")
    child, parent = stored.runs["fp32-euler_7"].info, stored.runs["sweep"].info
    assert {entry.path for entry in client.list_artifacts(child.run_id, "audio")} == {"audio/a.wav", "audio/b.wav"}
    assert {"config.yaml", "result.json", "samples.csv", "scores.json", "sentences.json"} <= {
        entry.path for entry in client.list_artifacts(child.run_id)
    }
    assert {"report.md", "sweep.json", "plots"} == {entry.path for entry in client.list_artifacts(parent.run_id)}
    copy = client.download_artifacts(child.run_id, "audio/a.wav", str(tmp_path))
    assert soundfile.info(copy).samplerate == 24_000
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{stored.database}")  # load_table asks the global address
    table = client.load_table(child.experiment_id, "sentences.json", run_ids=[child.run_id])
    assert list(table["text"]) == list(SENTENCES.values())
    assert table["snr_vs_reference_db"].isna().tolist() == [False, True]
    assert table["missing"].fillna("").tolist() == ["", "snr_vs_reference_db: not_comparable"]


def test_failed_and_skipped_variants_say_so_and_show_no_number(stored: Stored) -> None:
    failed, skipped = stored.runs["bf16-euler_7"], stored.runs["fp16-euler_7"]
    assert failed.info.status == "FAILED"
    assert failed.data.tags["harness.reason"] == "killed by signal 9"
    assert skipped.info.status != "FINISHED"
    assert skipped.data.tags["skipped"] == "no fp16 kernels here"
    assert skipped.data.tags["harness.remedy"] == "engine=bf16"
    assert not failed.data.metrics
    assert not skipped.data.metrics


def test_a_run_with_broken_audio_has_no_speed(tmp_path: Path, database: Path) -> None:
    run = record("run-9", "fp32-euler_7", f"sqlite:///{database}")
    silent = replace(run.scores[0], value=None, status="error", reason="silent")
    write_run(tmp_path / "outputs/one", replace(run, scores=(silent, *run.scores[1:])))
    assert run_verb(main, ["sync", str(tmp_path / "outputs/one")]) == 0
    (stored,) = runs_by_name(database).values()
    assert stored.data.tags["audio.valid"] == "invalid"
    assert stored.data.metrics == {}


def test_a_number_that_is_none_is_refused_with_its_file(
    tmp_path: Path, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON has no NaN: a record that holds one was not written by this program, or was damaged."""
    folder = tmp_path / "outputs/one"
    write_run(folder, record("run-9", "fp32-euler_7", f"sqlite:///{database}"))
    result = folder / "result.json"
    result.write_text(result.read_text().replace('"join_s": 0.05', '"join_s": NaN'))
    assert run_verb(main, ["sync", str(folder)]) == 2
    assert "NaN is not JSON" in capsys.readouterr().err
    assert not (folder / ".tracking.json").exists(), "nothing of it was synced"


@pytest.mark.parametrize("forget", [False, True], ids=["with the state file", "without the state file"])
def test_a_second_sync_leaves_the_store_as_it_was(
    synced: dict[str, Any], sweep: Path, database: Path, forget: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    before = rows(database)
    if forget:
        (sweep / ".tracking.json").unlink()
    assert run_verb(main, ["sync", str(sweep)]) == 0
    assert rows(database) == before
    assert (", 0 artifacts" in capsys.readouterr().out) is not forget


def test_a_sync_cut_short_is_completed_by_the_next(synced: dict[str, Any], sweep: Path, database: Path) -> None:
    """As if the store had died after the run was made: half of a run there, none of it remembered here."""
    before = rows(database)
    with closing(sqlite3.connect(database)) as connection, connection:
        run_id = synced["int8-euler_7"].info.run_id
        connection.execute("delete from metrics where run_uuid = ? and step > 1", (run_id,))
        connection.execute("delete from params where run_uuid = ?", (run_id,))
        connection.execute("update runs set status = 'RUNNING', end_time = null where run_uuid = ?", (run_id,))
    state = json.loads((sweep / ".tracking.json").read_text())
    del state["stores"][0]["runs"]["cells/int8-euler_7"]
    (sweep / ".tracking.json").write_text(json.dumps(state))
    assert run_verb(main, ["sync", str(sweep)]) == 0
    assert rows(database) == before


def test_what_changed_since_is_added_to_the_same_run(synced: dict[str, Any], sweep: Path, database: Path) -> None:
    """Scores repeated, and a verdict given, after the first sync."""
    folder = sweep / "cells/int8-euler_7"
    run = record("run-2", "int8-euler_7", f"sqlite:///{database}")
    save_record(replace(run, scores=(*run.scores[:2], replace(run.scores[2], value=12.0))), folder / "result.json")
    (folder / "verdict.json").write_text(json.dumps({"outcome": "FAIL"}))
    assert run_verb(main, ["sync", str(sweep)]) == 0
    again = runs_by_name(database)
    assert {name: run.info.run_id for name, run in again.items()} == {n: r.info.run_id for n, r in synced.items()}
    changed = again["int8-euler_7"]
    assert changed.data.metrics["quality/snr_db"] == 12.0
    assert (changed.data.tags["verdict"], changed.data.tags["env.valid"]) == ("fail", "true")


def test_a_resumed_sweep_goes_on_in_its_own_parent(sweep: Path, database: Path) -> None:
    done = (sweep / "sweep.json").read_text()
    states = []
    for status, finished in (("interrupted", "null"), ("running", "null"), ("done", '"2023-11-14T22:14:00Z"')):
        text = done.replace('"done"', f'"{status}"').replace('"2023-11-14T22:14:00Z"', finished)
        (sweep / "sweep.json").write_text(text)
        assert run_verb(main, ["sync", str(sweep)]) == 0
        states.append(runs_by_name(database)["sweep"].info.status)
    assert states == ["KILLED", "RUNNING", "FINISHED"]
    assert len(runs(database)) == 5


def test_a_run_id_in_the_environment_does_not_swallow_the_children(
    sweep: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    assert run_verb(main, ["sync", str(sweep)]) == 0
    assert len(runs_by_name(database)) == 5


def test_a_copied_reference_is_one_run_that_others_name(tmp_path: Path, database: Path) -> None:
    """It is spoken once and kept: every folder holds a copy, and one may listen to it in MLflow."""
    uri = f"sqlite:///{database}"
    cached = replace(record("run-cached", "fp32-euler_32", uri), scores=(), trials=())
    for name in ("one", "two"):
        write_run(tmp_path / "outputs" / name, record(f"run-{name}", f"{name}-euler_7", uri))
        write_run(tmp_path / "outputs" / name / "reference", cached)
    write_run(tmp_path / "outputs/.references/key", cached)
    assert run_verb(main, ["sync", str(tmp_path / "outputs")]) == 0
    found = runs_by_name(database)
    assert len(runs(database)) == 3
    assert set(found) == {"one-euler_7", "two-euler_7", "reference fp32-euler_32"}
    assert found["reference fp32-euler_32"].data.metrics == {}
    shared = found["reference fp32-euler_32"].data.tags
    assert "mlflow.parentRunId" not in shared
    for name in ("one-euler_7", "two-euler_7"):
        assert found[name].data.tags["reference.run_uuid"] == shared["harness.run_uuid"]


def test_a_cell_is_synced_with_its_sweep(sweep: Path, database: Path) -> None:
    assert run_verb(main, ["sync", str(sweep / "cells/fp32-euler_7")]) == 0
    assert "sweep" in runs_by_name(database)


def test_status_tells_synced_pending_off_and_broken(
    synced: dict[str, Any], sweep: Path, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = sweep.parent
    run = record("run-8", "fp32-euler_7", f"sqlite:///{database}")
    write_run(outputs / "new", run)
    write_run(outputs / "untracked", replace(run, config={**run.config, "tracking": {"mode": "off"}}))
    (outputs / "torn").mkdir()
    (outputs / "torn/result.json").write_text("{")
    capsys.readouterr()
    assert run_verb(main, ["status", str(outputs)]) == 0
    words = {line.split()[1].rpartition("/")[2]: line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert words == {"new": "pending", "sweep": "synced", "torn": "broken", "untracked": "off"}
    assert run_verb(main, ["sync", str(outputs)]) == 2, "the torn record is named"
    capsys.readouterr()
    assert run_verb(main, ["status", str(outputs / "new")]) == 0
    assert capsys.readouterr().out.startswith("synced")
