"""Ids that rows, clips and files are found by: there once, and no two of them one file, or refused in a line."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.stored.store import save_baseline
from engine.contract import ConfigError
from experiments.settings.compose import Cell, _refuse_twins
from experiments.sweep.ledger import SWEEP, load_ledger, new_ledger
from experiments.tracking.content import load_content
from experiments.workload.requests import select_lines
from metrics.record import RecordError, RunRecord, load_record, repeated, save_record
from reports.data.source import load_source
from reports.listening.making.material import load_material
from reports.words import slug
from tests.baseline_runs import make_baseline, make_run
from tests.listening_runs import two_runs, voiced, write_listening_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    folder = two_runs(tmp_path_factory.mktemp("run"), 3, 0.2)[0]
    return load_record(folder / "result.json")


def twice(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda data: data[name].append(data[name][0])


def with_paths(**paths: str) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["utterances"][0].update(paths)


TWINS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "utterance": (twice("utterances"), "utterance 's00' stands there twice"),
    "case": (lambda data: data["utterances"][1].update(utterance_id="S00"), "utterance 'S00' stands there twice"),
    "file": (with_paths(audio_path="audio/s01.wav"), "audio file 'audio/s01.wav' stands there twice"),
    "score": (twice("scores"), "score ('audio_valid', 's00') stands there twice"),
    "outside": (with_paths(audio_path="../s00.wav"), "'../s00.wav' is not within the run's folder"),
    "absolute": (with_paths(mel_path="/etc/passwd"), "'/etc/passwd' is not within the run's folder"),
}


@pytest.mark.parametrize("what", TWINS)
def test_a_record_whose_rows_cannot_be_told_apart_is_refused(run: RunRecord, tmp_path: Path, what: str) -> None:
    data, path = json.loads(json.dumps(asdict(run))), tmp_path / "result.json"
    change, words = TWINS[what]
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(RecordError) as refused:
        load_record(path)
    assert words in str(refused.value)
    assert str(path) in str(refused.value)


def test_repeated_takes_letters_of_either_case_for_one() -> None:
    assert repeated(["a", "b"]) is None
    assert repeated(["a", "b", "A"]) == "A"
    assert repeated([("m", "a"), ("m", None), ("m", "a")]) == ("m", "a")


CELLS = {
    "label": ({"label": "a"}, "two cells have the label a"),
    "case": ({"label": "A"}, "two cells have the label A"),
    "folder": ({"dir": "cells/a"}, "two cells have the folder cells/a"),
}


@pytest.mark.parametrize("what", CELLS)
def test_a_sweep_with_two_cells_of_one_name_is_refused_by_reports_and_by_resume(tmp_path: Path, what: str) -> None:
    ledger = new_ledger(tmp_path, ["a", "b"], [("x=1",), ("x=2",)])
    change, words = CELLS[what]
    ledger.entries[1] = replace(ledger.entries[1], **change)  # type: ignore[arg-type]
    ledger.save()
    for read in (load_source, load_ledger):
        with pytest.raises(RecordError, match=words):
            read(tmp_path)


@pytest.mark.parametrize("change", [{"dir": "../x"}, {"dir": "/tmp"}, {"label": "reference"}])
def test_a_cell_outside_or_in_the_references_name_is_refused(tmp_path: Path, change: dict[str, str]) -> None:
    ledger = new_ledger(tmp_path, ["a"], [("x=1",)])
    ledger.entries[0] = replace(ledger.entries[0], **change)  # type: ignore[arg-type]
    ledger.save()
    with pytest.raises(RecordError, match=SWEEP):
        load_source(tmp_path)


def test_two_cells_that_would_share_a_folder_are_refused_before_the_first_runs() -> None:
    cells = [Cell(label=label, overrides=(f"x={i}",), config={"x": i}) for i, label in enumerate(["k=a_b", "k=A_b"])]
    with pytest.raises(ConfigError, match="one as a folder"):
        _refuse_twins(cells)
    with pytest.raises(ConfigError, match="the same cell twice"):
        _refuse_twins([cells[0], replace(cells[0])])


@pytest.mark.parametrize(("ids", "words"), [(("a1", "A1"), "A1 occurs twice"), (("a1", "b" * 101), "cannot be a file")])
def test_utterances_that_would_share_a_file_or_have_none_are_refused(
    tmp_path: Path, ids: tuple[str, str], words: str
) -> None:
    path = tmp_path / "texts.yaml"
    lines = "".join(f'  - {{id: "{name}", category: short, text: "Hello {i}."}}\n' for i, name in enumerate(ids))
    path.write_text(f"name: mine\nlanguage: en\nutterances:\n{lines}")
    with pytest.raises(ConfigError, match=words):
        select_lines({"texts": str(path), "select": None, "limit": None})


@given(labels=st.lists(st.text(max_size=150), unique=True, min_size=2, max_size=5))
@settings(deadline=None, max_examples=40)
def test_two_labels_are_two_file_names_within_their_folder(labels: list[str]) -> None:
    names = [slug(label) for label in labels]
    assert len(set(names)) == len(names)
    for name in names:
        assert 0 < len(name) < 140
        assert name not in (".", "..")
        assert not set(name) & set("/\\\0")


def test_a_label_that_is_a_file_name_stays_as_it_is() -> None:
    assert slug("fp32-euler_7-solver.cfg=2.0") == "fp32-euler_7-solver.cfg=2.0"


def test_a_run_that_is_called_like_a_control_is_told_from_it(tmp_path: Path) -> None:
    for name in ("anchor", "degraded"):
        folder = write_listening_run(tmp_path / name, "fp32-euler_7", 1, lambda n: voiced(n, 0.2))
        record = replace(load_record(folder / "result.json"), label=name, run_id=f"run-of-{name}")
        save_record(record, folder / "result.json")
    names = load_material([tmp_path / "anchor", tmp_path / "degraded"]).names
    assert names == ("anchor (f-anchor)", "degraded (degraded)")


def test_two_runs_of_one_id_do_not_overwrite_each_other_in_a_store(run: RunRecord, tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path, ["a", "b"], [("x=1",), ("x=2",)])
    ledger.entries = [replace(entry, state="ok") for entry in ledger.entries]
    ledger.save()
    for label in "ab":
        save_record(run, tmp_path / "cells" / label / "result.json")
    with pytest.raises(RecordError, match=f"two of its runs have the id {run.run_id}"):
        load_content(tmp_path)


def test_baselines_whose_names_are_one_file_elsewhere_are_refused(tmp_path: Path) -> None:
    baseline = make_baseline(make_run(1))
    save_baseline(baseline, tmp_path)
    save_baseline(baseline, tmp_path)
    with pytest.raises(RecordError, match="one file with"):
        save_baseline(replace(baseline, name=baseline.name.upper()), tmp_path)
