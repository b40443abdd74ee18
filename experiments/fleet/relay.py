"""What Ray runs on a machine of a fleet: it starts a server of our own there and passes lines on.

Standard library alone, because it travels by value into Ray's own worker process, which knows nothing of ours. That
process measures nothing: it unpacks the code that came with it, once for every content, and starts
`python -m experiments.fleet.node` in the environment of the benchmark (F5BENCH_PYTHON, the same interpreter where that
is not set); the server starts the workers that are timed.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

PYTHON = "F5BENCH_PYTHON"  # set by `f5bench fleet join --python`
END = "end"  # the kind of the last line of an answer
TAIL_CHARS = 600


def unpacked(content: str, archive: bytes) -> Path:
    """The folder of this code below the cache. One that is not whole (the machine was switched off while it was
    written) is written again."""
    root = os.environ.get("F5BENCH_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "f5bench"
    )
    shelf = Path(root) / "fleet" / "code"
    place = shelf / content
    shelf.mkdir(parents=True, exist_ok=True)
    with (shelf / ".lock").open("wb") as turn, zipfile.ZipFile(io.BytesIO(archive)) as pack:
        fcntl.flock(turn, fcntl.LOCK_EX)  # two nodes may share a cache: the second finds it whole
        if place.is_dir() and all(_is_there(place / one.filename, one) for one in pack.infolist()):
            return place
        with tempfile.TemporaryDirectory(dir=shelf, prefix=".new-") as beside:
            fresh = Path(beside) / "code"
            pack.extractall(fresh)
            if place.is_dir():
                place.rename(Path(beside) / "torn")
            fresh.rename(place)
    return place


def _is_there(path: Path, one: zipfile.ZipInfo) -> bool:
    return path.is_file() and path.stat().st_size == one.file_size and zlib.crc32(path.read_bytes()) == one.CRC


class Relay:
    """One server and the pipes to it. When this process ends, in whatever way, the server does, and its worker."""

    def __init__(self, code: tuple[str, bytes] | None, environment: dict[str, str] | None = None) -> None:
        """code: what experiments.fleet.travel.code_archive gave; None: that of this process. environment: beside that
        of the machine, for tests."""
        place = os.getcwd() if code is None else str(unpacked(*code))
        self._said = tempfile.TemporaryFile()
        own = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "OMP_"))}
        path = os.pathsep.join(part for part in (place, own.get("PYTHONPATH", "")) if part)
        self._server = subprocess.Popen(
            [os.environ.get(PYTHON, sys.executable), "-m", "experiments.fleet.node"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, encoding="utf-8", cwd=place,
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
