"""The processes of a comparison: what is said, and how soon, where one is gone, hangs or does not stay steady."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch

from experiments.compare.bench import Bench
from experiments.compare.child import DeviceEvents
from experiments.compare.processes import START_LIMIT_S, Server, SideFailed
from tests.engines import config
from tests.stub_trees import open_bench, stub_side, stub_tree


@pytest.fixture
def log(tmp_path: Path) -> Iterator[BinaryIO]:
    with (tmp_path / "log.txt").open("wb") as file:
        yield file


def test_a_server_that_was_killed_is_a_failed_side(tmp_path: Path, log: BinaryIO) -> None:
    side = stub_side("reference", stub_tree(tmp_path / "tree"), config())
    with Server(side, log, None) as server:
        server.wait_ready()
        child = server.fork("reference")
        os.kill(server.pid, signal.SIGKILL)
        os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(SideFailed, match="its server is gone") as failed:
            server.fork("candidate")
        assert (failed.value.side, failed.value.kind) == ("candidate", "died")
        child.close()  # nobody is left to say how it ended, and nothing is raised


def bench_of(folder: Path, log: BinaryIO, stack: ExitStack, *changes: str, call_limit_s: float = 60) -> Bench:
    """An ordinary reference; the candidate's engine is changed."""
    specs = [
        stub_side("reference", stub_tree(folder / "reference"), config()),
        stub_side("candidate", stub_tree(folder / "candidate", *changes), config()),
    ]
    return open_bench(specs, folder, log, stack, call_limit_s)


def test_audio_of_another_run_in_the_folder_does_not_stand_for_this_one(tmp_path: Path, log: BinaryIO) -> None:
    np.save(tmp_path / "candidate-0.npy", np.zeros(94 * 256, np.float32))
    with ExitStack() as stack, pytest.raises(SideFailed, match="silent") as failed:
        bench_of(tmp_path, log, stack, "loudness = 1e-9; is_random = False").block()
    assert failed.value.side == "candidate"


def test_a_side_that_hangs_is_named_and_killed_at_once(tmp_path: Path, log: BinaryIO) -> None:
    hang = "def before(self): threading.Event().wait()"
    with ExitStack() as stack:
        bench = bench_of(tmp_path, log, stack, hang, call_limit_s=3)
        begun_s = time.monotonic()
        with pytest.raises(SideFailed, match="no answer within 3 s") as failed:
            bench.block()
        assert (failed.value.side, failed.value.kind) == ("candidate", "hang")
        assert time.monotonic() - begun_s < START_LIMIT_S / 2


def test_a_side_that_died_says_how_and_its_server_lives_on(tmp_path: Path, log: BinaryIO) -> None:
    side = stub_side("candidate", stub_tree(tmp_path / "tree", "def before(self): import os; os._exit(7)"), config())
    with Server(side, log, None) as server:
        server.wait_ready()
        child = server.fork("candidate")
        child.start_building(side)
        child.finish_building(60)
        with pytest.raises(SideFailed, match=r"its process ended \(exit code 7\)"):
            child.call(0, 0, 60)
        child.close()
        server.fork("candidate").close()


def test_a_compilation_in_a_timed_call_fails_the_side_with_both_counts(tmp_path: Path, log: BinaryIO) -> None:
    late = 'def own_proof(self): return {"steady_counters": {"compilations": 1 + (self.num_calls > 1)}}'
    with ExitStack() as stack, pytest.raises(SideFailed, match="compilations went from 1 to 2") as failed:
        bench_of(tmp_path, log, stack, late).block()
    assert (failed.value.side, failed.value.kind) == ("candidate", "invalid")


def test_counters_that_stand_still_and_an_engine_without_any_are_compared(tmp_path: Path, log: BinaryIO) -> None:
    still = 'def own_proof(self): return {"steady_counters": {"compilations": 3}}'
    with ExitStack() as stack:
        assert len(bench_of(tmp_path, log, stack, still).block().turns) == 2


class StandInEvent:
    """What torch.cuda.Event does with a stream, here a list of device times in seconds."""

    def __init__(self, *, enable_timing: bool):
        self.is_timing, self.is_reached = enable_timing, False

    def record(self, stream: list[float]) -> None:
        self.at_s = stream.pop(0)

    def synchronize(self) -> None:
        self.is_reached = True

    def elapsed_time(self, end: StandInEvent) -> float:
        assert self.is_timing
        assert end.is_reached, "CUDA has no time of an event that was not reached"
        return 1000 * (end.at_s - self.at_s)


def test_a_call_is_timed_between_two_events_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = [1.0, 1.25, 3.0, 3.5]
    monkeypatch.setattr(torch.cuda, "Event", StandInEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    events = DeviceEvents("cuda")
    times = []
    for _ in range(2):
        events.start()
        times.append(events.stop_s())
    assert times == [0.25, 0.5]
