"""metrics.isolation with the PESQ task: the real child process, with real crashes."""

import numpy as np
import pytest

from metrics.isolation import Answer, Item, Limits, run_isolated

RATE_HZ = 16_000

# A stand-in for the package that dies, hangs or talks as the first sample says; found before the real one.
STAND_IN = """
import os, signal, time
class PesqError(RuntimeError): pass
def pesq(rate_hz, reference_S, degraded_S, mode):
    order = round(float(reference_S[0]))
    os.write(1, b"chatter on stdout\\n")
    if order == 1: os.kill(os.getpid(), signal.SIGKILL)
    if order == 2: signal.pause()
    if order == 3: raise PesqError(b"no utterances")
    if order == 4: raise SystemError("bad build")
    return {5: float("nan"), 6: -7.0}.get(order, 3.5)
"""


def speech_like(seconds=2.0):
    t_S = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    buzz_S = sum(np.sin(2 * np.pi * 120 * k * t_S + k * k) / k for k in range(1, 25))
    return (0.15 * buzz_S * (0.55 - 0.45 * np.cos(2 * np.pi * 4 * t_S))).astype(np.float32)


def order(number):
    signal_S = np.full(100, number, np.float32)
    return signal_S, signal_S


def pesq_many(pairs, timeout_s, memory_bytes=8 << 30) -> list[Answer]:
    limits = Limits(timeout_s=timeout_s, memory_bytes=memory_bytes, start_timeout_s=60)
    return run_isolated("metrics.tasks:pesq_task", "PESQ", {}, [Item(tuple(pair)) for pair in pairs], limits)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    (tmp_path / "pesq.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_a_real_crash_costs_one_pair_only():
    pytest.importorskip("pesq")
    good = (speech_like(), speech_like())
    bursts_S = np.tile(np.concatenate([speech_like(0.6), np.zeros(6400, np.float32)]), 70)
    first, crashed, last = pesq_many([good, (bursts_S, bursts_S), good], timeout_s=60)
    assert first.payload == pytest.approx(4.644, abs=1e-3)
    assert last == first
    assert crashed.payload is None
    assert crashed.status == "error"
    assert crashed.reason.startswith("PESQ crashed (signal ")


@pytest.mark.usefixtures("stand_in")
def test_each_failure_is_charged_to_its_own_pair():
    outcomes = pesq_many([order(number) for number in (0, 1, 0, 2, 3, 4, 5, 6, 0)], timeout_s=1.0)
    reasons = [outcome.reason for outcome in outcomes]
    assert [outcome.payload for outcome in outcomes] == [3.5, None, 3.5, None, None, None, None, None, 3.5]
    assert reasons[1] == "PESQ crashed (signal 9)"
    assert reasons[3] == "PESQ timed out after 1 s"
    assert reasons[4] == "PESQ refused the pair: no utterances"
    assert reasons[5] == "PESQ ended with exit code 1: SystemError: bad build"
    assert reasons[6] == "PESQ returned nan, which is not a score"
    assert reasons[7] == "PESQ returned -7.0, which is not a score"
    assert {outcome.status for outcome in outcomes if outcome.payload is None} == {"error"}


def test_silence_is_refused_by_the_real_one():
    pytest.importorskip("pesq")
    silent_S = np.zeros(2 * RATE_HZ, np.float32)
    outcomes = pesq_many([(silent_S, speech_like()), (speech_like(), silent_S), (silent_S, silent_S)], timeout_s=30)
    assert [outcome.status for outcome in outcomes] == ["error"] * 3


def test_a_missing_package_makes_all_pairs_unavailable(tmp_path, monkeypatch):
    (tmp_path / "pesq.py").write_text("raise ImportError('not built')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    outcomes = pesq_many([order(0), order(0)], timeout_s=5)
    assert [outcome.status for outcome in outcomes] == ["unavailable"] * 2
    assert "pip install pesq" in outcomes[0].reason


def test_a_child_that_cannot_start_is_not_tried_again(tmp_path, monkeypatch):
    (tmp_path / "pesq.py").write_text("raise SystemExit('wrong machine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    outcomes = pesq_many([order(0), order(0)], timeout_s=5)
    assert [outcome.status for outcome in outcomes] == ["error"] * 2
    assert "did not start: ended with exit code 1: wrong machine" in outcomes[0].reason


def test_no_items_start_nothing():
    assert pesq_many([], timeout_s=1) == []


def test_a_task_that_eats_the_memory_costs_its_own_item(tmp_path, monkeypatch):
    code = "def eater(setup):\n    return lambda item: len(bytearray(int(item.arrays[0][0])))\n"
    (tmp_path / "eating.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    items = [Item((np.array([size]),)) for size in (10, 4 << 30, 10)]
    answers = run_isolated("eating:eater", "the eater", {}, items, Limits(memory_bytes=2 << 30))
    assert [answer.payload for answer in answers] == [10, None, 10]
    assert answers[1].reason == f"over the memory limit of {2 << 30} bytes"
