"""kill -9 at random moments on a fleet: `python -m experiments.checks.fleet.chaos --kills 30` prints what was lost.

Three Ray nodes of two host classes on this machine measure sweeps of a fake engine, and a worker, the relay that Ray
runs, a whole node, Ray's head or the sweep itself is killed at a random moment; nodes come back, a sweep that died or
lost its head goes on, with another head.
After every sweep its journals, records and ledgers are held against what had come back at each kill.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from engine.contract import ConfigError
from experiments.checks.fleet.local import LocalFleet
from experiments.common.cli import EXIT_ENVIRONMENT, EXIT_OK, EXIT_USAGE, run_verb
from experiments.common.journal import JOURNAL
from experiments.sweep import fleet
from experiments.sweep.hosts import is_fleet_folder
from metrics.record import load_record
from reports.commands import VerbParser

FAKE = (sys.executable, "-m", "tests.fakes")
SETTINGS = (
    "workload=smoke", "measure.rounds=4", "measure.warmup_rounds=0", "measure.calibration=none",
    "measure.gemm_peak=false", "quality.enabled=false", "tracking=none", "launcher=ray", "launcher.losses=50",
)  # fmt: skip
NUM_TRIALS = 8
TARGETS = ("worker", "relay", "node", "head", "sweep")
ENDS = ("head", "sweep")  # what the sweep does not outlive
PATIENCE_S = 600.0


@dataclass
class Tally:
    """What was done, and what went wrong: `problems` should be empty."""

    kills: Counter[str] = field(default_factory=Counter)
    num_sweeps: int = 0
    num_cells: int = 0
    num_trials_seen: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


class FleetChaos:
    """Sweeps below `folder` until there were so many kills. reach_s: they fall evenly into that long after each."""

    def __init__(self, folder: Path, seed: int, reach_s: float, cells: str, targets: Sequence[str] = TARGETS):
        self._folder, self._reach_s, self._cells, self._targets = folder, reach_s, cells, targets
        self._chance, self.tally = random.Random(seed), Tally()
        self._cores = {"one": {min(_all_cores())}, "two": {min(_all_cores())}, "big": _all_cores()}

    def run(self, num_kills: int) -> Tally:
        environment = {"FAKE_CALL_S": "0.1", "FAKE_AMP": ""}
        with LocalFleet(self._folder / "machines", environment) as self._fleet:
            for name, cores in self._cores.items():
                self._fleet.add(name, cores)
            os.environ.update(RAY_ADDRESS=self._fleet.address, F5BENCH_CACHE=str(self._folder / "cache"))
            while self.tally.kills.total() < num_kills and not self.tally.problems:
                self._one_sweep(self._folder / f"sweep-{self.tally.num_sweeps}", num_kills)
                self.tally.num_sweeps += 1
        return self.tally

    def _one_sweep(self, out: Path, num_kills: int) -> None:
        seen: set[tuple[str, str]] = set()
        until_s, code = time.monotonic() + PATIENCE_S, None
        while code is None:
            sweep = self._start(out)
            while code is None and time.monotonic() < until_s:
                code = self._wait(sweep, num_kills)
                if code is None:
                    target = self._chance.choice(self._targets)
                    is_killed = self._kill(target, sweep, out)
                    self.tally.kills[target] += is_killed
                    seen |= _trials(out)
                    if is_killed and target in ENDS:
                        break
            if time.monotonic() >= until_s:
                self.tally.problems.append(f"{out.name}: does not come to an end")
                return
        if code != 0:
            last = (out.with_suffix(".log")).read_text("utf-8").strip().splitlines()[-1:]
            self.tally.problems.append(f"{out.name}: ended with {code}: {last}")
        self._judge(out, seen)

    def _start(self, out: Path) -> subprocess.Popen[bytes]:
        """A new sweep, or one that goes on. A fresh process: Ray's connection does not survive a fork."""
        command = [sys.executable, "-m", "experiments.checks.fleet.chaos", "--cells", self._cells, "--sweep", str(out)]
        with out.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _wait(self, sweep: subprocess.Popen[bytes], num_kills: int) -> int | None:
        """The exit code of the sweep, None when the moment to kill comes first."""
        is_quiet = self.tally.kills.total() >= num_kills
        until_s = time.monotonic() + (PATIENCE_S if is_quiet else self._chance.uniform(0, self._reach_s))
        while time.monotonic() < until_s:
            if sweep.poll() is not None:
                return sweep.returncode
            time.sleep(0.02)
        return None

    def _kill(self, target: str, sweep: subprocess.Popen[bytes], out: Path) -> bool:
        """False where there is nothing of the kind at this moment."""
        if target == "sweep":
            sweep.kill()
            sweep.wait()
            return True
        if target == "head":
            has_begun = is_fleet_folder(out)
            if has_begun:
                self._kill_head(sweep)
            return has_begun
        if target == "node":
            name = self._chance.choice(sorted(self._cores))
            os.kill(self._fleet.raylet(name), signal.SIGKILL)
            self._fleet.remove(name)
            self._fleet.add(name, self._cores[name])
            return True
        word = "tests.fakes" if target == "worker" else "ray::Relay"
        own = psutil.Process().children(recursive=True)  # others on this machine may have fleets of their own
        found = [one for one in own if word in _command_of(one)]
        if found:
            os.kill(self._chance.choice(found).pid, signal.SIGKILL)
        return bool(found)

    def _kill_head(self, sweep: subprocess.Popen[bytes]) -> None:
        """The sweep ends by itself, with what came back, or says that there is none where it had not met it yet; then
        there is another head."""
        self._fleet.kill_head()
        code = sweep.wait(PATIENCE_S)
        if code not in (EXIT_OK, EXIT_ENVIRONMENT, EXIT_USAGE):
            self.tally.problems.append(f"without its head a sweep ended with {code}")
        self._fleet.renew()
        os.environ["RAY_ADDRESS"] = self._fleet.address

    def _judge(self, out: Path, seen: set[tuple[str, str]]) -> None:
        tally = self.tally
        tally.num_trials_seen += len(seen)
        tally.problems += [f"{out.name}: {cell} lost a trial" for cell, _ in sorted(seen - _trials(out))]
        for ledger in out.glob("*/sweep.json"):
            for cell in json.loads(ledger.read_text("utf-8"))["cells"]:
                place = ledger.parent / cell["dir"]
                tally.num_cells += 1
                tally.outcomes.update(one["outcome"] for one in cell["attempts"])
                if cell["state"] != "ok":
                    tally.problems.append(f"{place}: {cell['state']} ({cell['reason']})")
                    continue
                record = load_record(place / "result.json")
                if record.run_id != cell["attempts"][-1]["run_id"] or len(record.trials) != NUM_TRIALS:
                    tally.problems.append(f"{place}: holds another attempt's record, or {len(record.trials)} trials")
                if record.environment["host_class"] != ledger.parent.name:
                    tally.problems.append(f"{place}: was measured on {record.environment['host_class']}")
        if any(before[1] > after[0] for before, after in itertools.pairwise(_spans(out))):
            tally.problems.append(f"{out.name}: two cells at once on one device")


def go_on(out: Path, cells: str) -> int:
    """The sweep of `out`, from its beginning or from where it was killed."""
    fleet.report = lambda folder: True  # the tables are not what is tried here
    if is_fleet_folder(out):
        return fleet.resume_fleet(out, FAKE)
    shutil.rmtree(out, ignore_errors=True)  # it died before it had begun
    return fleet.run_fleet([*SETTINGS, f"engine={cells}", f"out={out}"], FAKE)


def _all_cores() -> set[int]:
    return os.sched_getaffinity(0)


def _spans(out: Path) -> list[tuple[float, float]]:
    """From first to last trial of each cell of the class that is one machine, in order."""
    most = max((path.parent.name for path in out.glob("*/sweep.json")), default="")
    found = []
    for path in out.glob(f"{most}/cells/*/result.json"):
        trials = load_record(path).trials
        found.append((trials[0].started_unix_s, trials[-1].started_unix_s + trials[-1].wall_s))
    return sorted(found)


def _trials(out: Path) -> set[tuple[str, str]]:
    """(class and cell, line) of every trial that has come back, of whatever attempt."""
    return set(itertools.chain.from_iterable(map(_lines, out.glob(f"*/cells/*/{Path(JOURNAL).stem}*.jsonl"))))


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    try:
        *lines, _ = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return  # set aside between the listing and the reading
    cell = f"{path.parents[2].name}/{path.parent.name}"
    yield from ((cell, line) for line in lines if '"kind": "trial"' in line)


def _command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def main(argv: Sequence[str]) -> int:
    parser = VerbParser(prog="python -m experiments.checks.fleet.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reach-s", type=float, default=10.0, help="kills fall into this long after one another")
    parser.add_argument("--cells", default="fp32,bf16,upstream,amp", help="engines, each a cell of both classes")
    parser.add_argument("--target", choices=TARGETS, action="append", help="kill nothing else (may be repeated)")
    parser.add_argument("--sweep", type=Path, default=None, help="go on with this one alone")
    options = parser.parse_args(argv)
    if options.sweep is not None:
        return go_on(options.sweep, options.cells)
    if options.kills < 0:
        raise ConfigError("--kills", options.kills, "must be a whole number from 0", "use --kills 30")
    with tempfile.TemporaryDirectory(prefix="f5bench-fleet-") as folder:
        targets = options.target or TARGETS
        tally = FleetChaos(Path(folder), options.seed, options.reach_s, options.cells, targets).run(options.kills)
    print(json.dumps({**vars(tally), "kills": dict(tally.kills), "outcomes": dict(tally.outcomes)}, indent=1))
    return 1 if tally.problems else 0


if __name__ == "__main__":
    sys.exit(run_verb(main))
