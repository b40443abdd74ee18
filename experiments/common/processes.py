"""How processes of ours are started, watched and ended.

Whoever starts one blocks on a pipe that it holds open, and wakes twice a second only when somebody wants progress.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.paths import ROOT
from experiments.common.environment import num_threads
from experiments.common.plain import Config

TICK_S = 0.5
# No TF32 in any of NVIDIA's libraries, TensorRT inside ONNX Runtime included, which has no option against it
FLOAT32 = {"NVIDIA_TF32_OVERRIDE": "0"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessSpec:
    """command: its stdin tells it by its end that whoever started it is gone. log: what it prints. lock: a descriptor
    that it inherits. end_after_s: its time limit. on_tick: called twice a second meanwhile."""

    command: Sequence[str]
    environment: dict[str, str]
    log: Path
    end_after_s: float
    lock: int | None = None
    on_tick: Callable[[], None] | None = None


def run_watched(spec: ProcessSpec) -> int | None:
    """Exit code (negative: the signal), None when the time limit ended it. Ctrl-C ends it first."""
    alive, held = os.pipe()
    descriptors = (held,) if spec.lock is None else (held, spec.lock)
    with spec.log.open("wb") as log:
        process = subprocess.Popen(
            spec.command,
            stdin=subprocess.PIPE,  # never written to: its end tells the worker that the coordinator is gone
            stdout=log,
            stderr=subprocess.STDOUT,
            env=spec.environment,
            start_new_session=True,
            pass_fds=descriptors,
        )
    os.close(held)
    try:
        return process.wait() if _wait(alive, time.monotonic() + spec.end_after_s, spec.on_tick) else None
    finally:
        os.close(alive)
        _end(process)


def module_environment() -> dict[str, str]:
    """The caller's environment in which `python -m` finds our packages from any directory."""
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": path}


def worker_environment(config: Config) -> dict[str, str]:
    """The caller's environment without what would leak into a measurement; the thread count for every library."""
    dropped = ("MLFLOW_", "HYDRA_", "OMP_", "MKL_", "OPENBLAS_", "GOMP_", "KMP_")
    kept = {name: value for name, value in module_environment().items() if not name.startswith(dropped)}
    threads = str(num_threads(config["device"]))
    return {**kept, **FLOAT32, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}


def _wait(alive: int, deadline_s: float, on_tick: Callable[[], None] | None) -> bool:
    """Until the worker closes its end of the pipe by ending (True) or the deadline passes (False)."""
    while True:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            return False
        ready, _, _ = select.select([alive], [], [], min(left_s, TICK_S) if on_tick else left_s)
        if ready:
            return True
        if on_tick is not None:
            on_tick()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the worker and what it started. Everything measured is on the disk already, so nothing is asked of it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    if process.stdin is not None:
        process.stdin.close()
