"""What every verb shares at its edge: exit codes, one clear line for a user's mistake, Ctrl-C and SIGTERM."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from engine.contract import ConfigError, UnsupportedEngine
from metrics.record import RecordError

EXIT_OK = 0
EXIT_UNEXPECTED = 1
EXIT_USAGE = 2
EXIT_REGRESSION = 10
EXIT_UNSURE = 11
EXIT_ENVIRONMENT = 12
EXIT_NO_BASELINE = 13
EXIT_JOB_FAILED = 14
EXIT_INTERRUPTED = 130

OUTPUTS = (1, 2)  # descriptors of stdout and stderr
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Verb = Callable[[Sequence[str]], int]


def one_line(error: object) -> str:
    """The text of an error without line breaks."""
    return " ".join(str(error).split())


def complain(message: object) -> None:
    """One line on stderr."""
    print(f"error: {one_line(message)}", file=sys.stderr, flush=True)


def note(message: object) -> None:
    """One line of progress on stderr, such as that another process holds the device."""
    print(one_line(message), file=sys.stderr, flush=True)


def refused_limit(error: ValueError) -> ConfigError:
    """What the rules of `baselines` refuse, which know no engine: their text is `KEY=VALUE: ALLOWED; REMEDY`."""
    key, _, rest = str(error).partition("=")
    value, _, reason = rest.partition(": ")
    allowed, _, remedy = reason.partition("; ")
    return ConfigError(key, value, allowed, remedy)


def run_verb(verb: Verb, argv: Sequence[str] | None = None) -> int:
    """Call `verb` with the command line's arguments and turn a user's mistake into one line and its exit code.

    What is not listed here is a defect of the program: it keeps its traceback, and Python exits with 1.
    """
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _flushed(verb(sys.argv[1:] if argv is None else argv))
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
        if error.errno not in DISK_FULL:
            raise
        complain(f"out={error.filename or '?'}: the disk is full; free some space and run again with resume=DIR")
        return EXIT_USAGE
    finally:
        signal.signal(signal.SIGTERM, before)


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
