"""How often the stored-baseline gate is wrong here: `python -m experiments.gate_selftest minutes=M [KEY=VALUE ...]`."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from baselines.gate import RULE, judge
from baselines.known import chosen_works, known_of
from baselines.selftests import LIVE, SCALED, STORED, Tally, path_of, stored_sentence, tally_table
from baselines.store import Baseline, save_baseline
from baselines.verdict import SEVERITY, Limits
from engine.contract import ConfigError
from experiments.baseline import this_host_class
from experiments.cli import EXIT_OK, complain, run_verb
from experiments.compose import compose_run
from experiments.environment import now_iso
from experiments.fresh import fresh_run, read_run
from experiments.front import is_help, refuse_flags
from experiments.gate import read_limits
from experiments.run import default_out
from experiments.selftest import positive
from experiments.selftest_keep import Keeper
from metrics.record import RunRecord, write_atomically

HELP = """The stored-baseline gate on an engine that has not changed: how often it cries wolf on this machine.

Session after session of one engine is measured, each by `experiments.run` in fresh processes. From the one after
sessions=N on, each is judged by the complete gate against the N before it; so is the same session with all its times
multiplied by 0.95, 1.05 and 1.10, which shows what is found. Counts of a host class add up over invocations. Sessions
that follow each other at once differ less than sessions of different days, of which baselines should be made.

  minutes=M          for M minutes (the session in flight is finished); every outcome is kept at once
  sessions=N         of the baseline (default 5)
  keep=false         do not change this host class's figures below baselines/selftests/stored/
  everything else    as for experiments.run; the default workload is smoke

examples:
  python -m experiments.gate_selftest minutes=30
  python -m experiments.gate_selftest minutes=60 engine=bf16 sessions=3 workload=bench

Leaves gate_selftest.md and every session in out=DIR. exit codes: 0 done, 2 usage, 14 the engine failed, 130 interrupted
"""
OWN = ("minutes", "sessions", "keep")
SCALES = (0.95, 1.05, 1.10)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """rest: overrides for experiments.run, without out=."""

    minutes: float
    sessions: int
    keep: bool
    rest: tuple[str, ...]


@dataclass(kw_only=True, slots=True)
class Gates:
    """Judges every new session against the `sessions` before it. folder: where the baselines are stored."""

    sessions: int
    limits: Limits
    folder: Path
    _runs: list[RunRecord] = field(default_factory=list)
    _counts: dict[tuple[str, float], Counter[str]] = field(default_factory=dict)

    def add(self, run: RunRecord) -> str | None:
        """The outcome on unchanged code, None while the baseline is being made. Raises BaselineRefused."""
        base, self._runs = self._runs[-self.sessions :], [*self._runs, run]
        if len(base) < self.sessions:
            return None
        baseline = self._stored(base)
        known = known_of(baseline, self.folder)
        outcome = judge(baseline.runs, run, self.limits, known).outcome
        self._counts.setdefault((LIVE, 1.0), Counter())[outcome] += 1
        for ratio in SCALES:
            slower = judge(baseline.runs, slowed(run, ratio), self.limits, known).outcome
            self._counts.setdefault((SCALED, ratio), Counter())[slower] += 1
        return outcome

    def tallies(self) -> list[Tally]:
        return [
            Tally(source=source, true_ratio=ratio, outcomes=dict(self._counts[source, ratio]))
            for source, ratio in sorted(self._counts)
        ]

    def _stored(self, runs: Sequence[RunRecord]) -> Baseline:
        baseline = Baseline(
            name="selftest", host_class=str(runs[0].environment["host_class"]), recorded=now_iso(),
            recorded_by="experiments.gate_selftest", why="a self-test",
            git_commit=runs[0].environment.get("git_commit"),
            calibrations=chosen_works(runs), runs=tuple(runs),
        )  # fmt: skip
        save_baseline(baseline, self.folder)
        return baseline


def slowed(run: RunRecord, ratio: float) -> RunRecord:
    """The same session had the engine's calls taken `ratio` times as long; calibrations and audio stay."""
    trials = [replace(t, wall_s=ratio * t.wall_s, cpu_s=ratio * t.cpu_s) for t in run.trials]
    return replace(run, run_id=f"{run.run_id}-x{ratio:g}", trials=tuple(trials))


def main(argv: Sequence[str]) -> int:
    if is_help(argv):
        print(HELP, end="")
        return EXIT_OK
    refuse_flags(argv)
    asked = read_asked(argv)
    cell = compose_run([text for text in argv if text.partition("=")[0] not in OWN])
    out = Path(cell.config["out"] or default_out("gate-selftest"))
    host_class = this_host_class([text for text in asked.rest if text.startswith("device")])
    keep = Keeper(host_class, is_kept=asked.keep, folder=STORED, rule=RULE)
    gates = Gates(sessions=asked.sessions, limits=read_limits(asked.rest), folder=out / "records")
    deadline_s, number = time.monotonic() + 60 * asked.minutes, 0
    while time.monotonic() < deadline_s:
        folder = out / f"{number:04d}"
        exit_code = fresh_run(asked.rest, folder)
        if exit_code != EXIT_OK:
            complain(f"session {number} failed ({folder})")
            return exit_code
        number += 1
        outcome = gates.add(read_run(folder))
        print(f"session {number}: {outcome or 'of the first baseline'}", file=sys.stderr, flush=True)
        keep(gates.tallies(), None)
    show(gates, host_class, out, is_kept=asked.keep)
    return EXIT_OK


def show(gates: Gates, host_class: str, out: Path, *, is_kept: bool) -> None:
    lines = tally_table(gates.tallies(), SEVERITY)
    if is_kept:
        lines += ["", f"{stored_sentence(host_class)}."]
    text = "\n".join(lines) + "\n"
    write_atomically(out / "gate_selftest.md", text)
    print(text, end="")
    if is_kept:
        print(f"kept    {path_of(host_class, STORED)}")


def read_asked(argv: Sequence[str]) -> Asked:
    """Raises ConfigError."""
    own = {key: text.partition("=")[2] for text in argv if (key := text.partition("=")[0]) in OWN}
    rest = [text for text in argv if text.partition("=")[0] not in OWN and not text.startswith("out=")]
    if "minutes" not in own:
        raise ConfigError("minutes", "(missing)", "the sessions are measured live", "add minutes=30")
    if own.get("keep", "true") not in ("true", "false"):
        raise ConfigError("keep", own["keep"], "must be true or false", "use keep=false")
    sessions = positive("sessions", own.get("sessions", "5"))
    if sessions != int(sessions):
        raise ConfigError("sessions", own["sessions"], "must be a whole number", "use sessions=5")
    for text in rest:
        if text.startswith("gate") and own.get("keep", "true") == "true":
            key, _, value = text.partition("=")
            raise ConfigError(
                key, value, "the figures kept are of the default limits", "leave it out, or add keep=false"
            )
    if not any(text.startswith(("workload=", "workload.")) for text in rest):
        rest.insert(0, "workload=smoke")
    if not any(text.startswith(("tracking=", "tracking.")) for text in rest):
        rest.append("tracking=none")
    return Asked(
        minutes=positive("minutes", own["minutes"]), sessions=int(sessions), keep=own.get("keep", "true") == "true",
        rest=tuple(rest),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(run_verb(main))
