"""Where built things are kept between runs: compiled kernels, plans, exported graphs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """A folder of `kind` below $F5BENCH_CACHE, else $XDG_CACHE_HOME/f5bench, else ~/.cache/f5bench; made if missing."""
    own, shared = os.environ.get("F5BENCH_CACHE"), os.environ.get("XDG_CACHE_HOME")
    root = Path(own) if own else Path(shared or "~/.cache").expanduser() / "f5bench"
    folder = root / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder
