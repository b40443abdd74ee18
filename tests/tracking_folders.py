"""A synthetic sweep of two sentences with exact answers, as experiments.sweep leaves one, and what MLflow has of it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import soundfile

from metrics.record import RunRecord, Score, Trial, Utterance, save_record

STARTED_UNIX_S = 1_700_000_000.0
SENTENCES = {"a": "The grey cat sat down.", "b": "Is it seven?"}
TABLES = ("runs", "params", "tags", "metrics", "latest_metrics", "experiments")


def write_sweep(folder: Path, uri: str) -> Path:
    write_run(folder / "cells/fp32-euler_7", record("run-1", "fp32-euler_7", uri))
    write_run(folder / "cells/int8-euler_7", record("run-2", "int8-euler_7", uri))
    failed = replace(
        record("run-3", "bf16-euler_7", uri), status="failed", reason="killed by signal 9", remedy="more memory"
    )
    write_run(folder / "cells/bf16-euler_7", failed)
    cells: list[dict[str, Any]] = [
        {"label": "fp32-euler_7", "state": "ok", "reason": None, "remedy": None},
        {"label": "int8-euler_7", "state": "ok", "reason": None, "remedy": None},
        {"label": "bf16-euler_7", "state": "failed", "reason": "killed by signal 9", "remedy": "more memory"},
        {"label": "fp16-euler_7", "state": "skipped", "reason": "no fp16 kernels here", "remedy": "engine=bf16"},
        {"label": "amp-euler_7", "state": "pending", "reason": None, "remedy": None},
    ]
    sweep = {
        "schema_version": 1,
        "sweep_id": "sweep-1",
        "created": "2023-11-14T22:13:00+00:00",
        "finished": "2023-11-14T22:14:00Z",
        "status": "done",
        "reference": "cells/fp32-euler_7",
        "cells": [{**cell, "dir": f"cells/{cell['label']}", "overrides": []} for cell in cells],
    }
    (folder / "sweep.json").write_text(json.dumps(sweep))
    (folder / "report.md").write_text("# a report\n")
    (folder / "plots").mkdir()
    (folder / "plots/rtf.png").write_bytes(b"\x89PNG")
    return folder


def write_run(folder: Path, run: RunRecord) -> None:
    (folder / "audio").mkdir(parents=True)
    for utterance in run.utterances:
        soundfile.write(folder / utterance.audio_path, np.zeros(240, dtype=np.float32), 24_000, subtype="FLOAT")
    save_record(run, folder / "result.json")


def record(run_id: str, label: str, uri: str, num_rounds: int = 2) -> RunRecord:
    """Two sentences of two seconds; call number i takes 0.5 + i/100 s."""
    trials = [trial(utterance, 0, 9, is_warmup=True) for utterance in SENTENCES]
    trials += [trial(utterance, r, 2 * r + k) for r in range(num_rounds) for k, utterance in enumerate(SENTENCES)]
    engine, solver = label.split("-")
    snr = [Score(metric="snr_vs_reference_db", utterance_id="a", value=21.0, status="ok", reason=None, better="higher")]
    snr.append(replace(snr[0], utterance_id="b", value=None, status="not_comparable", reason="lengths differ"))
    valid = [replace(snr[0], metric="audio_valid", utterance_id=utterance, value=1.0) for utterance in SENTENCES]
    return RunRecord(
        run_id=run_id,
        created="2023-11-14T22:13:40+00:00",
        status="ok",
        reason=None,
        remedy=None,
        label=label,
        config={
            "engine": {"name": engine, "weird key[%]": 1},
            "solver": {"name": solver, "grid": list(range(200))},
            "seed": 0,
            "tracking": {"name": "local", "mode": "auto", "uri": uri, "experiment": "f5bench", "timeout_s": 2},
        },
        facts={"name": engine, "precision": "float32", "random_weights": False, "proof": {"evals": 7}},
        environment={"host_class": "test-2c-cpu", "device": "cpu", "git_commit": "abc123", "git_dirty": True},
        workload={"name": "smoke", "identity_sha256": "0" * 64, "reference_s": 2.0, "generated_s": 4.0},
        build_s=1.5,
        first_call_s=0.9,
        peak_rss_bytes=1000,
        peak_pss_bytes=None,
        peak_device_bytes=None,
        utterances=tuple(spoken(utterance) for utterance in SENTENCES),
        trials=tuple(trials),
        scores=(*valid, *snr),
    )


def trial(utterance_id: str, repeat: int, index: int, is_warmup: bool = False) -> Trial:
    wall_s = 0.5 + index / 100
    return Trial(
        utterance_id=utterance_id,
        repeat=repeat,
        wall_s=wall_s,
        cpu_s=wall_s,
        audio_s=2.0,
        frontend_s=0.05,
        denoise_s=0.3,
        vocoder_s=0.1,
        join_s=0.05,
        num_evals=7,
        peak_bytes=1000,
        started_unix_s=STARTED_UNIX_S + index,
        is_warmup=is_warmup,
    )


def spoken(utterance_id: str) -> Utterance:
    return Utterance(
        utterance_id=utterance_id,
        category="plain",
        text=SENTENCES[utterance_id],
        sample_rate_hz=24_000,
        num_samples=48_000,
        num_frames=188,
        num_chunks=1,
        noise_sha256=None,
        audio_sha256="0" * 64,
        audio_path=f"audio/{utterance_id}.wav",
        mel_path=f"mel/{utterance_id}.npy",
    )


def keep_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a sync sets for its own process must not stay in this one."""
    for name in ("MLFLOW_RUN_ID", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "1")


def rows(database: Path) -> dict[str, list[Any]]:
    """Every row of a store's tables, to see whether anything changed."""
    with closing(sqlite3.connect(database)) as connection:
        return {table: sorted(map(repr, connection.execute(f"select * from {table}"))) for table in TABLES}


def runs(database: Path) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    experiment = client.get_experiment_by_name("f5bench")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def runs_by_name(database: Path) -> dict[str, Any]:
    return {run.info.run_name: run for run in runs(database)}


@cache
def _migrated() -> bytes:
    """The schema migrations of a new database take seconds: once for all tests of a process."""
    from mlflow.tracking import MlflowClient

    with TemporaryDirectory() as folder:
        path = Path(folder, "mlflow.db")
        MlflowClient(tracking_uri=f"sqlite:///{path}").get_experiment_by_name("f5bench")
        return path.read_bytes()


def new_database(path: Path) -> Path:
    """An MLflow store without a run."""
    path.write_bytes(_migrated())
    return path
