"""What a program of ours settles before anything else: output that any terminal takes, a user and a home to cache in.

A container runs programs under numbers that no passwd file knows, with no HOME, or with one that cannot be written.
Libraries then die where they look for the user's name or cache (torch's compiler, MLflow, numba), long after the start.
"""

from __future__ import annotations

import io
import os
import pwd
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from metrics.record import RecordError

USER_NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")  # in which Python looks for it
CACHE = "F5BENCH_CACHE"
# Where libraries keep things below the user's home unless they are told otherwise
CACHES = {"MPLCONFIGDIR": "matplotlib", "NUMBA_CACHE_DIR": "numba", "TRITON_CACHE_DIR": "triton"}


def settle(argv: Sequence[str] = ()) -> None:
    """Call it first. Raises RecordError for an argument whose bytes are no text."""
    accept_any_terminal()
    settle_home()
    for word in argv:
        if any("\ud800" <= char <= "\udfff" for char in word):
            raise RecordError(f"{word!a}: is not UTF-8; rename the file, or set LC_ALL=C.UTF-8")


def accept_any_terminal() -> None:
    """Letters that a terminal lacks are printed as backslash escapes, so that no table or message dies of one."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def settle_home() -> None:
    """Name and home where there is none, and caches where the home cannot be written; processes started later inherit
    them. What was set is left alone."""
    if _passwd() is None and not any(os.environ.get(name) for name in USER_NAMES):
        os.environ["USER"] = f"uid{os.getuid()}"
    home = os.environ.get("HOME") or _passwd()
    if home is not None and os.access(home, os.W_OK | os.X_OK):
        return
    own = private_folder()
    if home is None:
        os.environ["HOME"] = str(own)
    for name, folder in CACHES.items():
        os.environ.setdefault(name, str(own / folder))
    if not os.environ.get("XDG_CACHE_HOME"):
        os.environ.setdefault(CACHE, str(own / "f5bench"))


def private_folder() -> Path:
    """A folder of this user's alone below the temporary one, the same for every process of theirs."""
    folder = Path(tempfile.gettempdir()) / f"f5bench-home-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="f5bench-home-"))
    is_own = folder.stat().st_uid == os.getuid() and not folder.is_symlink()
    return folder if is_own else Path(tempfile.mkdtemp(prefix="f5bench-home-"))


def _passwd() -> str | None:
    """The home that the passwd file names."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return None
