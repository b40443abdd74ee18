"""Where a browser finds what was synced: MLflow's runs table with our columns, and its address.

MLflow 3 opens an experiment on another page than its runs, and its runs table on three columns without a number. A view
that somebody shares is a tag of the experiment, which the address names: so is this one. Nothing has to be set.
"""

from __future__ import annotations

import json

from experiments.tracking.place import SQLITE

VIEW_TAG = "mlflow.sharedViewState."
ALL_RUNS = "f5bench"
LOCAL_ADDRESS = "http://127.0.0.1:5000"  # what `mlflow ui` serves on
# Column -> pixels, in the order in which a reader asks: how fast, what was lost, what it costs, what it is, where
COLUMNS = {
    "metrics.`rtf`": 90,
    "metrics.`speedup_vs_upstream`": 170,
    "tags.`quality.verdict`": 120,
    "metrics.`latency/p50_ms`": 130,
    "metrics.`memory/peak_mib`": 145,
    "metrics.`quality/wer_frac`": 135,
    "metrics.`quality/dnsmos_ovrl`": 150,
    "metrics.`quality/log_mel`": 130,
    "metrics.`quality/pesq_wb`": 130,
    "params.`engine`": 110,
    "params.`solver`": 100,
    "params.`workload`": 90,
    "tags.`host.class`": 180,
    "attributes.`Description`": 400,
}
BEST = {"metrics.`best_rtf`": 90, "tags.`best.label`": 200, "attributes.`Description`": 400}
NAME, WHEN, HOW_LONG = "attributes.`Run Name`", "runDateAndNestInfo", "duration"  # always shown
NAME_PIXELS = 300
NEWEST_FIRST, FASTEST_FIRST = ("attributes.start_time", False), ("metrics.`rtf`", True)
# Text on every experiment that has none of its own; the kind makes MLflow show pages of measurements, not of chats
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": "Filled by `f5bench tracking sync` from output folders, as often as one likes. `rtf`: wall "
    "seconds per generated second of audio, lower is better. A variant whose audio was not valid has no number.",
}


def view_of(parent_id: str | None) -> str:
    """The state of MLflow's runs table: all runs by date, or what a sweep measured, the fastest first."""
    order, ascending = NEWEST_FIRST if parent_id is None else FASTEST_FIRST
    columns = {**(BEST if parent_id is None else {}), **COLUMNS}
    state = {
        "searchFilter": "" if parent_id is None else f"tags.`mlflow.parentRunId` = '{parent_id}'",
        "orderByKey": order,
        "orderByAsc": ascending,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "columnOrder": [NAME, WHEN, *columns, HOW_LONG],
        "columnWidths": {NAME: NAME_PIXELS, **columns},
    }
    return json.dumps(state)


def view_key(parent_id: str | None) -> str:
    return ALL_RUNS if parent_id is None else f"{ALL_RUNS}-{parent_id[:12]}"


def address_of(uri: str, experiment_id: str, key: str) -> str:
    """Of the runs table, on the server itself, or where `mlflow ui` would show a local store."""
    root = LOCAL_ADDRESS if uri.startswith(SQLITE) else uri.rstrip("/")
    return f"{root}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={key}"


def all_runs(address: str) -> str:
    """The address of the table of all runs, from that of some of them."""
    return f"{address.rpartition('=')[0]}={ALL_RUNS}"
