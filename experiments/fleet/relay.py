"""What Ray runs on a machine of a fleet: it starts a server of our own there and passes lines on.

Standard library alone, because Ray loads this module in its own worker process. That process measures nothing and
imports no model: it starts `python -m experiments.fleet.node` in the environment of the benchmark (F5BENCH_PYTHON, the
same interpreter where that is not set), and the server starts the workers that are timed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

PYTHON = "F5BENCH_PYTHON"  # set by `f5bench fleet join --python`
END = "end"  # the kind of the last line of an answer
TAIL_CHARS = 600


class Relay:
    """One server and the pipes to it. When this process ends, in whatever way, the server does, and its worker."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        """environment: beside that of the machine, for tests."""
        self._said = tempfile.TemporaryFile()
        own = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "OMP_"))}
        path = os.pathsep.join(part for part in (os.getcwd(), own.get("PYTHONPATH", "")) if part)
        self._server = subprocess.Popen(
            [os.environ.get(PYTHON, sys.executable), "-m", "experiments.fleet.node"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, encoding="utf-8",
            env={**own, "PYTHONPATH": path, **(environment or {})},
        )  # fmt: skip

    def talk(self, request: str) -> Iterator[str]:
        """One line asked, the lines of the answer as they come. Raises RuntimeError where the server has ended."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        try:
            self._server.stdin.write(request + "\n")
            self._server.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        for line in self._server.stdout:
            yield line
            if json.loads(line)["kind"] == END:
                return
        raise self._ended()

    def close(self) -> None:
        """End the server, and with it the worker that it has started."""
        self._server.kill()
        self._server.wait()

    def _ended(self) -> RuntimeError:
        code = self._server.wait()
        self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, self._said.tell() - TAIL_CHARS))
        lines = self._said.read().decode("utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
        return RuntimeError(f"the server there ended with {code}: {lines[-1]}")
