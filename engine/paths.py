"""Where a relative path starts: in the working directory; where nothing of that name is there, at the repository."""

from __future__ import annotations

import os
from pathlib import Path

from engine.contract import ConfigError

ROOT = Path(__file__).resolve().parent.parent


def find_file(spec: str | Path) -> Path:
    """A path that a setting names: absolute, `~`, of the working directory, else of the repository (bundled files)."""
    if "\0" in str(spec):
        raise ConfigError("path", repr(spec), "holds a zero byte", "write the path of a file")
    path = with_home(spec)
    return path if os.path.exists(path) or path.is_absolute() else ROOT / path  # of a name too long it says no


def missing(spec: str | Path) -> str:
    """What to say of a path of `find_file` where nothing is: that, and where it was looked for."""
    if with_home(spec).is_absolute():
        return "no such file"
    return f"no such file, looked for in {Path.cwd()} and in the repository"


def with_home(spec: str | Path) -> Path:
    """`~` spelt out; left as it is where nobody knows the user's home."""
    path = Path(spec)
    try:
        return path.expanduser()
    except RuntimeError:  # no HOME, and no passwd entry
        return path
