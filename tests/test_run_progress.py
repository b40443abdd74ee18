"""What is said while a measurement runs."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from experiments.common.journal import JournalWriter
from experiments.common.progress import Board, Estimate, JournalTail, Planned, clock_text


def test_time_left_is_work_left_at_the_pace_so_far() -> None:
    estimate = Estimate(total_work=100)
    assert estimate.left_s(3.0, 0) is None
    assert estimate.left_s(5.0, 10) == pytest.approx(45.0)
    estimate.spent_s, estimate.done_work = 20.0, 50
    assert estimate.left_s(0.0, 0) == pytest.approx(20.0)
    assert estimate.left_s(100.0, 60) == 0.0


def test_a_tail_counts_whole_lines_once(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    tail = JournalTail(path)
    assert tail.read() == 0
    with JournalWriter(path) as journal:
        journal.append("start", {})
        journal.append("first_call", {})
        assert tail.read() == 1
        journal.append("trial", {})
        journal.append("calibration", {})
        with path.open("ab") as file:
            file.write(b'{"kind": "tri')
        assert (tail.read(), tail.read()) == (2, 2)
        with path.open("ab") as file:
            file.write(b'al"}\n')
        assert tail.read() == 3


def test_a_tail_follows_the_next_attempt_that_begins_in_the_place_of_the_last(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with JournalWriter(path) as journal:
        journal.append("trial", {})
    tail = JournalTail(path)
    assert tail.read() == 1
    path.rename(tmp_path / "journal.1.jsonl")
    with JournalWriter(path) as journal:
        journal.append("start", {"a longer": "first line, so that the old place lies inside of it" * 4})
        journal.append("first_call", {})
        journal.append("trial", {})
    assert tail.read() == 2


def test_without_a_terminal_each_variant_has_a_line_at_its_start_and_its_end(tmp_path: Path) -> None:
    output = io.StringIO()
    plans = [Planned(label="a", num_trials=3, num_evals=7), Planned(label="b", num_trials=3, num_evals=7)]
    now = iter(range(100))
    with Board(plans, console=Console(file=output, width=200), now_s=lambda: float(next(now))) as board:
        board.start(0)
        board.tick(0, tmp_path / "journal.jsonl")
        board.finish(0, "ok", None)
        board.start(1)
        board.finish(1, "failed", "killed\nby [red] signal 9")
        assert board.summary() == "1 ok, 1 failed"
    assert output.getvalue().splitlines() == [
        "[1/2] a: 3 calls", "[1/2] a: ok, 1.0 s", "[2/2] b: 3 calls",
        "[2/2] b: failed, 1.0 s (killed by [red] signal 9)",
    ]  # fmt: skip


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (125, "2:05"), (-3, "0:00")])
def test_clock_text(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


def test_on_a_terminal_the_bar_counts_calls_and_estimates_the_rest(tmp_path: Path) -> None:
    output = io.StringIO()
    console = Console(file=output, width=160, force_terminal=True, color_system=None)
    plans = [Planned(label="a", num_trials=4, num_evals=7), Planned(label="b", num_trials=4, num_evals=14)]
    times = iter([0.0, 10.0, 20.0, 20.0])
    with JournalWriter(tmp_path / "j") as journal, Board(plans, console=console, now_s=lambda: next(times)) as board:
        board.start(0)
        journal.append("first_call", {})
        journal.append("trial", {})
        board.tick(0, tmp_path / "j")
        board.finish(0, "ok", None)
        board.start(1)
    shown = output.getvalue()
    assert "2/4 calls" in shown
    assert "about 0:50 left" in shown  # 14 of 84 evaluations took 10 s
    assert "1/2 variants" in shown
