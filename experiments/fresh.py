"""A run in a process of its own, as the verbs that keep and judge runs need it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.cli import EXIT_JOB_FAILED
from experiments.job import module_environment
from metrics.record import to_json

GIVE_UP_WAITING_S = 30.0  # a run that was told to stop ends its worker and writes its record first


def fresh_run(overrides: Sequence[str], out: Path) -> int:
    """`python -m experiments.run` in a process of its own; its table goes to stderr.

    Returns its exit code, and that of a failed job where a signal ended it.
    """
    kept = [text for text in overrides if not text.startswith("out=")]
    command = [sys.executable, "-m", "experiments.run", *kept, f"out={hydra_value(str(out))}"]
    process = subprocess.Popen(command, env=module_environment(), stdout=2)
    try:
        code = process.wait()
        return code if code >= 0 else EXIT_JOB_FAILED
    except BaseException:
        # Ctrl-C in a terminal has reached the run as well; a signal sent to this process alone has not
        try:
            process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait(timeout=GIVE_UP_WAITING_S)
        raise


def hydra_value(value: Any) -> str:
    """A value in the grammar of Hydra's overrides, so that it comes back with its type."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{hydra_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(hydra_value(item) for item in value) + "]"
    if value is None or isinstance(value, (bool, int, float)):
        return to_json(value)
    # A backslash means something before a quote only; there, and at the end, it is doubled
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', str(value))
    escaped = re.sub(r"(\\*)\$\{", r"\1\1\\${", escaped)  # what would be looked up
    closing = len(escaped) - len(escaped.rstrip("\\"))
    return f'"{escaped}{closing * chr(92)}"'
