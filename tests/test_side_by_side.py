"""metrics.isolation.side_by_side: real children, two busy at once, and none left behind."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from metrics.fidelity.scores import score_pairs
from metrics.isolation import Answer, Item, Limits, Stopped, run_isolated, run_shared, side_by_side
from tests.heard import heard, speech_like

# A task that says who it is and then waits for the file that its set-up names; 0 as an item ends its process
WAITER = """
import os, time
from pathlib import Path
def waiter(setup):
    Path(setup["mine"]).write_text(str(os.getpid()))
    def work(item):
        if item.arrays[0][0] == 0: os._exit(3)
        while not Path(setup["theirs"]).exists(): time.sleep(0.01)
        return setup["mine"]
    return work
"""
LIMITS = Limits(timeout_s=20, start_timeout_s=60, at_once=2)


@pytest.fixture
def waiters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, Sequence[int]], object]:
    (tmp_path / "waiting.py").write_text(WAITER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def work(mine: str, theirs: str, numbers: Sequence[int], limits: Limits) -> list[Answer]:
        setup = {"mine": str(tmp_path / mine), "theirs": str(tmp_path / theirs)}
        return run_isolated("waiting:waiter", mine, setup, [Item((np.array([n]),)) for n in numbers], limits)

    return lambda mine, theirs, numbers: partial(work, mine, theirs, numbers)


def test_two_children_are_busy_at_once_and_answer_in_order(waiters, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    said: list[str] = []
    works = [waiters("a", "b", [1, 1]), waiters("b", "a", [1, 0, 1])]
    one, other = side_by_side(works, LIMITS, lambda: said.append("meanwhile"))
    assert [answer.payload for answer in one] == [str(tmp_path / "a")] * 2
    assert [answer.payload for answer in other] == [str(tmp_path / "b"), None, str(tmp_path / "b")]
    assert other[1].reason == "b ended with exit code 3"
    assert said == ["meanwhile"]


def test_an_interruption_ends_children_that_hang_at_once(waiters, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def interrupted() -> None:
        while not all((tmp_path / name).is_file() and (tmp_path / name).read_text() for name in "ab"):
            time.sleep(0.01)
        raise KeyboardInterrupt

    works = [waiters(name, "never", [1, 1, 1]) for name in ("a", "b", "c")]
    with pytest.raises(KeyboardInterrupt):
        side_by_side(works, replace(LIMITS, timeout_s=600), interrupted)
    for name in ("a", "b"):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / name).read_text()), 0)
    assert not (tmp_path / "c").exists()


def test_a_work_that_breaks_is_what_one_hears_of(waiters) -> None:  # type: ignore[no-untyped-def]
    def broken(limits: Limits) -> list[Answer]:
        raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError, match="a defect") as error:
        side_by_side([waiters("a", "never", [1]), broken], replace(LIMITS, timeout_s=600), lambda: None)
    assert not isinstance(error.value, Stopped)


def test_items_that_two_children_share_are_answered_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "counting.py").write_text(
        "import os\ndef first(setup):\n    return lambda item: [float(item.arrays[0][0]), os.getpid()]\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for num, children in ((9, 2), (3, 1)):
        items = [Item((np.full(4, i, np.float32),)) for i in range(num)]
        answers = run_shared("counting:first", "a stand-in", {}, items, LIMITS)
        assert [answer.payload[0] for answer in answers] == list(range(num))
        assert len({answer.payload[1] for answer in answers}) == children


def test_scores_are_the_same_one_after_another_and_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own families and foreign ones, a pair that cannot be scored among them."""
    families = ["snr", "pesq", "prosody"]
    good = (heard(speech_like() * 0.99), heard(speech_like()))
    silent = (heard(np.zeros_like(speech_like())), heard(speech_like()))
    found = []
    for at_once in (1, 2):
        monkeypatch.setattr("metrics.fidelity.prosody._KEPT", {})
        limits = Limits(timeout_s=30, at_once=at_once)
        found.append(score_pairs([good, silent, good], "reference", families, limits))
    assert json.dumps([repr(score) for score in found[0]]) == json.dumps([repr(score) for score in found[1]])
    assert {score.status for score in found[0]} >= {"ok", "not_comparable"}
