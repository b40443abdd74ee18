"""kill -9 at random moments: `python -m experiments.checks.chaos --kills 100` prints what was lost, repeated or stale
(nothing).

Sweeps of a fake engine whose calls take time are started, and the sweep, its worker or both are killed at a random
moment; what died is started again with resume, sometimes after the weights file has changed. After every sweep its
journals, records and ledger are compared with what had been on disk at each kill.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from engine.contract import ConfigError
from experiments.common.cli import run_verb
from experiments.common.journal import JOURNAL
from experiments.settings.compose import compose_cells
from experiments.sweep.running import new_sweep, resumed_sweep, run_sweep
from metrics.record import load_record
from reports.commands import VerbParser

FAKE = (sys.executable, "-m", "tests.fakes")
SETTINGS = (
    "workload=smoke", "measure.rounds=4", "measure.warmup_rounds=0", "measure.calibration=none",
    "quality.metrics=[snr]", "quality.enabled=false", "tracking=none", "engine=fp32,bf16,upstream,amp",
)  # fmt: skip
TARGETS = ("sweep", "worker", "both")
PATIENCE_S = 300.0


@dataclass
class Tally:
    """What was done, and what went wrong: every list under `problems` should be empty."""

    kills: Counter[str] = field(default_factory=Counter)
    num_sweeps: int = 0
    num_trials_seen: int = 0
    num_cells_kept: int = 0
    num_cells_repeated: int = 0
    num_cells_given_back: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass
class Seen:
    """What was on disk at the kills of one sweep."""

    trials: set[tuple[str, str]] = field(default_factory=set)
    finished: dict[str, str] = field(default_factory=dict)
    num_kills: int = 0
    num_weights_changed: int = 0


class Chaos:
    """Runs below `folder`; `reach_s`: kills fall evenly into that long after a start."""

    def __init__(self, folder: Path, seed: int, reach_s: float):
        self.folder, self.reach_s, self.tally = folder, reach_s, Tally()
        self.chance = random.Random(seed)
        self.weights = folder / "weights.bin"

    def run(self, num_kills: int) -> Tally:
        os.environ.update(
            FAKE_AMP="", FAKE_CALL_S="0.03", FAKE_WEIGHTS="1", F5BENCH_STATE_DIR=str(self.folder / "locks")
        )
        while self.tally.kills.total() < num_kills:
            self._one_sweep(self.folder / f"sweep-{self.tally.num_sweeps}", num_kills)
            self.tally.num_sweeps += 1
        return self.tally

    def _one_sweep(self, out: Path, num_kills: int) -> None:
        self._change_weights()
        new_sweep(compose_cells([*SETTINGS, f"out={out}", f"model.checkpoint={self.weights}"]))
        seen, deadline_s = Seen(), time.monotonic() + PATIENCE_S
        while True:
            pid = _start(out)
            allowed = num_kills if time.monotonic() < deadline_s else 0  # after that it may come to its end in peace
            code = self._wait(pid, out, allowed)
            while code is None:
                target = self.chance.choice(TARGETS)
                self._kill(pid, target, out, seen)
                if target != "worker":
                    break
                code = self._wait(pid, out, allowed)
            if code is not None:
                if code not in (0, 14):
                    last = (out / "chaos.log").read_text("utf-8").strip().splitlines()[-1]
                    self.tally.problems.append(f"{out.name}: a sweep ended with {code}: {last}")
                if code == 0:
                    break
            elif self.chance.random() < 0.2:
                self._change_weights()
                seen.num_weights_changed += 1
            if time.monotonic() > deadline_s + PATIENCE_S:
                self.tally.problems.append(f"{out.name}: does not come to an end")
                return
        self._judge(out, seen)

    def _change_weights(self) -> None:
        self.weights.write_bytes(self.chance.randbytes(64))

    def _wait(self, pid: int, out: Path, num_kills: int) -> int | None:
        """The exit code of the sweep, None when the moment to kill comes first: a time, or a number of trials."""
        is_quiet = self.tally.kills.total() >= num_kills
        by_trials = self.chance.random() < 0.5 and not is_quiet
        more = len(_trials(out)) + self.chance.randint(1, 9) if by_trials else None
        until_s = time.monotonic() + (PATIENCE_S if is_quiet or by_trials else self.chance.uniform(0, self.reach_s))
        while time.monotonic() < until_s and (more is None or len(_trials(out)) < more):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        return None

    def _kill(self, pid: int, target: str, out: Path, seen: Seen) -> None:
        workers = [child for child in psutil.Process(pid).children() if "tests.fakes" in _command_of(child)]
        if target == "worker" and not workers:
            return  # nothing to kill at this moment: not counted
        if target != "worker":
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for worker in workers if target != "sweep" else ():
            try:
                os.kill(worker.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.tally.kills[target] += 1
        seen.num_kills += 1
        seen.trials |= _trials(out)
        seen.finished |= _finished(out)

    def _judge(self, out: Path, seen: Seen) -> None:
        tally, problems = self.tally, self.tally.problems
        lost = seen.trials - _trials(out)
        problems += [f"{out.name}: {cell} lost a trial" for cell, _ in sorted(lost)]
        tally.num_trials_seen += len(seen.trials)
        wanted = hashlib.sha256(self.weights.read_bytes()).hexdigest()
        ledger = json.loads((out / "sweep.json").read_text("utf-8"))
        num_extra = 0
        for cell in ledger["cells"]:
            record = load_record(out / cell["dir"] / "result.json")
            if cell["state"] != "ok" or (record.facts or {})["weights_sha256"] != wanted:
                problems.append(f"{out.name}: {cell['label']} is {cell['state']} or stale")
            if record.run_id != cell["attempts"][-1]["run_id"] or len(record.steady_trials) != 8:
                problems.append(f"{out.name}: {cell['label']} holds another attempt's record")
            outcomes = Counter(one["outcome"] for one in cell["attempts"])
            given_back = outcomes["ok"] - 1
            tally.num_cells_given_back += given_back
            num_extra += len(cell["attempts"]) - 1 - given_back
            if given_back > seen.num_weights_changed:
                problems.append(f"{out.name}: {cell['label']} was finished and measured again")
            if seen.num_weights_changed == 0 and cell["dir"] in seen.finished:
                tally.num_cells_kept += 1
                if seen.finished[cell["dir"]] != record.run_id:
                    problems.append(f"{out.name}: {cell['label']} was finished at a kill and is another now")
        tally.num_cells_repeated += num_extra
        if num_extra > seen.num_kills:
            problems.append(f"{out.name}: {num_extra} attempts repeated after {seen.num_kills} kills")


def _start(out: Path) -> int:
    """The sweep in a forked process: the imports are this one's, the rest is the ordinary resume."""
    pid = os.fork()
    if pid:
        return pid
    log = os.open(out / "chaos.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        sweep = resumed_sweep(out)
        sweep.command = FAKE
        code = run_sweep(sweep)
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _trials(out: Path) -> set[tuple[str, str]]:
    """(cell, line) of every whole trial in every journal of every attempt."""
    found = set()
    for path in out.glob(f"cells/*/{Path(JOURNAL).stem}*.jsonl"):
        try:
            *lines, _ = path.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            continue  # set aside between the listing and the reading: the count while waiting may be late
        found |= {(path.parent.name, line) for line in lines if '"kind": "trial"' in line}
    return found


def _finished(out: Path) -> dict[str, str]:
    """Cell folder -> run id, as the ledger had it."""
    cells: list[Mapping[str, object]] = json.loads((out / "sweep.json").read_text("utf-8"))["cells"]
    done = [str(cell["dir"]) for cell in cells if cell["state"] == "ok"]
    return {folder: load_record(out / folder / "result.json").run_id for folder in done}


def main(argv: Sequence[str]) -> int:
    parser = VerbParser(prog="python -m experiments.checks.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reach-s", type=float, default=6.0, help="kills fall into this long after a start")
    options = parser.parse_args(argv)
    if options.kills < 1:
        raise ConfigError("--kills", options.kills, "must be a whole number from 1", "use --kills 100")
    if not 0 < options.reach_s < float("inf"):
        raise ConfigError("--reach-s", options.reach_s, "must be seconds above 0", "use --reach-s 6")
    with tempfile.TemporaryDirectory(prefix="f5bench-chaos-") as folder:
        tally = Chaos(Path(folder), options.seed, options.reach_s).run(options.kills)
    print(json.dumps({**vars(tally), "kills": dict(tally.kills)}, indent=1))
    return 1 if tally.problems else 0


if __name__ == "__main__":
    sys.exit(run_verb(main))
