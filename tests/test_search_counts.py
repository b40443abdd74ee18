"""A search lists every cell once, however often it was suggested, and counts what it may still measure."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments.common.cli import EXIT_USAGE, run_verb
from experiments.common.progress import Board, Planned
from experiments.optimize import request, study
from experiments.optimize.__main__ import main
from experiments.optimize.asking import front_lines
from experiments.optimize.request import new_search
from experiments.optimize.study import Search, Told, row_of, save_search
from metrics.record import RecordError

ARGV = ["engine=fp32,bf16", "sweep.num_trials=6", "sweep.objectives=[rtf,peak_bytes]", "out=out", "tracking=none"]


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    monkeypatch.chdir(tmp_path)
    return new_search(ARGV)


def told(search: Search, number: int, label: str, *values: float) -> None:
    search.add(row_of(number, label, {"engine": label}, Told(values=values or None, excess={})))
    save_search(search)


def test_a_cell_that_is_suggested_three_times_is_one_line_and_one_row(search: Search) -> None:
    for number in range(3):
        told(search, number, "fp32", 0.5, 100.0)
    told(search, 3, "bf16", 0.4, 200.0)
    told(search, 4, "fp32", 0.5, 100.0)
    assert front_lines(search) == ["front    fp32: rtf 0.5, peak_bytes 100", "front    bf16: rtf 0.4, peak_bytes 200"]
    rows = json.loads(Path("out/search.json").read_text())["trials"]
    assert [(row["label"], row["number"]) for row in rows] == [("fp32", 0), ("bf16", 3)]


def test_a_space_of_two_is_never_more_than_two(search: Search) -> None:
    assert search.wanted == 2
    asked = study.proposals(FakeStudy(), search)
    for number, label in enumerate(["fp32", "fp32", "bf16"]):
        assert next(asked) == "a trial"
        told(search, number, label, 0.5, 1.0)
    assert list(asked) == []


class FakeStudy:
    def get_trials(self, deepcopy: bool) -> list[Any]:
        return []

    def ask(self) -> str:
        return "a trial"


def test_the_board_counts_against_what_there_may_be() -> None:
    out = io.StringIO()
    plan = Planned(label="a", num_trials=1, num_evals=1)
    with Board([], at_most=3, console=Console(file=out)) as board:
        for _ in range(2):
            place = board.add(plan)
            board.start(place)
            board.finish(place, "ok", None)
    assert [line.partition("]")[0] for line in out.getvalue().splitlines()] == [
        "[1 of at most 3", "[1 of at most 3", "[2 of at most 3", "[2 of at most 3",
    ]  # fmt: skip


@pytest.mark.parametrize("content", ["[]", '{"argv": 3}', '{"argv": [1]}', "{", '{"argv": "a"}'])
def test_a_damaged_request_is_one_line(search: Search, content: str) -> None:
    Path("out/request.json").write_text(content)
    with pytest.raises(RecordError, match=r"no such search|damaged"):
        request.resumed_search(["resume=out"])


def test_an_override_that_only_ends_in_resume_is_one_line(search: Search, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(main, ["sweep.xresume=out"]) == EXIT_USAGE
    assert len(capsys.readouterr().err.splitlines()) == 1
