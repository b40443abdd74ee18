"""Sweeps for the report's verdict: thirty scored sentences a row, with known speeds and known losses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from metrics.record import RunRecord, Score, save_record
from tests.scored_runs import scored
from tests.test_report_data import REFERENCE, FakeCell

MANY = (
    FakeCell(label="upstream-euler_32", rtf=1.8, num_evals=32, rounds=2, scores=(0.0, 120.0, 4.644, 1.0), noise=0.0),
    REFERENCE,
    *(
        FakeCell(label=label, rtf=rtf, rounds=6, scores=(error, 9.0, 2.6, 0.9))
        for label, rtf, error in (
            ("fp32-euler_7", 0.45, 0.20), ("fp32-euler_12", 0.72, 0.12), ("fp32-midpoint_7", 0.80, 0.10),
            ("compiled-euler_7", 0.40, 0.21), ("onnx-euler_7", 0.36, 0.22), ("onnx-fitted_4", 0.21, 0.27),
            ("onnx_int8-euler_7", 0.30, 0.25), ("onnx_int8-fitted_4", 0.12, 0.31),
            ("onnx_int8-fitted_4-vocoder=vocos_onnx", 0.115, 0.31),
            ("onnx_int8-fitted_3-vocoder=vocos_onnx", 0.09, 0.52),
        )
    ),
    FakeCell(label="amp-euler_7", rtf=0.01, invalid=("en04",)),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Judgeable:
    """slowness: factor on all times. shifts: score -> what every sentence differs from the base by. log_mel: the error
    of every sentence, None for no such score. drop: scores that nobody made."""

    label: str
    audio: str
    slowness: float
    shifts: Mapping[str, float] | None = None
    log_mel: float | None = None
    drop: tuple[str, ...] = ()


UPSTREAM = Judgeable(label="upstream-euler_32", audio="a", slowness=20.0)


def write_judgeable(root: Path, rows: Sequence[Judgeable]) -> Path:
    """A SWEEP folder of scored records without audio files."""
    entries = []
    for row in rows:
        folder = root / "cells" / row.label
        folder.mkdir(parents=True)
        save_record(_record(row), folder / "result.json")
        entries.append({"label": row.label, "dir": f"cells/{row.label}", "state": "ok", "reason": None, "remedy": None})
    sweep = {
        "schema_version": 1, "sweep_id": "judged", "created": "2026-11-20T13:00:00+00:00", "status": "done",
        "reference": None, "cells": entries,
    }  # fmt: skip
    (root / "sweep.json").write_text(json.dumps(sweep), encoding="utf-8")
    return root


def _record(row: Judgeable) -> RunRecord:
    run = scored(row.audio, row.shifts)
    engine, solver = row.label.split("-")[:2]
    trials = tuple(
        replace(trial, wall_s=trial.wall_s * row.slowness, denoise_s=trial.denoise_s * row.slowness)
        for trial in run.trials
    )
    return replace(
        run,
        run_id=f"run-{row.label}",
        label=row.label,
        config={**run.config, "engine": {"name": engine}, "solver": {"name": solver}, "model": {"name": "pocket"}},
        facts={**(run.facts or {}), "name": engine},
        workload={**run.workload, "reference_s": 2.1, "generated_s": 60.0},
        trials=trials,
        scores=(*(score for score in run.scores if score.metric not in row.drop), *_log_mel(run, row.log_mel)),
    )


def _log_mel(run: RunRecord, value: float | None) -> list[Score]:
    if value is None:
        return []
    fields = {"metric": "log_mel_mae_vs_reference", "status": "ok", "reason": None, "better": "lower"}
    return [Score(utterance_id=u.utterance_id, value=value, **fields) for u in run.utterances]  # type: ignore[arg-type]
