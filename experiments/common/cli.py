"""What every verb shares at its edge: exit codes, one clear line for a user's mistake, Ctrl-C and SIGTERM."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType

from baselines.refused import MachineRefused, SettingRefused
from engine.contract import ConfigError, UnsupportedEngine
from metrics.process import settle
from metrics.record import RecordError
from reports.commands import PAGE, here, typed

EXIT_OK = 0
EXIT_UNEXPECTED = 1
EXIT_USAGE = 2
EXIT_REGRESSION = 10
EXIT_UNSURE = 11
EXIT_ENVIRONMENT = 12
EXIT_NO_BASELINE = 13
EXIT_JOB_FAILED = 14
EXIT_INTERRUPTED = 130

SHOWN_CHARS = 200  # of a path
OUTPUTS = (1, 2)  # descriptors of stdout and stderr
# A path that somebody gave is of another kind than was asked for, or may not be read or written
WRONG_PATH = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EROFS)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Verb = Callable[[Sequence[str]], int]


def one_line(error: object) -> str:
    """The text of an error without line breaks."""
    return " ".join(str(error).split())


def complain(message: object) -> None:
    """One line on stderr; a command in it is one that works here."""
    print(f"error: {here(one_line(message))}", file=sys.stderr, flush=True)


@cache
def warn_once(message: str) -> None:
    """One line on stderr, the first time that a process says it."""
    print(f"warning: {one_line(message)}", file=sys.stderr, flush=True)


def note(message: object) -> None:
    """One line of progress on stderr, such as that another process holds the device."""
    print(one_line(message), file=sys.stderr, flush=True)


@contextmanager
def meanwhile(message: str) -> Iterator[None]:
    """Whoever sits at a terminal sees what takes seconds, for as long as it takes; elsewhere nothing is written."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # which a verb that only answers does without

    with Console(stderr=True).status(message):
        yield


def refused_limit(error: SettingRefused) -> ConfigError:
    """What the rules of `baselines` refuse, which know no engine."""
    return ConfigError(error.key, error.value, error.allowed, error.remedy)


def run_verb(verb: Verb, argv: Sequence[str] | None = None) -> int:
    """Call `verb` with the command line's arguments and turn a user's mistake into one line and its exit code.

    What is not listed here is a defect of the program: it keeps its traceback, and Python exits with 1.
    """
    before = signal.signal(signal.SIGTERM, _interrupt)
    words = sys.argv[1:] if argv is None else argv
    try:
        settle(words)
        return _flushed(verb(words))
    except MachineRefused as error:
        complain(error)
        return EXIT_ENVIRONMENT
    except (ConfigError, RecordError) as error:
        complain(error)
        return EXIT_USAGE
    except UnsupportedEngine as error:
        complain(error)
        return EXIT_JOB_FAILED
    except KeyboardInterrupt:
        complain("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        left = _without_reader()
        if not left:
            raise
        _discard(left)
        return EXIT_UNEXPECTED  # it had not come to its end, so nobody knows what it would have said
    except OSError as error:
        if error.errno in WRONG_PATH and error.filename is not None:
            complain(f"{str(error.filename)[:SHOWN_CHARS]}: {error.strerror}; give another path")
            return EXIT_USAGE
        return disk_full(error)
    finally:
        signal.signal(signal.SIGTERM, before)


def disk_full(error: OSError, folder: Path | None = None, go_on: str | None = None) -> int:
    """One line and its exit code where the disk is full; any other error is raised again. go_on: what then to type."""
    if error.errno not in DISK_FULL:
        raise error
    where = error.filename or folder
    complain(
        f"{'' if where is None else f'{where}: '}the disk is full; free some space and "
        f"{'run again' if go_on is None else f'go on with: {go_on}'}"
    )
    return EXIT_USAGE


def resume_command(verb: str, folder: Path) -> str:
    """What goes on with a sweep or a search, for a shell."""
    return typed(f"experiments.{verb}", f"resume={folder}")


def report_command(folder: Path) -> str:
    """What renders a folder again and prints its table, for a shell."""
    return here(typed("reports", folder, "--print"))


def report_place(folder: Path) -> str:
    """The page to open where there is one, else the command that makes it."""
    page = folder / PAGE
    return page.resolve().as_uri() if page.is_file() else report_command(folder)


def _flushed(code: int) -> int:
    """The verb's own code, also where the reader of its output (head, less) has left before the last line."""
    try:
        print(end="", flush=True)
    except BrokenPipeError:
        _discard(_without_reader())
    return code


def _without_reader() -> list[int]:
    """Which of stdout and stderr are pipes that nobody reads: any other broken pipe is a defect of the program."""
    poll = select.poll()
    for descriptor in OUTPUTS:
        poll.register(descriptor, 0)  # errors are reported unasked
    return [descriptor for descriptor, event in poll.poll(0) if event & select.POLLERR]


def _discard(descriptors: Sequence[int]) -> None:
    """The interpreter flushes once more at its end, and would exit with 120 where that fails."""
    for descriptor in descriptors:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM (a CI job that is cancelled) leaves by the same way as Ctrl-C."""
    raise KeyboardInterrupt


@contextmanager
def refuse_unwritable(key: str, folder: Path) -> Iterator[None]:
    """A folder that cannot be written is the user's mistake; a full disk is left to run_verb."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        raise ConfigError(
            key, folder, f"cannot be written ({error.strerror})", "choose a folder that you may write"
        ) from error
