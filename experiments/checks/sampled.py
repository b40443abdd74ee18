"""Calls with telemetry beside them and without, in turns: what reading the sensors costs the calls that are timed.

The sampler is a process of its own, as it is beside a worker, at the rate of a measured run. For every stretch without
it that process is stopped by a signal, so that nothing has to be started while calls are timed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.clock import Clock
from engine.contract import Engine, SynthesisRequest
from experiments.telemetry.watch import RUN_HZ
from metrics.stats import median_interval, quantile
from reports.commands import ROOT

STRETCH_S = 3.0  # at one sample a second, three of them
START_S = 60.0
BAR = 0.01
DAY_S = 86400
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Stretches:
    """Mean seconds of a call in two stretches of the same length, one with telemetry beside it and one without."""

    with_s: float
    without_s: float


Switch = Callable[[bool], None]


@dataclass(frozen=True, slots=True)
class Sampling:
    """A sampler's process, which a call stops (False) and lets go on (True)."""

    pid: int

    def __call__(self, runs: bool) -> None:
        os.kill(self.pid, signal.SIGCONT if runs else signal.SIGSTOP)


@contextmanager
def sampler(kind: str, path: Path) -> Iterator[Sampling]:
    """Telemetry into `path`, running. Raises RuntimeError where it does not begin."""
    device = "cpu" if kind == "cpu" else "cuda"
    words = ["watch", "--seconds", str(DAY_S), "--hz", f"{RUN_HZ:g}", "--device", device, "--out", str(path.resolve())]
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.telemetry", *words], cwd=ROOT, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        give_up_s = time.monotonic() + START_S
        while num_samples(path) == 0:
            if process.poll() is not None or time.monotonic() > give_up_s:
                raise RuntimeError("telemetry has not begun; `f5bench telemetry watch` says why")
            time.sleep(0.05)
        yield Sampling(process.pid)
    finally:
        process.kill()
        process.wait()


def num_samples(path: Path) -> int:
    """Of the board's state, which is read on every machine; 0 where there is no file yet."""
    return path.read_text(encoding="utf-8").count('"kind": "state"') if path.is_file() else 0


def measure_stretches(
    engine: Engine,
    request: SynthesisRequest,
    clock: Clock,
    num_pairs: int,
    switch: Switch,
    stretch_s: float = STRETCH_S,
) -> list[Stretches]:
    """num_pairs pairs of stretches in random order, after one call to warm up."""
    chance = random.Random(0)
    engine.synthesize([request])
    clock.sync()
    found = []
    for _ in range(num_pairs):
        mean_s: dict[bool, float] = {}
        for runs in chance.sample([True, False], 2):
            switch(runs)
            mean_s[runs] = _mean_call_s(engine, request, clock, stretch_s)
        found.append(Stretches(with_s=mean_s[True], without_s=mean_s[False]))
    return found


def _mean_call_s(engine: Engine, request: SynthesisRequest, clock: Clock, stretch_s: float) -> float:
    """Whole calls for stretch_s at least."""
    num, started_s = 0, time.perf_counter()
    while True:
        engine.synthesize([request])
        clock.sync()
        num += 1
        passed_s = time.perf_counter() - started_s
        if passed_s >= stretch_s:
            return passed_s / num


def report(stretches: Sequence[Stretches], samples: int) -> str:
    """Both means with the 95 % interval of the median, and their ratio pair by pair against the bar."""
    ratios = [one.with_s / one.without_s for one in stretches]
    return "\n".join([
        f"{len(stretches)} pairs of stretches of at least {STRETCH_S:g} s, {samples} samples read",
        f"call without telemetry {_line([one.without_s for one in stretches], 1e3, ' ms')}",
        f"call with telemetry    {_line([one.with_s for one in stretches], 1e3, ' ms')}",
        f"ratio                  {_line(ratios, 1.0, '')}, allowed is {1 + BAR:g}",
    ])  # fmt: skip


def _line(values: list[float], scale: float, unit: str) -> str:
    interval = median_interval(values, CONFIDENCE)
    median = f"{quantile(values, 0.5) * scale:.4f}{unit}"
    return median + (f" ({interval[0] * scale:.4f}..{interval[1] * scale:.4f})" if interval else " (too few pairs)")
