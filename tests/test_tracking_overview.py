"""Which variant a sweep's run in MLflow names the fastest, and in which words."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.tracking.content import load_content
from metrics.record import RunRecord, Utterance
from reports.data.context import context_of
from reports.data.table import load_table
from reports.sections.notes import headline_parts
from tests.report_sweeps import UPSTREAM, Judgeable, write_judgeable
from tests.scored_runs import WER
from tests.test_report_verdict import GOOD, WORDLESS
from tests.tracking_folders import record, write_run

DOWN = "http://127.0.0.1:9"
LABELS = ("upstream-euler_32", "fp32-euler_7", "int8-euler_3")
NAMES = {label.split("-")[0]: label for label in LABELS}
DIVISORS = {"upstream-euler_32": 1.0, "fp32-euler_7": 4.0, "int8-euler_3": 8.0}


def as_fast(run: RunRecord, times: float) -> RunRecord:
    return replace(run, trials=tuple(replace(trial, wall_s=trial.wall_s / times) for trial in run.trials))


def swept(folder: Path, **changes: RunRecord) -> Path:
    """Upstream, a variant four times as fast and one eight times."""
    for label in LABELS:
        run = as_fast(record(f"run-{label}", label, DOWN), DIVISORS[label])
        write_run(folder / "cells" / label, changes.get(label.split("-")[0], run))
    cells = [{"label": label, "dir": f"cells/{label}", "state": "ok", "overrides": []} for label in LABELS]
    sweep = {
        "schema_version": 1, "sweep_id": "s", "created": "2023-11-14T22:13:00+00:00", "finished": None,
        "status": "done", "reference": None, "cells": cells,
    }  # fmt: skip
    (folder / "sweep.json").write_text(json.dumps(sweep))
    return folder


def judge(folder: Path, candidate: str | None = None, **outcomes: str) -> None:
    """What `f5bench quality-gate UPSTREAM RUN` leaves. candidate: which run it judged, if not the one there."""
    for label in LABELS:
        if outcome := outcomes.get(label.split("-")[0]):
            found = {"PASS": "not worse", "FAIL": "worse"}.get(outcome, "inconclusive")
            finding = {"metric": "wer_frac", "outcome": found, "explanation": "by hand"}
            content = {
                "kind": "quality", "outcome": outcome, "reason": None, "findings": [finding],
                "limits": {"name": "standard"}, "baseline": {"run_id": f"run-{LABELS[0]}"},
                "candidate": {"run_id": candidate or f"run-{label}"},
            }  # fmt: skip
            (folder / "cells" / label / "quality_gate").mkdir()
            (folder / "cells" / label / "quality_gate/verdict.json").write_text(json.dumps(content))


def _other_audio(run: RunRecord) -> tuple[Utterance, ...]:
    """Of no other variant: what is equal bit for bit needs no score to have lost nothing."""
    digest = hashlib.sha256(run.label.encode()).hexdigest()
    return tuple(replace(spoken, audio_sha256=digest) for spoken in run.utterances)


def test_rows_say_how_many_times_as_fast_as_upstream_they_are(tmp_path: Path) -> None:
    found = {run.name: run.summary for run in load_content(swept(tmp_path)).children}
    assert {name: summary["speedup_vs_upstream"] for name, summary in found.items()} == pytest.approx(DIVISORS)
    note = load_content(tmp_path).children[1].tags["mlflow.note.content"]
    assert "4.00 times as fast as upstream-euler_32" in note


def test_without_a_quality_gate_the_fastest_is_named_and_what_nobody_judged_is_said(tmp_path: Path) -> None:
    unheard = {name: as_fast(record(f"run-{label}", label, DOWN), DIVISORS[label]) for name, label in NAMES.items()}
    unheard = {name: replace(run, utterances=_other_audio(run)) for name, run in unheard.items()}
    parent = load_content(swept(tmp_path, **unheard)).parent
    assert parent.summary["best_rtf"] == 0.03219
    assert (parent.tags["best.label"], parent.tags["best.quality"]) == ("int8-euler_3", "not judged")
    assert "Quality not judged" in parent.tags["mlflow.note.content"]


def test_a_faster_variant_that_lost_something_is_not_the_best(tmp_path: Path) -> None:
    judge(swept(tmp_path), fp32="PASS", int8="FAIL")
    parent = load_content(tmp_path).parent
    assert parent.summary["best_rtf"] == 0.06438
    assert (parent.tags["best.label"], parent.tags["best.quality"]) == ("fp32-euler_7", "pass")
    said = parent.tags["mlflow.note.content"]
    assert "Fastest that lost nothing: fp32-euler_7, 4.00 times as fast as upstream-euler_32" in said
    assert "; faster, but loses words: int8-euler_3." in said


@pytest.mark.parametrize(
    ("run_id", "best"), [("run-int8-euler_3", "fp32-euler_7"), ("measured before", "int8-euler_3")]
)
def test_a_verdict_of_the_run_before_is_not_the_runs_own(tmp_path: Path, run_id: str, best: str) -> None:
    judge(swept(tmp_path), candidate=run_id, int8="FAIL")
    content = load_content(tmp_path)
    assert content.parent.tags["best.label"] == best
    judged = {run.name: run.tags.get("quality.verdict") for run in content.children}
    assert judged["int8-euler_3"] == ("fail" if best == "fp32-euler_7" else None)


@pytest.mark.parametrize("outcome", ["FAIL", "INCONCLUSIVE"])
def test_where_none_is_known_to_have_lost_nothing_there_is_no_best(tmp_path: Path, outcome: str) -> None:
    judge(swept(tmp_path), fp32=outcome, int8="FAIL")
    parent = load_content(tmp_path).parent
    assert "best_rtf" not in parent.summary
    assert parent.tags["best.label"] == "none"
    assert "Fastest: int8-euler_3, 8.00 times as fast as upstream-euler_32" in parent.tags["mlflow.note.content"]
    assert "but it loses words" in parent.tags["mlflow.note.content"]


@pytest.mark.parametrize(
    "rows",
    [
        [UPSTREAM, GOOD, WORDLESS],  # no verdict file: the report judges by the scores
        [UPSTREAM, GOOD, Judgeable(label="int8-euler_3", audio="c", slowness=1.0, drop=(WER,))],
        [UPSTREAM, replace(GOOD, slowness=40.0)],
    ],
    ids=["the faster loses words", "the words of the faster were not judged", "none is faster"],
)
def test_the_report_and_mlflow_name_the_same_row(tmp_path: Path, rows: list[Judgeable]) -> None:
    folder = write_judgeable(tmp_path, rows)
    table = load_table(folder)
    headline, parent = headline_parts(table, context_of(table)), load_content(folder).parent
    assert parent.tags["best.label"] == headline.named
    assert parent.tags["mlflow.note.content"].startswith(headline.verdict)


def test_a_damaged_verdict_names_no_row_and_is_said(tmp_path: Path) -> None:
    judge(swept(tmp_path), fp32="PASS")
    (tmp_path / "cells/fp32-euler_7/quality_gate/verdict.json").write_text("{")
    content = load_content(tmp_path)
    assert content.parent.tags["best.label"] == "none"
    assert "damaged verdict" in content.parent.tags["mlflow.note.content"]
    assert [run.summary["speedup_vs_upstream"] for run in content.children] == pytest.approx([1, 4, 8])


def test_a_row_of_a_slow_machine_is_neither_best_nor_compared(tmp_path: Path) -> None:
    slow = as_fast(record("run-int8", "int8-euler_3", DOWN), 8)
    machine = {"valid": False, "reason": "3 times as slow as its class", "ratio": 3.0}
    swept(tmp_path, int8=replace(slow, environment={**slow.environment, "machine": machine}))
    content = load_content(tmp_path)
    assert content.parent.tags["best.label"] == "fp32-euler_7"
    void = next(run for run in content.children if run.name == "int8-euler_3")
    assert not {"rtf", "speedup_vs_upstream"} & set(void.summary)
    assert "3 times as slow as its class" in void.tags["warnings"]
    assert "3 times as slow as its class" in void.tags["mlflow.note.content"]
