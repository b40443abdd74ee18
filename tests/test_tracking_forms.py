"""What MLflow holds of earlier: runs in the form of before, numbers that count no more, a reference below each run."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.common.cli import run_verb
from experiments.tracking.__main__ import main
from experiments.tracking.content import load_content
from metrics.record import RunRecord, Score, save_record
from tests.tracking_folders import (
    keep_environment,
    new_database,
    record,
    rows,
    runs,
    runs_by_name,
    write_run,
    write_sweep,
)

pytest.importorskip("mlflow")


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    keep_environment(monkeypatch)
    return new_database(tmp_path / "mlflow.db")


def client_of(database: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{database}")


def test_a_run_in_the_form_of_before_is_brought_to_todays_and_stays_one(tmp_path: Path, database: Path) -> None:
    folder = write_sweep(tmp_path / "sweep", f"sqlite:///{database}")
    client = client_of(database)
    experiment_id = client.create_experiment("f5bench", artifact_location=str(tmp_path / "mlartifacts"))
    old = client.create_run(experiment_id, run_name="int8-euler_7", tags={"harness.run_uuid": "run-2"})
    client.log_param(old.info.run_id, "engine.name", "int8")
    client.log_metric(old.info.run_id, "latency/p50_s", 0.515)
    known = {"run_uuid": "run-2", "run_id": old.info.run_id, "content_sha256": "0" * 64, "files": {}}
    store = {"uri": f"sqlite:///{database}", "experiment": "f5bench", "runs": {"cells/int8-euler_7": known}}
    (folder / ".tracking.json").write_text(json.dumps({"schema_version": 1, "stores": [store]}))
    assert run_verb(main, ["sync", str(folder)]) == 0
    assert len(runs(database)) == 5, "a parent and four variants, none of them twice"
    run = runs_by_name(database)["int8-euler_7"]
    assert run.info.run_id == old.info.run_id
    assert run.data.metrics["latency/p50_ms"] == pytest.approx(1000 * run.data.metrics["latency/p50_s"])
    assert (run.data.params["engine"], run.data.params["engine.name"]) == ("int8", "int8")
    before = rows(database)
    assert run_verb(main, ["sync", str(folder)]) == 0
    assert rows(database) == before


def test_a_reference_that_was_a_child_becomes_the_shared_run(tmp_path: Path, database: Path) -> None:
    folder = tmp_path / "run"
    write_run(folder, record("run-1", "int8-euler_7", f"sqlite:///{database}"))
    write_run(folder / "reference", record("cached", "fp32-euler_32", ""))
    client = client_of(database)
    experiment_id = client.create_experiment("f5bench", artifact_location=str(tmp_path / "mlartifacts"))
    tags = {"harness.run_uuid": "run-1/fp32-euler_32/cached", "harness.kind": "reference"}
    old = client.create_run(experiment_id, run_name="fp32-euler_32", tags=tags)
    assert run_verb(main, ["sync", str(folder)]) == 0
    assert len(runs(database)) == 2
    assert client.get_run(old.info.run_id).data.tags["harness.run_uuid"] == "cached"


@pytest.mark.parametrize("again", [False, True], ids=["remembered", "forgotten"])
def test_a_number_whose_audio_was_found_broken_is_withdrawn(tmp_path: Path, database: Path, again: bool) -> None:
    """MLflow deletes no metric: "not a number" is what its table shows and what no query for a fast run finds."""
    folder = tmp_path / "run"
    run = record("run-1", "fp32-euler_7", f"sqlite:///{database}")
    write_run(folder, run)
    assert run_verb(main, ["sync", str(folder)]) == 0
    assert runs(database)[0].data.metrics["rtf"] > 0
    silent = replace(run.scores[0], value=None, status="error", reason="silent")
    save_record(replace(run, scores=(silent, *run.scores[1:])), folder / "result.json")
    assert run_verb(main, ["sync", str(folder)]) == 0
    (withdrawn,) = runs(database)
    assert {"rtf", "latency/p50_ms", "quality/snr_db", "trial/wall_ms"} <= set(withdrawn.data.metrics)
    assert all(math.isnan(value) for value in withdrawn.data.metrics.values())
    assert "silent" in withdrawn.data.tags["mlflow.note.content"]
    before = rows(database)
    if again:
        (folder / ".tracking.json").unlink()
    assert run_verb(main, ["sync", str(folder)]) == 0
    assert rows(database) == before
    save_record(run, folder / "result.json")
    assert run_verb(main, ["sync", str(folder)]) == 0
    metrics = runs(database)[0].data.metrics
    assert metrics["rtf"] == pytest.approx(2.06 / 8)
    assert metrics["trial/wall_ms"] == pytest.approx(530), "of the last trial, though the withdrawal came later"


def test_the_workload_is_a_dataset_that_runs_share(tmp_path: Path, database: Path) -> None:
    write_sweep(tmp_path / "sweep", f"sqlite:///{database}")
    assert run_verb(main, ["sync", str(tmp_path / "sweep")]) == 0
    found = {run.info.run_name: run.inputs.dataset_inputs for run in runs(database)}
    assert {name: [(e.dataset.name, e.dataset.digest) for e in entries] for name, entries in found.items()} == {
        name: [("smoke", "0" * 12)] for name in ("sweep", "fp32-euler_7", "int8-euler_7", "bf16-euler_7")
    } | {"fp16-euler_7": []}, "a variant that was skipped never came to its workload"


def scored(run: RunRecord, name: str, value: float) -> RunRecord:
    score = Score(metric=name, utterance_id=None, value=value, status="ok", reason=None, better="lower")
    return replace(run, scores=(*run.scores, score))


def test_six_scores_and_energy_are_columns_and_the_rest_is_in_a_file(tmp_path: Path) -> None:
    run = record("run-1", "fp32-euler_7", "")
    for name, value in (("wer_frac", 0.02), ("speaker_similarity_wavlm", 0.9), ("energy_j_per_audio_s", 3.0)):
        run = scored(run, name, value)
    run = scored(scored(run, "mcd_vs_reference_db", 1.5), "cer_frac", 0.01)
    write_run(tmp_path / "run", run)
    content = load_content(tmp_path / "run").parent
    columns = {name: value for name, value in content.summary.items() if name.startswith(("quality/", "energy/"))}
    assert columns == {
        "quality/snr_db": 21.0, "quality/wer_frac": 0.02, "quality/speaker_similarity": 0.9,
        "energy/j_per_audio_s": 3.0,
    }  # fmt: skip
    kept = json.loads(content.texts["scores.json"])
    assert (kept["scores"]["mcd_vs_reference_db"]["mean"], kept["scores"]["cer_frac"]["mean"]) == (1.5, 0.01)
    assert kept["speed"]["latency_p50_s"] == pytest.approx(0.515)
    assert kept["not_valid_because"] is None


def test_numbers_that_do_not_count_are_in_no_file_either(tmp_path: Path) -> None:
    run = record("run-1", "fp32-euler_7", "")
    unjudged = tuple(score for score in run.scores if score.metric != "audio_valid")
    write_run(tmp_path / "run", replace(run, scores=unjudged))
    content = load_content(tmp_path / "run").parent
    assert content.summary == {}
    kept = json.loads(content.texts["scores.json"])
    assert kept["not_valid_because"].startswith("audio unchecked: 2 of 2 sentences")
    assert (kept["scores"], kept["speed"]) == ({}, {})
