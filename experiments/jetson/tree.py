"""Small files of the kernel, below a root that tests replace: a value, or the reason why there is none.

Some of them fail in ways of their own: a gated sensor says EAGAIN, a missing chip EIO, and what is not for this user
EACCES. None of that is a number, and none of it ends a measurement. Numbers of hwmon folders change at every boot, and
the folders are links: they are found by `glob`, never by a walk.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

PART_BYTES = 65536
KILL_WAIT_S = 0.1


class NoValue(Exception):
    """Its text is the reason, in one line, with the file or program that it is about."""


def read_once(path: Path) -> bytes:
    """The whole file without a buffer in between: a buffered read of a file that says EAGAIN raises TypeError."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(handle, PART_BYTES):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Tree:
    """Names of files are relative to `root` and stand in reasons with a slash in front, as on the machine itself."""

    root: Path = Path("/")
    read: Callable[[Path], bytes] = read_once

    def text(self, name: str) -> str:
        """Without the white space and zero bytes around it. Raises NoValue."""
        try:
            content = self.read(self.root / name)
        except (OSError, TypeError) as error:
            raise NoValue(f"/{name}: {_reason(error)}") from error
        return content.decode("utf-8", errors="replace").strip("\0 \t\r\n")

    def number(self, name: str) -> int:
        """Raises NoValue, also for a file that holds something else."""
        said = self.text(name)
        if not re.fullmatch(r"[+-]?\d{1,18}", said):
            raise NoValue(f"/{name}: says {said[:40]!r}, which is no whole number")
        return int(said)

    def text_or_none(self, name: str) -> str | None:
        """For what is one of many, and whose absence says nothing."""
        try:
            return self.text(name)
        except NoValue:
            return None

    def number_or_none(self, name: str) -> int | None:
        try:
            return self.number(name)
        except NoValue:
            return None

    def has_file(self, name: str) -> bool:
        return os.path.isfile(self.root / name)

    def names(self, pattern: str) -> list[str]:
        """Of everything that matches, hwmon2 before hwmon10."""
        found = [path.relative_to(self.root).as_posix() for path in self.root.glob(pattern)]
        return sorted(found, key=_by_number)


def _by_number(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _reason(error: OSError | TypeError) -> str:
    if isinstance(error, FileNotFoundError):
        return "is not there"
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read ({errno.errorcode.get(error.errno, error.errno)})"
    return f"cannot be read ({' '.join(str(error).split())})"


def answer_of(command: Sequence[str], patience_s: float) -> str:
    """What a program prints. Raises NoValue where it fails or has no answer in time: then it is killed and left behind.

    Not `subprocess.run`: after its timeout that waits for a process which a driver may hold for ever.
    """
    shown = " ".join([os.path.basename(command[0]), *command[1:]])
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise NoValue(f"{shown}: {_reason(error)}") from error
    try:
        output, _ = process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        raise NoValue(f"{shown}: no answer within {patience_s:g} s") from None
    finally:
        _end(process)
    if process.returncode != 0:
        raise NoValue(f"{shown}: ended with exit code {process.returncode}")
    return output.decode("utf-8", errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """With what it started, which may hold the pipe open."""
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=KILL_WAIT_S)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass
    if process.stdout is not None:
        process.stdout.close()
