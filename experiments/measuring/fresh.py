"""A run in a process of its own, as the verbs that keep and judge runs need it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.common.cli import EXIT_JOB_FAILED
from experiments.common.processes import module_environment
from experiments.common.quoting import hydra_value

GIVE_UP_WAITING_S = 30.0  # a run that was told to stop ends its worker and writes its record first


def fresh_run(overrides: Sequence[str], out: Path) -> int:
    """`python -m experiments.run` in a process of its own; its table goes to stderr.

    Returns its exit code, and that of a failed job where a signal ended it.
    """
    return fresh_verb("experiments.run", [text for text in overrides if not text.startswith("out=")], out)


def fresh_verb(module: str, words: Sequence[str], out: Path) -> int:
    """`python -m MODULE WORDS out=OUT` in a process of its own, likewise."""
    command = [sys.executable, "-m", module, *words, f"out={hydra_value(str(out))}"]
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
