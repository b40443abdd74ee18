"""What a sweep costs beyond its workers: `python -m experiments.checks.sweep_cost --cells 200`.

Everything of the command is counted (composing, validating, keys, ledger, starting processes, the report) except the
time in which a worker of its own ran. Scoring, a process per cell like the workers, is left out: the stub has no audio.
Ends with 1 where a cell costs more than 150 ms or a hundred of them more than 4 MiB.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.contract import ConfigError
from experiments.common.cli import run_verb
from experiments.measuring import job
from experiments.settings.compose import compose_cells
from experiments.sweep import running as sweeping
from reports.commands import VerbParser

STUB = (sys.executable, "-m", "tests.stub_worker")
MOST_S_PER_CELL = 0.150
MOST_MIB_PER_CELL = 0.04
SETTINGS = ("workload=smoke", "quality.enabled=false", "tracking=none")


@dataclass
class Cost:
    """Seconds by part; resident bytes of the sweep after each cell."""

    worker_s: list[float] = field(default_factory=list)
    resident_bytes: list[int] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        num_cells = len(self.worker_s)
        early = self.resident_bytes[min(20, num_cells) - 1]
        return {
            "num_cells": num_cells,
            "worker_s_per_cell": sum(self.worker_s) / num_cells,
            "harness_s_per_cell": sum(self.seconds.values()) / num_cells,
            "by_part_s_per_cell": {name: value / num_cells for name, value in self.seconds.items()},
            "own_cpu_s_per_cell": {name: value / num_cells for name, value in self.cpu_s.items()},
            "resident_mib_after_20_cells": early / 2**20,
            "resident_mib_at_the_end": self.resident_bytes[-1] / 2**20,
        }


def is_over(summary: dict[str, Any]) -> bool:
    grown_mib = summary["resident_mib_at_the_end"] - summary["resident_mib_after_20_cells"]
    return summary["harness_s_per_cell"] > MOST_S_PER_CELL or grown_mib > MOST_MIB_PER_CELL * summary["num_cells"]


def measure(num_cells: int, out: Path) -> Cost:
    cost = Cost()
    run_worker = job._run_worker

    def timed(spec: job.JobSpec, launcher: job.Launcher, end_after_s: float) -> int | None:
        before_s = time.perf_counter()
        code = run_worker(spec, launcher, end_after_s)
        cost.worker_s.append(time.perf_counter() - before_s)
        cost.resident_bytes.append(
            int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * os.sysconf("SC_PAGESIZE")
        )
        return code

    score = sweeping._score_all
    job._run_worker = timed
    sweeping._score_all = lambda *given: 0
    try:
        for name, step in _steps(num_cells, out):
            before_s, workers_s, cpu_s = time.perf_counter(), sum(cost.worker_s), time.process_time()
            step()
            cost.cpu_s[name] = time.process_time() - cpu_s
            cost.seconds[name] = time.perf_counter() - before_s - (sum(cost.worker_s) - workers_s)
    finally:
        job._run_worker, sweeping._score_all = run_worker, score
    return cost


def _steps(num_cells: int, out: Path) -> Any:
    made: list[Any] = []
    overrides = [*SETTINGS, "engine=fp32,bf16", f"seed=range(0,{num_cells // 2})", f"out={out}"]
    yield "compose", lambda: made.append(compose_cells(overrides))
    yield "prepare", lambda: made.append(sweeping.new_sweep(made[0]))

    def run() -> None:
        made[1].command = STUB
        assert sweeping.run_sweep(made[1]) == 0

    yield "run", run


def main(argv: Sequence[str]) -> int:
    parser = VerbParser(prog="python -m experiments.checks.sweep_cost", description=__doc__)
    parser.add_argument("--cells", type=int, default=200)
    options = parser.parse_args(argv)
    if options.cells < 1:
        raise ConfigError("--cells", options.cells, "must be a whole number from 1", "use --cells 200")
    with tempfile.TemporaryDirectory(prefix="f5bench-cost-") as folder:
        os.environ["F5BENCH_STATE_DIR"] = folder
        cost = measure(options.cells, Path(folder) / "out")
    summary = cost.summary()
    print(json.dumps(summary, indent=1))
    return int(is_over(summary))


if __name__ == "__main__":
    sys.exit(run_verb(main))
