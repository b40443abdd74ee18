"""What goes over the line while a job runs elsewhere: what its folder has that was not sent yet, and how it is written
down at the other end.

Journal and log grow and are sent by what is new; every other file is sent whole when it has changed. A file comes
before the journal line that names it, and the record comes last: whenever the line breaks, what lies here is what a
worker that died at that moment would have left.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, TypedDict

from experiments.common.failure import FailureKind
from experiments.common.journal import JOURNAL
from experiments.common.plain import Config
from experiments.measuring.job import JOB, LOG, RESULT, JobKind
from metrics.parts.environment import Commit


class News(TypedDict, total=False):
    """A line of an answer; which keys it has, its kind says.

    class: host_class, facts. about: of the machine, boot_id to pid. lacking: hashes. said, changed: in words. file,
    grown: what a job's folder has now (data: base64; start: the byte that it begins at). done: how the job ended.
    """

    kind: str
    host_class: str
    facts: Mapping[str, object]
    boot_id: str | None
    cpu_model: str
    cpu_flags: list[str]
    pid: int
    hashes: list[str]
    line: str
    reason: str
    name: str
    data: str
    start: int
    failure: FailureKind | None
    exit_code: int | None
    log_tail: list[str]


class About(TypedDict):
    """What a machine is. kinds: cpu, cuda:0."""

    ask: Literal["about"]
    kinds: list[str]


class Lacking(TypedDict):
    """Which of the hashes were never sent there."""

    ask: Literal["lacking"]
    hashes: list[str]


class Keep(TypedDict):
    """Files that travel: hash -> base64."""

    ask: Literal["keep"]
    files: Mapping[str, str]


class Job(TypedDict):
    """One job. config: as it is to be measured, asked: as the record has it; files, expected: experiments.fleet.travel;
    environment, facts: what the machine was when the sweep began; git: the commit of the code."""

    ask: Literal["job"]
    run_id: str
    label: str
    kind: JobKind
    config: Config
    asked: Config
    files: Mapping[str, Sequence[tuple[str, str]]]
    expected: Mapping[str, Sequence[str]]
    machine: str
    command: list[str] | None
    environment: str
    facts: Mapping[str, object]
    git: Commit


Request = About | Lacking | Keep | Job
GROWING = (LOG, JOURNAL)
EVERY_S = 2.0  # beside timed calls; a trial that is not so old yet may be lost with its machine


class Outbox:
    """Of the machine that measures. send: takes one piece of news."""

    def __init__(self, folder: Path, send: Callable[[News], None], now_s: Callable[[], float] = time.monotonic):
        self._folder, self._send, self._now_s = folder, send, now_s
        self._seen: dict[str, tuple[int, int]] = {}
        self._grown = dict.fromkeys(GROWING, 0)
        self._next_s = now_s() + EVERY_S

    def running(self, journal: Path) -> None:
        """While the worker runs, as often as anybody likes: once in EVERY_S something is looked at."""
        if self._now_s() >= self._next_s:
            self._look(whole_lines=True)
            self._next_s = self._now_s() + EVERY_S

    def ended(self) -> None:
        """The rest, and the record."""
        self._look(whole_lines=False)
        self._file(RESULT)

    def _look(self, *, whole_lines: bool) -> None:
        sizes = {name: _size(self._folder / name) for name in GROWING}
        for path in sorted(self._folder.rglob("*")):
            name = path.relative_to(self._folder).as_posix()
            in_the_making = path.name.startswith(".")  # of metrics.record's atomic writing
            if path.is_file() and not in_the_making and name not in (*GROWING, JOB, RESULT):
                self._file(name)
        for name in GROWING:
            self._grow(name, sizes[name], whole_lines=whole_lines)

    def _file(self, name: str) -> None:
        path = self._folder / name
        stat = path.stat()
        if self._seen.get(name) != (stat.st_size, stat.st_mtime_ns):
            self._seen[name] = (stat.st_size, stat.st_mtime_ns)
            self._send({"kind": "file", "name": name, "data": packed(path.read_bytes())})

    def _grow(self, name: str, size: int, *, whole_lines: bool) -> None:
        start = self._grown[name]
        if size < start:  # a line that the disk refused was taken back
            start = self._grown[name] = 0
        if size == start:
            return
        with (self._folder / name).open("rb") as file:
            file.seek(start)
            new = file.read(size - start)
        if whole_lines:
            new = new[: new.rfind(b"\n") + 1]
        if new:
            self._send({"kind": "grown", "name": name, "start": start, "data": packed(new)})
            self._grown[name] = start + len(new)


class Inbox:
    """Of the machine that asked: writes what comes into the job's folder. Raises ValueError for what does not fit."""

    def __init__(self, folder: Path):
        self._folder = folder

    def take(self, news: News) -> None:
        path = self._folder / _inside(str(news["name"]))
        data = base64.b64decode(news["data"], validate=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        if news["kind"] == "file":
            fresh = path.with_name(f".{path.name}.new")
            fresh.write_bytes(data)
            fresh.replace(path)
            return
        path.touch()
        with path.open("r+b") as file:
            if file.seek(0, os.SEEK_END) < news["start"]:
                raise ValueError(f"{path}: what came before byte {news['start']} is missing")
            file.seek(news["start"])
            file.truncate()
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def packed(data: bytes) -> str:
    """Bytes as text of one line."""
    return base64.b64encode(data).decode("ascii")


def _inside(name: str) -> PurePosixPath:
    """A path below the folder. Raises ValueError for one that leads out."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"{name}: leads out of the folder")
    return path


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
