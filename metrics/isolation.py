"""Both ends of one pipe: foreign code in a child process with limits, because it may crash, hang or eat the memory.

The parent (`run_isolated`) names a task "module:function". The child (`python -m metrics.isolation`) calls the function
once with the set-up, gets a callable, and applies it to one item after the other; each answer is a line of JSON. One
child serves many items; a crash or a timeout costs the item that was asked for, and the next item gets a new child.
The child is told to stay off the network. `side_by_side` keeps several children busy at once.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from metrics.record import ScoreStatus
from metrics.typed import number_in

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

FEWEST_ITEMS = 4  # for a child of its own: fewer cost less than another child's start
LOOK_S = 0.2  # how often somebody who waits for a child looks whether it is to stop

_MEMORY = Path("/dev/shm")  # where there is one, arrays change hands without a disk
_ROOT = Path(__file__).resolve().parents[1]


class Refused(Exception):
    """A task says that it has no answer: for one item, or (from its set-up) for all of them."""

    def __init__(self, status: ScoreStatus, reason: str):
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """timeout_s: for each item. memory_bytes: address space of the child. start_timeout_s: imports and models.

    at_once: so many children may be busy side by side. stop: once it is set, no child is waited for any longer.
    """

    timeout_s: float = 30.0
    memory_bytes: int = 8 << 30
    start_timeout_s: float = 120.0
    at_once: int = 1
    stop: threading.Event | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """What one call gets: arrays, and whatever else JSON can hold."""

    arrays: tuple[np.ndarray, ...]
    info: Mapping[str, object] = field(default_factory=dict)

    @property
    def sample_rate_hz(self) -> int:
        """Of its arrays, where they are audio. Raises ValueError where info does not say it."""
        return int(number_in(self.info, "sample_rate_hz"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """payload: what the task returned, None unless status is ok."""

    payload: Any
    status: ScoreStatus
    reason: str | None


Work = Callable[[Item], Any]


Found = TypeVar("Found")


class _NoAnswer(Exception):
    """The child is gone or was ended; the message is the reason for the record."""


class Stopped(Exception):
    """Limits.stop was set; the child has been ended and there are no answers."""


def side_by_side(
    works: Sequence[Callable[[Limits], Found]], limits: Limits, meanwhile: Callable[[], None]
) -> list[Found]:
    """What the works return, in their order; limits.at_once of them at a time, each with limits to hand on.

    `meanwhile` runs in the calling thread beside them. Where one of them raises, or the program is interrupted, the
    children of the others are ended before the error goes on.
    """
    if limits.at_once == 1:
        meanwhile()
        return [work(limits) for work in works]
    stop = threading.Event()
    with ThreadPoolExecutor(limits.at_once) as pool:
        futures: list[Future[Found]] = [pool.submit(work, replace(limits, stop=stop)) for work in works]
        try:
            meanwhile()
            for future in as_completed(futures):
                future.result()  # the first that fails ends the others
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def run_isolated(
    task: str, name: str, setup: Mapping[str, object], items: Sequence[Item], limits: Limits
) -> list[Answer]:
    """One answer per item, in order. task: "module:function"; name: how reasons call it; setup: JSON.

    Where the set-up refuses or the child cannot start, that is every item's answer and nothing is tried again.
    Raises Stopped once limits.stop is set.
    """
    answers: list[Answer] = []
    child: _Child | None = None
    with tempfile.TemporaryDirectory(prefix="isolated-", dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        try:
            for item in items:
                if child is None or not child.is_alive():
                    if child is not None:
                        child.end()
                    child = _Child(Path(folder), task, name, limits)
                    refusal = child.start(setup)
                    if refusal is not None:  # it would not start for the items that are left either
                        return answers + [refusal] * (len(items) - len(answers))
                answers.append(child.ask(item))
        finally:
            if child is not None:
                child.end()
    return answers


def run_shared(
    task: str, name: str, setup: Mapping[str, object], items: Sequence[Item], limits: Limits
) -> list[Answer]:
    """What `run_isolated` answers, by limits.at_once children where there are items enough for them.

    For models that take long for each item. Items know nothing of each other, so sharing them out changes no answer.
    """
    num = max(1, min(limits.at_once, len(items) // FEWEST_ITEMS))
    shares = [partial(run_isolated, task, name, setup, items[i::num]) for i in range(num)]
    found = side_by_side(shares, limits, meanwhile=_nothing)
    return [found[i % num][i // num] for i in range(len(items))]


def _nothing() -> None:
    """What is done meanwhile where there is nothing else."""


class _Child:
    """One process and its pipe, seen from the parent."""

    def __init__(self, folder: Path, task: str, name: str, limits: Limits):
        self._arrays_path = folder / "item.npz"
        self._log_path = folder / "stderr.txt"
        self._name, self._limits = name, limits
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "metrics.isolation", task, str(limits.memory_bytes)],
                cwd=_ROOT,
                env={**os.environ, **OFFLINE, **ONE_THREAD},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
            )
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("Popen was asked for both pipes")
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def start(self, setup: Mapping[str, object]) -> Answer | None:
        """Wait until the child can work; what it says where it cannot."""
        try:
            greeting = self._exchange(setup, self._limits.start_timeout_s)
        except _NoAnswer as error:
            return _none("error", f"{self._name} did not start: {error}")
        return None if greeting.status == "ok" else greeting

    def ask(self, item: Item) -> Answer:
        np.savez(self._arrays_path, *item.arrays)
        try:
            return self._exchange({"path": str(self._arrays_path), "info": item.info}, self._limits.timeout_s)
        except _NoAnswer as error:
            return _none("error", f"{self._name} {error}")

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._stdin.close()
        self._stdout.close()

    def _exchange(self, message: Mapping[str, object], timeout_s: float) -> Answer:
        try:
            self._stdin.write(json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            raise _NoAnswer(self._death()) from None
        return Answer(**json.loads(self._read_line(timeout_s)))

    def _read_line(self, timeout_s: float) -> bytes:
        deadline = time.monotonic() + timeout_s
        line = b""
        while not line.endswith(b"\n"):
            if not self._is_readable(deadline):
                self._process.kill()
                self._process.wait()
                raise _NoAnswer(f"timed out after {timeout_s:g} s")
            received = os.read(self._stdout.fileno(), 65536)
            if not received:
                raise _NoAnswer(self._death())
            line += received
        return line

    def _is_readable(self, deadline: float) -> bool:
        """Whether there is something to read by then (time.monotonic)."""
        stop = self._limits.stop
        while True:
            if stop is not None and stop.is_set():
                raise Stopped
            left_s = max(0.0, deadline - time.monotonic())
            wait_s = left_s if stop is None else min(left_s, LOOK_S)
            if select.select([self._stdout], [], [], wait_s)[0]:
                return True
            if wait_s == left_s:
                return False

    def _death(self) -> str:
        code = self._process.wait()
        if code < 0:
            return f"crashed (signal {-code})"
        last_words = self._log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        return ": ".join([f"ended with exit code {code}", *last_words])


def _none(status: ScoreStatus, reason: str) -> Answer:
    return Answer(payload=None, status=status, reason=reason)


def serve(task: str, memory_bytes: int) -> None:
    """The child's loop. Its stdout belongs to the answers: what foreign code prints goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # its crashes are expected and leave no core files
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent ends the child
    module, _, function = task.partition(":")
    work: Work | None = None
    for line in sys.stdin:
        message = json.loads(line)
        try:
            if work is None:
                work, payload = getattr(importlib.import_module(module), function)(message), None
            else:
                with np.load(message["path"], allow_pickle=False) as arrays:
                    payload = work(Item(tuple(arrays.values()), message["info"]))
            answer = {"payload": payload, "status": "ok", "reason": None}
        except Refused as error:
            answer = {"payload": None, "status": error.status, "reason": error.reason}
        except MemoryError:
            answer = {"payload": None, "status": "error", "reason": f"over the memory limit of {memory_bytes} bytes"}
        print(json.dumps(answer, allow_nan=False), file=answers, flush=True)


if __name__ == "__main__":
    from metrics import isolation  # the tasks raise that module's Refused, not the one of __main__

    isolation.serve(sys.argv[1], int(sys.argv[2]))
