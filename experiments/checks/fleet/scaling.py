"""Whether several machines do a sweep's cells side by side: `python -m experiments.checks.fleet.scaling --cells 200`.

Ray nodes on this machine measure cells that wait a fixed time and leave a small record: what scales, or does not, is
the harness, not this machine's cores. One node measures a few of the cells, then all of them the whole; the times
are from the first start of a cell to the end of the last one, without what a sweep composes, scores and reports. Ends
with 1 where the cells are not all there once, or where all nodes are not --least times as fast, cell by cell, as one.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.contract import ConfigError
from experiments.checks.fleet.local import LocalFleet
from experiments.common.cli import run_verb
from experiments.common.plain import Config
from experiments.sweep import fleet
from experiments.sweep.dispatch import Table
from experiments.sweep.hosts import Fleet
from metrics.record import load_record
from reports.commands import VerbParser

STUB = (sys.executable, "-m", "tests.stub_worker")
SETTINGS = ("workload=smoke", "quality.enabled=false", "tracking=none", "launcher=ray")
WAIT = "STUB_WAIT_S"
LEAST = 2.5
ALONE = 20  # cells that tell what one node takes for each


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """By so many nodes. cell_s: of a node's time, what each cell took beyond its wait."""

    num_nodes: int
    num_cells: int
    wall_s: float
    cell_s: float
    load_1min: float


def taken(folder: Path, num_nodes: int, num_cells: int, wait_s: float) -> Taken:
    """A sweep of so many cells by so many equal nodes. Raises AssertionError where a cell is missing or doubled."""
    one_core = {min(os.sched_getaffinity(0))}
    spans: list[float] = []
    dispatched = fleet.dispatched

    def timed(tables: Sequence[Table], fleet: Fleet, config: Config) -> None:
        before_s = time.perf_counter()
        dispatched(tables, fleet, config)
        spans.append(time.perf_counter() - before_s)

    with LocalFleet(folder / "machines", {WAIT: str(wait_s)}) as machines:
        for number in range(num_nodes):
            machines.add(f"node-{number}", one_core)
        os.environ.update(RAY_ADDRESS=machines.address, F5BENCH_CACHE=str(folder / "cache"))
        fleet.dispatched = timed
        try:
            words = [*SETTINGS, "engine=fp32", f"seed=range(0,{num_cells})", f"out={folder / 'out'}"]
            assert fleet.run_fleet(words, STUB) == 0
        finally:
            fleet.dispatched = dispatched
    records = [load_record(path) for path in (folder / "out").glob("*/cells/*/result.json")]
    assert len({record.run_id for record in records}) == num_cells, f"{len(records)} records of {num_cells} cells"
    (wall_s,) = spans
    return Taken(
        num_nodes=num_nodes, num_cells=num_cells, wall_s=round(wall_s, 2),
        cell_s=round(wall_s * num_nodes / num_cells - wait_s, 3), load_1min=round(os.getloadavg()[0], 1),
    )  # fmt: skip


def main(argv: Sequence[str]) -> int:
    parser = VerbParser(prog="python -m experiments.checks.fleet.scaling", description=__doc__)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--wait-s", type=float, default=3.0, help="that every cell waits, without a processor")
    parser.add_argument("--least", type=float, default=LEAST, help="times as fast as one node that all of them must be")
    options = parser.parse_args(argv)
    for name, least in (("cells", 1), ("nodes", 2)):
        if getattr(options, name) < least:
            raise ConfigError(f"--{name}", getattr(options, name), f"must be a whole number from {least}", "see --help")
    fleet.report = lambda folder: True  # the tables are not what is measured here
    fleet.scored = lambda tables: 0  # the stub has no audio
    found = []
    for num_nodes in (1, options.nodes):
        with tempfile.TemporaryDirectory(prefix="f5bench-scaling-") as folder:
            os.environ["F5BENCH_STATE_DIR"] = folder
            num_cells = options.cells if num_nodes > 1 else min(ALONE, options.cells)
            found.append(taken(Path(folder), num_nodes, num_cells, options.wait_s))
        print(json.dumps(asdict(found[-1])), file=sys.stderr)
    one, many = found
    times = (one.wall_s / one.num_cells) / (many.wall_s / many.num_cells)
    print(json.dumps({"runs": [asdict(each) for each in found], "times_as_fast": round(times, 2)}, indent=1))
    return int(times < options.least)


if __name__ == "__main__":
    sys.exit(run_verb(main))
