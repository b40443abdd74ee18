"""A row is "the reference" because its record says so, whatever its names are: real scores are never hidden."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.optimize.space import NoFigure, figure_of
from experiments.tracking.content import load_content
from metrics.record import RunRecord, Score, load_record, save_record
from metrics.reference import is_the, says_it_is_the_reference
from reports.data.quality import LOG_MEL, PESQ
from reports.data.table import load_table
from tests.test_report_data import REFERENCE, FakeCell, write_run, write_sweep
from tests.test_report_table import printed, row_of

FIGURES = {LOG_MEL: 0.7, PESQ: 2.0}


def rescored(folder: Path, values: dict[str, float | None], reason: str | None, **quality: Any) -> RunRecord:
    """The run's record with these scores against a reference in place of its own."""
    record = load_record(folder / "result.json")
    ids = [utterance.utterance_id for utterance in record.utterances]
    scores = [score for score in record.scores if "_vs_reference" not in score.metric]
    for metric, value in values.items():
        status = "ok" if value is not None else "not_applicable"
        better = "lower" if metric == LOG_MEL else "higher"
        scores += [
            Score(metric=metric, utterance_id=name, value=value, status=status, reason=reason, better=better)
            for name in ids
        ]
    config = {**record.config, "quality": {**record.config.get("quality", {}), **quality}}
    changed = replace(record, scores=tuple(scores), config=config)
    save_record(changed, folder / "result.json")
    return changed


@pytest.mark.parametrize("how", ["quality.reference_dir", "score --reference"])
def test_a_run_named_like_the_reference_shows_its_real_scores(tmp_path: Path, how: str) -> None:
    folder = write_run(tmp_path / "run", REFERENCE)
    quality = {"reference_dir": "/elsewhere"} if how == "quality.reference_dir" else {"reference_dir": None}
    record = rescored(folder, dict(FIGURES), None, **quality)
    table = load_table(folder)
    (row,) = table.rows
    assert (record.config["engine"]["name"], record.config["solver"]["name"]) == ("fp32", "euler_32")
    assert not row.is_reference
    assert {name: row.quality[name].mean for name in FIGURES} == pytest.approx(FIGURES)
    shown = printed(table, row.label)
    assert (shown["log-mel error"], shown["PESQ-WB"]) == ("0.700", "2.00")
    content = load_content(folder).parent
    assert any("log_mel" in name and value == pytest.approx(0.7) for name, value in content.summary.items())
    assert figure_of(record, LOG_MEL) == pytest.approx(0.7)


def test_a_run_whose_scores_say_so_is_the_reference(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", REFERENCE)
    record = rescored(folder, dict.fromkeys(FIGURES), is_the("reference"), reference_dir=None)
    assert says_it_is_the_reference(record)
    (row,) = load_table(folder).rows
    assert row.is_reference
    assert printed(load_table(folder), row.label)["log-mel error"] == "reference"
    with pytest.raises(NoFigure, match="is the reference"):
        figure_of(record, LOG_MEL)


def test_names_make_no_reference_and_other_names_hide_none(tmp_path: Path) -> None:
    cell = FakeCell(label="mine-plain_32", scores=())
    folder = write_run(tmp_path / "run", cell)
    rescored(folder, dict.fromkeys(FIGURES), is_the("reference"), reference_dir=None)
    assert load_table(folder).rows[0].is_reference
    rescored(folder, dict.fromkeys(FIGURES), "no reference was given", reference_dir=None)
    assert not load_table(folder).rows[0].is_reference


def test_a_sweep_shows_the_scores_of_a_cell_that_was_compared_though_its_file_names_it(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "sweep")
    assert row_of(load_table(folder), REFERENCE.label).is_reference
    rescored(folder / "cells" / REFERENCE.label, dict(FIGURES), None, reference_dir="/elsewhere")
    row = row_of(load_table(folder), REFERENCE.label)
    assert not row.is_reference
    assert row.quality[PESQ].mean == pytest.approx(2.0)


def test_every_reference_of_a_sweep_with_two_models_is_said_to_be_one(tmp_path: Path) -> None:
    other = FakeCell(label="fp32-euler_32-model=other", scores=(), noise=0.0)
    folder = write_sweep(tmp_path / "sweep", [REFERENCE, other])
    for label in (REFERENCE.label, other.label):
        rescored(folder / "cells" / label, dict.fromkeys(FIGURES), is_the("reference"), reference_dir=None)
    assert [row.is_reference for row in load_table(folder).rows] == [True, True]
