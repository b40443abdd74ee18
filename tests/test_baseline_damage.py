"""Stored baselines that cannot be used: what is said of them, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baselines.stored.store import NoBaseline, read_baseline, save_baseline
from experiments.baseline import main
from experiments.common.cli import EXIT_NO_BASELINE, run_verb
from metrics.record import save_record
from tests.baseline_runs import HOST, make_baseline, make_run


def test_another_schema_version_is_one_clear_line(tmp_path: Path) -> None:
    path = save_baseline(make_baseline(), tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 7}))
    with pytest.raises(NoBaseline) as caught:
        read_baseline(path)
    assert str(caught.value) == (f"{path}: schema_version 7, this program reads 2; record it again with --replace")


def test_a_record_of_another_schema_version_inside_is_found(tmp_path: Path) -> None:
    path = save_baseline(make_baseline(), tmp_path)
    content = json.loads(path.read_text())
    content["runs"][0]["schema_version"] = 9
    path.write_text(json.dumps(content))
    with pytest.raises(NoBaseline, match="schema_version 9"):
        read_baseline(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"recorded_by"', '"recorder"'),
        lambda text: text.replace('"cpu_s"', '"cpu"', 1),
        lambda text: text.replace('"audio_s": 2.0', '"audio_s": NaN', 1),
        lambda text: text.replace('"status": "ok"', '"status": "error"', 1),
    ],
    ids=["cut off", "not an object", "unknown field", "unknown trial field", "NaN", "score without number"],
)
def test_a_damaged_baseline_names_its_file(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    path = save_baseline(make_baseline(), tmp_path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(NoBaseline, match=str(path)):
        read_baseline(path)


@pytest.mark.parametrize("action", ["show", "approve", "diff", "add"])
def test_every_verb_that_needs_a_damaged_baseline_ends_with_13(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    run, records = tmp_path / "run", ["--records", str(tmp_path / "records")]
    save_record(make_run(2), run / "result.json")
    path = save_baseline(make_baseline(), tmp_path / "records")
    path.write_text(path.read_text()[:-100])
    arguments = {
        "show": ["show", *records, "nightly"],
        "approve": ["approve", *records, "nightly", "--why", "heard it"],
        "diff": ["diff", *records, "nightly", str(run)],
        "add": ["record", *records, "nightly", "--add", "--run", str(run)],
    }[action]
    assert run_verb(main, arguments) == EXIT_NO_BASELINE
    assert f"{HOST}/nightly.json: damaged baseline" in capsys.readouterr().err
