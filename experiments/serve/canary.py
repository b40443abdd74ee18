"""One sentence that a service says again every so many minutes, held against what it said at first.

The request waits in the line as any other, with the same text, seed and noise each time, so an engine that has not
changed says the same samples. What differs is measured on the mel before the vocoder; nothing is computed while it is
the same. The reference is kept in a file (`serve.canary_reference`), or of the first answer of this process.
"""

from __future__ import annotations

import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from engine.contract import ConfigError, Synthesis, SynthesisRequest
from experiments.common.cli import note, one_line
from experiments.serve.service import Closed, QueueFull, Service

Found = Literal["identical", "different", "other_length", "failed", "skipped"]
FOUND: tuple[Found, ...] = ("identical", "different", "other_length", "failed", "skipped")
KEY = "serve.canary_reference"


class Canary:
    """A context manager: says its sentence at once, then every `every_s`. Told to /metrics by `collect`.

    reference: a file of numpy's (.npz), written by the first answer where there is none; None keeps it in memory.
    """

    def __init__(
        self, service: Service, request: SynthesisRequest, every_s: float, reference: Path | None,
        unix_s: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._service, self._request, self._every_s, self._path = service, request, every_s, reference
        self._kept = None if reference is None else load_reference(reference)
        self._unix_s = unix_s
        self._checks: dict[Found, int] = dict.fromkeys(FOUND, 0)
        self._error_nats: float | None = None
        self._checked_unix_s: float | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="canary", daemon=True)

    def check(self) -> Found:
        """Say the sentence and hold it against the reference; failed: the engine broke, skipped: the line was full.

        failed too where the reference cannot be written. Raises Closed when the service ends.
        """
        found = self._found()
        self._checks[found] += 1
        if found not in ("failed", "skipped"):
            self._checked_unix_s = self._unix_s()
        return found

    def _found(self) -> Found:
        try:
            answer = self._service.submit(self._request)
        except QueueFull:
            return "skipped"
        error = answer.exception()
        if isinstance(error, Closed):
            raise error
        if error is not None:
            note(f"the canary could not be spoken: {one_line(f'{type(error).__name__}: {error}')}")
            return "failed"
        synthesis = answer.result().synthesis
        if self._kept is None:
            self._kept = (synthesis.mel_ND, synthesis.audio_S)
            if self._path is not None and not self._is_written(self._path, synthesis):
                return "failed"
        mel_ND, audio_S = self._kept
        if np.array_equal(audio_S, synthesis.audio_S) and np.array_equal(mel_ND, synthesis.mel_ND):
            self._error_nats = 0.0
            return "identical"
        if mel_ND.shape != synthesis.mel_ND.shape:
            self._error_nats = None
            return "other_length"
        self._error_nats = float(np.mean(np.abs(synthesis.mel_ND - mel_ND)))
        return "different"

    def _is_written(self, path: Path, synthesis: Synthesis) -> bool:
        """Whether the reference is on the disk; where not, it is tried again at the next check."""
        try:
            save_reference(path, synthesis)
        except OSError as error:
            self._kept = None
            note(f"the canary's reference cannot be kept in {path}: {one_line(error)}")
            return False
        note(f"the canary's reference is kept in {path}")
        return True

    def collect(self) -> Iterator[Metric]:
        """For a registry of prometheus_client. What was not measured is absent."""
        checks = CounterMetricFamily("f5bench_canary_checks", "By what was found.", labels=["found"])
        for found, num in self._checks.items():
            checks.add_metric([found], num)
        yield checks
        for name, said, value in (
            ("error_nats", "Mean absolute difference of the log-mel from the reference's.", self._error_nats),
            ("last_check_timestamp_seconds", "When it was last heard.", self._checked_unix_s),
        ):
            gauge = GaugeMetricFamily(f"f5bench_canary_{name}", said)
            if value is not None:
                gauge.add_metric([], value)
            yield gauge

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self.check()
                self._over.wait(self._every_s)
        except Closed:
            return

    def __enter__(self) -> Canary:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()


def load_reference(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """(mel (N, D), audio (S,)), None where there is no such file yet. Raises ConfigError for another kind of file."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return content["mel_ND"], content["audio_S"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(KEY, path, f"is no reference of a canary ({one_line(error)})", "name a new file") from error


def save_reference(path: Path, synthesis: Synthesis) -> None:
    """Raises OSError."""
    with path.open("xb") as file:
        np.savez(file, mel_ND=synthesis.mel_ND, audio_S=synthesis.audio_S)
