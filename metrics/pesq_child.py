"""Both ends of one pipe: wide-band PESQ in a child process, because its C code can crash the process that it runs in.

The parent (`pesq_many`) writes a pair of signals to a file and its name to the child's stdin; the child
(`python -m metrics.pesq_child`) answers each name with one line of JSON. One child serves many pairs; a crash or a
timeout costs the pair that was asked for, and the next pair gets a new child.

PESQ: ITU-T P.862.2. The package `pesq` carries the ITU's licence notice (evaluation only), so it is optional.
"""

from __future__ import annotations

import json
import math
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metrics.record import ScoreStatus

SAMPLE_RATE_HZ = 16_000
START_TIMEOUT_S = 60.0
RANGE = (1.0, 4.65)  # P.862.2 maps to 1.04..4.644; codes such as -7 lie outside
REMEDY = "pip install pesq (extra `quality`; needs a C compiler)"

_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """A number with status ok, or None with the status and the reason why there is none."""

    value: float | None
    status: ScoreStatus
    reason: str | None

    @staticmethod
    def ok(value: float) -> Outcome:
        return Outcome(value=value, status="ok", reason=None)

    @staticmethod
    def none(status: ScoreStatus, reason: str) -> Outcome:
        return Outcome(value=None, status=status, reason=reason)


class _NoAnswer(Exception):
    """The child is gone or was ended; the message is the reason for the record."""


def pesq_many(pairs: Sequence[tuple[np.ndarray, np.ndarray]], timeout_s: float) -> list[Outcome]:
    """One outcome per pair, in order. A pair is (reference_S, degraded_S): equal length, float32, 16 kHz, finite.

    timeout_s: for each pair, start of the child excluded. No limit on the length is applied here: PESQ is made for
    20 s at most and longer signals may crash it (metrics.fidelity refuses them). Raises ValueError on unequal lengths.
    """
    outcomes: list[Outcome] = []
    child: _Child | None = None
    with tempfile.TemporaryDirectory(prefix="pesq-") as folder:
        try:
            for reference_S, degraded_S in pairs:
                if reference_S.shape != degraded_S.shape or reference_S.ndim != 1:
                    raise ValueError(f"not a pair: shapes {reference_S.shape} and {degraded_S.shape}")
                if child is None or not child.is_alive():
                    if child is not None:
                        child.end()
                    child = _Child(Path(folder))
                    refusal = child.refusal()
                    if refusal is not None:  # it would not start for the pairs that are left either
                        return outcomes + [refusal] * (len(pairs) - len(outcomes))
                outcomes.append(child.score(np.stack([reference_S, degraded_S]).astype(np.float32), timeout_s))
        finally:
            if child is not None:
                child.end()
    return outcomes


class _Child:
    """One process and its pipe, seen from the parent."""

    def __init__(self, folder: Path):
        self._pair_path = folder / "pair.npy"
        self._log_path = folder / "stderr.txt"
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "metrics.pesq_child"],
                cwd=_ROOT,
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

    def refusal(self) -> Outcome | None:
        """Wait until the child can score; what it says where it cannot."""
        try:
            greeting = _outcome(self._read_line(START_TIMEOUT_S))
        except _NoAnswer as error:
            return Outcome.none("error", f"the PESQ process did not start: {error}")
        return None if greeting.status == "ok" else greeting

    def score(self, pair_2S: np.ndarray, timeout_s: float) -> Outcome:
        np.save(self._pair_path, pair_2S)
        try:
            self._stdin.write(f"{self._pair_path}\n".encode())
            return _outcome(self._read_line(timeout_s))
        except BrokenPipeError:
            return Outcome.none("error", f"PESQ {self._death()}")
        except _NoAnswer as error:
            return Outcome.none("error", f"PESQ {error}")

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._stdin.close()
        self._stdout.close()

    def _read_line(self, timeout_s: float) -> bytes:
        deadline = time.monotonic() + timeout_s
        line = b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([self._stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                self._process.kill()
                self._process.wait()
                raise _NoAnswer(f"timed out after {timeout_s:g} s")
            received = os.read(self._stdout.fileno(), 4096)
            if not received:
                raise _NoAnswer(self._death())
            line += received
        return line

    def _death(self) -> str:
        code = self._process.wait()
        if code < 0:
            return f"crashed (signal {-code})"
        last_words = self._log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        return ": ".join([f"ended with exit code {code}", *last_words])


def _outcome(line: bytes) -> Outcome:
    return Outcome(**json.loads(line))


def _serve() -> None:
    """The child's loop. Its stdout belongs to the answers: what the C code prints goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # its crashes are expected and leave no core files
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent ends the child

    def say(outcome: Outcome) -> None:
        print(
            json.dumps({"value": outcome.value, "status": outcome.status, "reason": outcome.reason}),
            file=answers,
            flush=True,
        )

    try:
        import pesq
    except ImportError as error:
        say(Outcome.none("unavailable", f"package pesq is missing ({error}); {REMEDY}"))
        return
    say(Outcome.ok(RANGE[1]))  # the greeting; only its status is read
    for line in sys.stdin:
        reference_S, degraded_S = np.load(line.rstrip("\n"), allow_pickle=False)
        say(_score(pesq, reference_S, degraded_S))


def _score(pesq: Any, reference_S: np.ndarray, degraded_S: np.ndarray) -> Outcome:
    try:
        value = float(pesq.pesq(SAMPLE_RATE_HZ, reference_S, degraded_S, "wb"))
    except (pesq.PesqError, ValueError) as error:  # ValueError: what a silent degraded signal comes out as
        said = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        return Outcome.none("error", f"PESQ refused the pair: {said}")
    if not math.isfinite(value) or not RANGE[0] <= value <= RANGE[1]:
        return Outcome.none("error", f"PESQ returned {value}, which is not a score")
    return Outcome.ok(value)


if __name__ == "__main__":
    _serve()
