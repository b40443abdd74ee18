"""rows.csv and samples.parquet: the table and every trial, for other programs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from metrics.model_identity import spelt
from metrics.record import write_atomically
from reports.data.context import context_of
from reports.data.quality import QUALITY, VALID, sentence_value
from reports.data.table import Row, Table

ROWS = "rows.csv"
SAMPLES = "samples.parquet"


def frame_of(table: Table) -> pd.DataFrame:
    """One line per row in the units of the report (ms, MiB, %), with the caption's figures beside each.

    A row without valid audio has no figure of speed. num_ok_METRIC counts the sentences behind a mean.
    """
    context = context_of(table)
    caption: dict[str, Any] = {}
    if context is not None:
        caption = {
            "reference_s": context.reference_s,
            "generated_s": context.generated_s,
            "host_class": context.environment.get("host_class"),
            "workload": context.workload.get("name"),
            "workload_identity_sha256": context.workload.get("identity_sha256"),
            "git_commit": context.environment.get("git_commit"),
        }
    return pd.DataFrame([{**_row(row), **caption} for row in table.rows])


def samples_of(table: Table) -> pd.DataFrame:
    """One line per trial, warm-up included, in base units, with what became of its row and whether its audio is valid.

    The trials of rows that show no speed are here too, marked by row_status.
    """
    lines = []
    for row in table.rows:
        record = row.cell.record
        for trial in record.trials if record else ():
            valid = sentence_value(record, VALID, trial.utterance_id) if record else None
            marks = {
                "label": row.label,
                "engine": row.engine,
                "solver": row.solver,
                "row_status": row.status,
                "audio_status": valid.status if valid else None,
            }
            lines.append({**marks, **asdict(trial)})
    return pd.DataFrame(lines)


def write_exports(table: Table, out: Path) -> tuple[Path, ...]:
    """Writes both files, samples.parquet only where there is a trial; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / ROWS, frame_of(table).to_csv(index=False, lineterminator="\n"))
    samples = samples_of(table)
    if samples.empty:
        (out / SAMPLES).unlink(missing_ok=True)
        return (out / ROWS,)
    samples.to_parquet(out / SAMPLES, index=False)
    return out / ROWS, out / SAMPLES


def _row(row: Row) -> dict[str, Any]:
    timing = row.timing
    stages = timing.stages if timing else None
    cells: dict[str, Any] = {
        "label": row.label,
        "engine": row.engine,
        "precision": row.precision,
        "solver": row.solver,
        "num_steps": row.num_steps,
        "status": row.status,
        "reason": row.reason,
        "remedy": row.remedy,
        "validity": row.validity,
        "is_reference": row.is_reference,
    }
    reference = row.cell.record.reference if row.cell.record else None
    cells["reference_model"] = spelt(reference) if reference else None
    cells["is_reference_model"] = reference.is_own if reference else None
    for name in _TIMING:
        cells[name] = getattr(timing, name) if timing else None
    for name in _STAGES:
        cells[name] = getattr(stages, name) if stages else None
    cells |= {"build_s": row.build_s, "peak_mib": row.peak_mib, "peak_kind": row.peak_kind}
    cells |= {"device_peak_mib": row.device_peak_mib, "weights_mib": row.weights_mib}
    for metric in QUALITY:
        summary = row.quality.get(metric)
        cells[metric] = summary.mean if summary else None
        cells[f"num_ok_{metric}"] = summary.num_ok if summary else None
    return cells


_TIMING = (
    "num_trials",
    "evals_per_call",
    "rtf",
    "p50_ms",
    "p50_low_ms",
    "p50_high_ms",
    "p95_ms",
    "p95_low_ms",
    "p95_high_ms",
    "p95_reason",
    "p99_ms",
    "p99_low_ms",
    "p99_high_ms",
    "p99_reason",
    "cpu_ms",
    "first_call_s",
    "times_base",
    "times_upstream",
)
_STAGES = ("frontend_pct", "denoise_pct", "vocoder_pct", "join_pct")
