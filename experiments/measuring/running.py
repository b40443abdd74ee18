"""What every verb that measures shares: its folder, its launcher, its progress, scoring and tracking of what it
left."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.common.cli import complain
from experiments.common.environment import CORES_OF_A_SCORER, usable_cores
from experiments.common.estimate import expected_s
from experiments.common.plain import Config
from experiments.common.processes import module_environment
from experiments.common.progress import Planned, expected_text
from experiments.measuring.job import Launcher
from experiments.measuring.measure import plan_for
from experiments.measuring.validate import planned_evals
from experiments.settings.compose import Cell
from experiments.workload.requests import load_workload
from reports.words import in_parts

LONGEST_NAME = 48  # of a folder that nobody named
WHERE_TRACKED = ("start ", "mlflow ")  # lines of experiments.tracking


def planned(cell: Cell) -> Planned:
    """What the progress bar counts, and how long it may take."""
    requests, num_evals = load_workload(cell.config).requests, planned_evals(cell.config)
    plan = plan_for(cell.config["measure"], num_evals)
    num_calls = plan.num_trials(len(requests)) + 1
    expected = expected_s(cell.config, requests, num_calls, num_evals)
    return Planned(
        label=cell.label, num_trials=num_calls, num_evals=num_evals, expected_s=expected,
        num_warm=num_calls - plan.rounds * len(requests),
    )  # fmt: skip


def takes(plans: Sequence[Planned]) -> str:
    """ "about 47 s", for whoever waits; "" where it is not known."""
    return expected_text(plans).partition(", ")[2].removesuffix(" here")


def default_out(name: str) -> Path:
    """outputs/DATE-TIME-NAME. Of a long name what is before the settings, and a part of the hash of the whole."""
    if len(name) > LONGEST_NAME:
        name = f"{in_parts(name)[0][:LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return Path("outputs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"


def make_launcher(
    lock: int | None, on_tick: Callable[[Path], None] | None, command: Sequence[str] | None = None
) -> Launcher:
    if command is None:
        return Launcher(lock=lock, on_tick=on_tick)
    return Launcher(lock=lock, on_tick=on_tick, command=tuple(command), machines=None)


def score(folder: Path, reference: Path | None, oracle: Path | None) -> bool:
    """Score a run in a process of its own; its result.json is rewritten. False, and one line, where that failed."""
    return finish_scoring(folder, start_scoring(folder, reference, oracle))


def scorers_at_once() -> int:
    """So many keep this machine's cores busy."""
    return max(1, usable_cores() // CORES_OF_A_SCORER)


# glibc hands big arrays back to the kernel and faults them in again: a sixth of the scoring time
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}


def start_scoring(
    folder: Path, reference: Path | None, oracle: Path | None, held: Sequence[int] = ()
) -> subprocess.Popen[str]:
    """held: device locks that the process inherits, so that nobody measures, or writes here, before it has ended."""
    command = [sys.executable, "-m", "experiments.scoring.score", str(folder)]
    for name, other in (("--reference", reference), ("--oracle", oracle)):
        if other is not None:
            command += [name, str(other)]
    # One thread each: several scorers run side by side
    environment = {**module_environment(), "OMP_NUM_THREADS": "1", **KEEP_MEMORY}
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        encoding="utf-8", errors="replace", pass_fds=tuple(held),
    )  # fmt: skip


def finish_scoring(folder: Path, process: subprocess.Popen[str]) -> bool:
    output, _ = process.communicate()
    if process.returncode != 0:
        last = (output.strip().splitlines() or ["no output"])[-1]
        assert isinstance(process.args, list)
        again = shlex.join(["python", *map(str, process.args[1:])])
        complain(f"scoring {folder}: {last}; `{again}` does it again")
    return process.returncode == 0


def sync_tracking(config: Config, folder: Path) -> str:
    """Fill MLflow from the files. What fails there costs one line: the files are the record.

    Returns the lines that say where it is seen, each with its end; nothing where it is not.
    """
    if config["tracking"]["mode"] == "off":
        return ""
    command = [sys.executable, "-m", "experiments.tracking", "sync", str(folder)]
    done = subprocess.run(
        command, env=module_environment(), capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        print(f"tracking: {last}", file=sys.stderr, flush=True)
        return ""
    for line in done.stderr.splitlines():
        if line.startswith("note: the store "):
            print(f"tracking: {line.removeprefix('note: ')}", file=sys.stderr, flush=True)
    return "".join(f"{line}\n" for line in done.stdout.splitlines() if line.startswith(WHERE_TRACKED))
