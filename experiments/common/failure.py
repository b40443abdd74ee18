"""Why a cell failed, as one of a few kinds, so that a policy can say which are worth another attempt."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

# exception: the engine raised. out_of_memory: it could not get memory, or the kernel ended it for that. killed: ended
# from outside. crash: ended by itself without a word (a fault, an abort, an exit). hang: over its time limit.
# config: a setting that only the build could see; asking again cannot help.
FailureKind = Literal["exception", "out_of_memory", "killed", "crash", "hang", "config"]

FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
FIRST_REAL_TIME = 32  # the C library keeps some for itself below SIGRTMIN; no fault raises any of them
CONFIG_ERRORS = ("ConfigError", "InvalidRequest")
MEMORY_ERRORS = ("MemoryError", "OutOfMemoryError")
# From nvml on they are a Jetson's: torch's allocator asks NVML for its text, which a Jetson lacks (pytorch issue
# 185240); the driver's own allocator; the driver's code by its name; libraries that find no workspace (cuBLAS, cuFFT,
# cuDNN 8 and 9); TensorRT and ONNX Runtime in their own words
MEMORY_WORDS = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "bad_alloc",
    "unable to allocate", "nvml_success == r", "nvmapmemalloc", "nvmapmemhandlealloc", "out_of_memory",
    "_alloc_failed", "_allocation_failed", "cudaerrormemoryallocation", "failed to allocate memory",
    "requested amount of gpu memory", "outofmemory", "smaller than requested bytes",
)  # fmt: skip
LOG_TAIL_LINES = 5
LOG_TAIL_CHARS = 600
CGROUP_EVENTS = Path("/sys/fs/cgroup/memory.events")


def kind_of_error(error: str, message: str) -> FailureKind:
    """Of an exception that the worker itself reported: its class name and its text."""
    if error in CONFIG_ERRORS:
        return "config"
    if error == "OutOfTime":
        return "hang"
    if error in MEMORY_ERRORS or any(word in message.lower() for word in MEMORY_WORDS):
        return "out_of_memory"
    return "exception"


def kind_of_exit(exit_code: int | None, num_oom_kills: int, log_tail: str) -> FailureKind:
    """Of a worker that left no record. exit_code: negative is a signal, None: ended at its time limit.

    num_oom_kills: how many processes the kernel ended for want of memory meanwhile.
    """
    if exit_code is None:
        return "hang"
    if exit_code == -signal.SIGKILL and num_oom_kills:
        return "out_of_memory"
    if any(word in log_tail.lower() for word in MEMORY_WORDS):
        return "out_of_memory"
    return "killed" if -exit_code in FROM_OUTSIDE or -exit_code >= FIRST_REAL_TIME else "crash"


def signal_name(number: int) -> str:
    """SIGKILL; "signal 40" for one that has no name, as most real-time signals."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def by_signal(number: int) -> str:
    """signal 9 (SIGKILL); signal 40."""
    name, plain = signal_name(number), f"signal {number}"
    return plain if name == plain else f"{plain} ({name})"


def oom_kills(events: Path = CGROUP_EVENTS) -> int:
    """How often the kernel has ended a process of this control group for want of memory; 0 where nobody counts."""
    try:
        counters = dict(line.split() for line in events.read_text(encoding="ascii").splitlines())
        return int(counters.get("oom_kill", 0))
    except (OSError, ValueError):
        return 0


def log_tail(path: Path) -> tuple[str, ...]:
    """The last lines of a log, at most LOG_TAIL_CHARS of them."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_TAIL_CHARS))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ()
    return tuple(line.rstrip() for line in text.splitlines() if line.strip())[-LOG_TAIL_LINES:]


def allowed_retries(sweep: Mapping[str, object], kind: FailureKind | None) -> int:
    """How many attempts beyond the first `sweep.retries` grants to a kind of failure."""
    retries = sweep["retries"]
    assert isinstance(retries, Mapping)
    return 0 if kind is None or kind == "config" else int(retries[kind])
