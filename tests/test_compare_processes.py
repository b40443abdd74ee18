"""The processes of a comparison: what is said, and how soon, where one is gone, hangs or does not stay steady."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from experiments.compare_processes import Server, SideFailed
from tests.engines import config
from tests.stub_trees import stub_side, stub_tree


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
