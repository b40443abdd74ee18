"""One measurement at a time on a device: a file lock per device, held for as long as anything is timed there.

The kernel releases it when the holder dies, and the worker inherits it, so a coordinator that is killed does not open
the device to the next one while its worker is still running.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from engine.contract import ConfigError

Mode = Literal["wait", "refuse"]
SHOWN_CHARS = 80  # of its command line
FOLDER_LOCK = ".sweep.lock"
PATIENCE_S = 3.0


def lock_folder() -> Path:
    """Per user, on this machine; F5BENCH_STATE_DIR moves it (users who share a device should share the folder)."""
    chosen = os.environ.get("F5BENCH_STATE_DIR")
    return Path(chosen) if chosen else Path(tempfile.gettempdir()) / f"f5bench-locks-{os.getuid()}"


def device_name(kind: str) -> str:
    """One name per device: "cuda" is the first GPU, and torch counts those that CUDA_VISIBLE_DEVICES names by number.

    Names of another kind (GPU-8f2a, MIG) cannot be told from numbers here: all of them share the number's lock.
    """
    name = "cuda:0" if kind.lower() == "cuda" else kind.lower()
    visible = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    number = name.removeprefix("cuda:")
    if number == name or not all(part.isdigit() for part in [number, *visible]) or int(number) >= len(visible):
        return name
    return f"cuda:{int(visible[int(number)])}"


@contextmanager
def device_lock(device: str, mode: Mode, say: Callable[[str], None], takes: str = "") -> Iterator[int]:
    """Hold the lock of `device` ("cpu", "cuda:0"); yields its file descriptor, for the worker to inherit.

    A held lock: `say` gets one line naming the holder, then this waits, or raises ConfigError with mode "refuse".
    takes: "about 3 min", told to whoever waits for this one.
    """
    folder = lock_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{re.sub(r'[^a-z0-9]+', '-', device_name(device))}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _acquire(descriptor, device, mode, say)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _holder(takes).encode(errors="replace"), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _holder(takes: str) -> str:
    """Who holds it, since when and for how long, as the next one in line is told."""
    words = " ".join(shlex.join(sys.orig_argv[1:]).split())
    said = f"{words[:SHOWN_CHARS]}{'...' * (len(words) > SHOWN_CHARS)}, in {Path.cwd()}"
    return f"process {os.getpid()} ({said}; since {time.strftime('%H:%M:%S')}{takes and f', {takes} in all'})"


def _acquire(descriptor: int, device: str, mode: Mode, say: Callable[[str], None]) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 4096, 0).decode(errors="replace") or "another process"
        if mode == "refuse":
            raise ConfigError(
                "device.kind", device, f"{holder} is measuring on it", "wait for it to end, or set sweep.lock=wait"
            ) from None
        say(f"{device}: {holder} is measuring on it; waiting (Ctrl-C to leave)")
        fcntl.flock(descriptor, fcntl.LOCK_EX)


@contextmanager
def folder_lock(folder: Path, key: str = "resume", what: str = "sweep") -> Iterator[None]:
    """Two processes that go on with one sweep would each measure its cells; the second is refused by ConfigError.

    A sweep killed while it starts a worker leaves a child that holds its descriptors until it has become another
    program; that takes a moment, so the first refusal is not believed.
    """
    descriptor = os.open(folder / FOLDER_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        until_s = time.monotonic() + PATIENCE_S
        while not _is_taken(descriptor):
            if time.monotonic() >= until_s:
                raise ConfigError(key, folder, f"another process is working on this {what}", "wait for it to end")
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _is_taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
