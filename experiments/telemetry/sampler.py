"""Samples of power and of the board's state while something else runs: a thread of the parent, a line a sample.

`telemetry.jsonl`: the first line is the head (source, rule of the total, files, filters of the sensors, and whatever is
missing with its reason), then samples of power at `power_hz` and of the board's state at `state_hz`. Both clocks stand
in every line: t_s is CLOCK_MONOTONIC, which is one for every process of the machine and is what trials are timed by;
unix_s is the calendar's. Lines are written through the system's cache: waiting for the disk would disturb what is
measured, and no verdict rests on them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from experiments.telemetry.backends import Backend
from metrics.record import to_json

TELEMETRY = "telemetry.jsonl"
JOIN_S = 0.7  # a read that a driver holds up is left behind
STATE_HZ = 1.0

State = Callable[[], Mapping[str, object]]


class Sampler:
    """A context manager: samples from its beginning to its end. Writing anew where there is a file.

    problem: why it ended before it was told to, None where it did not.
    """

    def __init__(self, path: Path, backend: Backend, state: State, power_hz: float, state_hz: float = STATE_HZ):
        if power_hz <= 0 or state_hz <= 0:
            raise ValueError(f"power_hz={power_hz}, state_hz={state_hz}: must be above 0")
        self._backend, self._state, self._path = backend, state, path
        self._periods_s = {"power": 1 / power_hz, "state": 1 / state_hz}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self.problem: str | None = None

    def __enter__(self) -> Sampler:
        self._file = self._path.open("w", encoding="utf-8", buffering=1)
        self._write("head", {"source": self._backend.source, "periods_s": self._periods_s, **self._backend.head()})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(JOIN_S)
        if self._thread.is_alive():
            self.problem = f"a sensor has not answered for {JOIN_S:g} s"
        else:
            self._file.close()

    def _run(self) -> None:
        due_s = dict.fromkeys(self._periods_s, time.monotonic())
        reads: Mapping[str, State] = {"power": lambda: self._backend.read().content(), "state": self._state}
        try:
            while not self._over.is_set():
                for kind, read in reads.items():
                    if time.monotonic() >= due_s[kind]:
                        self._write(kind, read())
                        # From now on, not from when it was due: after a held-up read no burst of copies follows
                        due_s[kind] = max(due_s[kind] + self._periods_s[kind], time.monotonic())
                self._over.wait(max(0.0, min(due_s.values()) - time.monotonic()))
        except OSError as error:
            self.problem = f"{self._path.name}: {error.strerror}"

    def _write(self, kind: str, content: Mapping[str, object]) -> None:
        self._file.write(to_json({"kind": kind, "t_s": time.monotonic(), "unix_s": time.time(), **content}) + "\n")
