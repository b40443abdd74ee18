"""How often the stored-baseline gate is wrong here: `python -m experiments.selftest.stored minutes=M [KEY=VALUE
...]`."""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from baselines.paired.selftests import LIVE, SCALED, STORED, Tally, path_of, stored_sentence, tally_table
from baselines.refused import MachineRefused
from baselines.stored.gate import RULE, judge
from baselines.stored.known import chosen_works, known_of
from baselines.stored.store import RECORDS, Baseline, BaselineRefused, save_baseline
from baselines.stored.verdict import Limits
from engine.contract import ConfigError
from experiments.common.cli import EXIT_ENVIRONMENT, EXIT_JOB_FAILED, EXIT_OK, complain, run_verb
from experiments.common.environment import now_iso
from experiments.common.presets import with_presets
from experiments.measuring.fresh import fresh_run
from experiments.measuring.limits import read_limits
from experiments.measuring.running import default_out
from experiments.measuring.validate import one_cell
from experiments.selftest.keep import Keeper, positive, refuse_other_machines
from experiments.settings.front import is_help, refuse_flags, show_help
from experiments.settings.host import this_host_class
from experiments.settings.keys import key_of, refuse_misspelt
from metrics.record import RunRecord, load_run, write_atomically
from metrics.verdict import SEVERITY

HELP = """The stored-baseline gate on an engine that has not changed: how often it cries wolf on this machine.

Session after session of one engine is measured, each by `experiments.run` in fresh processes. Five make a baseline, the
sixth is judged by the complete gate, and so it goes on with five new ones: no two verdicts share a session. The sixth
is judged again with all times of its calls multiplied by 0.95, 1.025, 1.05 and 1.10, which shows what is found. Counts
of a host class add up over invocations. Sessions that follow each other at once differ less than sessions of different
days, of which baselines should be made.

  minutes=M          for M minutes (the session in flight is finished); every verdict is kept at once
  sessions=N         make a baseline (default 5; another number needs keep=false)
  keep=false         do not change this host class's figures below baselines/selftests/stored/
  everything else    as for experiments.run; the default workload is smoke

examples:
  python -m experiments.selftest.stored minutes=30
  python -m experiments.selftest.stored minutes=60 engine=bf16 sessions=3 workload=bench keep=false

Leaves gate_selftest.md and every session in out=DIR. exit codes: 0 done, 2 usage, 12 the machine was not in
order, 14 the engine failed or spoke invalidly, 130 interrupted
"""
OWN = ("minutes", "sessions", "keep")
SCALES = (0.95, 1.025, 1.05, 1.10)
DEFAULT_SESSIONS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """rest: overrides for experiments.run, without out=."""

    minutes: float
    sessions: int
    keep: bool
    rest: tuple[str, ...]


@dataclass(kw_only=True, slots=True)
class Gates:
    """Judges the session after every `sessions` against these. folder: where the baselines are stored.

    Verdicts that shared sessions would not be independent, and the bound on their rate would be too good.
    """

    sessions: int
    limits: Limits
    folder: Path
    _runs: list[RunRecord] = field(default_factory=list)
    _counts: dict[tuple[str, float], Counter[str]] = field(default_factory=dict)

    def add(self, run: RunRecord) -> str | None:
        """The outcome on unchanged code, None while a baseline is made. Raises BaselineRefused, MachineRefused."""
        if len(self._runs) < self.sessions:
            self._runs.append(run)
            return None
        baseline = self._stored(self._runs)
        self._runs = []
        known = known_of(baseline, self.folder)
        outcome = judge(baseline.runs, run, self.limits, known).outcome
        self._counts.setdefault((LIVE, 1.0), Counter())[outcome] += 1
        for ratio in SCALES:
            scaled = judge(baseline.runs, slowed(run, ratio), self.limits, known).outcome
            self._counts.setdefault((SCALED, ratio), Counter())[scaled] += 1
        return outcome

    def tallies(self) -> list[Tally]:
        return [
            Tally(source=source, true_ratio=ratio, outcomes=dict(self._counts[source, ratio]))
            for source, ratio in sorted(self._counts)
        ]

    def _stored(self, runs: Sequence[RunRecord]) -> Baseline:
        baseline = Baseline(
            name="selftest", host_class=str(runs[0].environment["host_class"]), recorded=now_iso(),
            recorded_by="experiments.selftest.stored", why="a self-test",
            git_commit=runs[0].environment.get("git_commit"),
            calibrations=chosen_works(runs), runs=tuple(runs),
        )  # fmt: skip
        save_baseline(baseline, self.folder)
        return baseline


def slowed(run: RunRecord, ratio: float) -> RunRecord:
    """The same session had the engine's calls taken `ratio` times as long; calibrations and audio stay."""
    trials = [replace(t, wall_s=ratio * t.wall_s, cpu_s=ratio * t.cpu_s) for t in run.trials]
    return replace(run, run_id=f"{run.run_id}-x{ratio:g}", trials=tuple(trials))


@with_presets
def main(argv: Sequence[str]) -> int:
    if is_help(argv):
        show_help(HELP)
        return EXIT_OK
    refuse_flags(argv)
    asked = read_asked(argv)
    cell = one_cell([text for text in argv if key_of(text) not in OWN])
    out = Path(str(cell.config["out"] or default_out("gate-selftest")))
    host_class = this_host_class([text for text in asked.rest if key_of(text).split(".")[0] == "device"])
    keep = Keeper(host_class, is_kept=asked.keep, folder=STORED, rule=RULE)
    gates = Gates(sessions=asked.sessions, limits=read_limits(asked.rest), folder=out / "records")
    if (RECORDS / host_class).is_dir():  # a gate knows the host class's noise from all its baselines
        shutil.copytree(RECORDS / host_class, gates.folder / host_class)
    deadline_s, number, exit_code = time.monotonic() + 60 * asked.minutes, 0, EXIT_OK
    while exit_code == EXIT_OK and time.monotonic() < deadline_s:
        exit_code = _one_session(asked, gates, out / f"{number:04d}", keep)
        number += 1
    show(gates, host_class, out, is_kept=asked.keep)
    return exit_code


def _one_session(asked: Asked, gates: Gates, folder: Path, keep: Keeper) -> int:
    exit_code = fresh_run(asked.rest, folder)
    if exit_code != EXIT_OK:
        complain(f"session {folder.name} failed ({folder})")
        return exit_code
    try:
        outcome = gates.add(load_run(folder))
    except MachineRefused as refused:
        complain(f"before session {folder.name}: {refused}")
        return EXIT_ENVIRONMENT
    except BaselineRefused as refused:
        complain(f"before session {folder.name}: {refused}")
        return EXIT_JOB_FAILED
    print(f"session {folder.name}: {outcome or 'of a baseline'}", file=sys.stderr, flush=True)
    if outcome is not None:
        keep(gates.tallies(), None)
    return EXIT_OK


def show(gates: Gates, host_class: str, out: Path, *, is_kept: bool) -> None:
    lines = tally_table(gates.tallies(), SEVERITY[:5])
    is_kept = is_kept and bool(gates.tallies())
    if is_kept:
        lines += ["", f"{stored_sentence(host_class)}."]
    text = "\n".join(lines) + "\n"
    write_atomically(out / "gate_selftest.md", text)
    print(text, end="")
    if is_kept:
        print(f"kept    {path_of(host_class, STORED)}")


def read_asked(argv: Sequence[str]) -> Asked:
    """Raises ConfigError."""
    own = {key: text.partition("=")[2] for text in argv if (key := key_of(text)) in OWN}
    rest = [text for text in argv if key_of(text) not in (*OWN, "out")]
    for text in rest:
        refuse_misspelt(*text.partition("=")[::2], OWN)
    refuse_other_machines(rest)
    if "minutes" not in own:
        raise ConfigError("minutes", "(missing)", "the sessions are measured live", "add minutes=30")
    if own.get("keep", "true") not in ("true", "false"):
        raise ConfigError("keep", own["keep"], "must be true or false", "use keep=false")
    sessions = positive("sessions", own.get("sessions", str(DEFAULT_SESSIONS)))
    if sessions != int(sessions):
        raise ConfigError("sessions", own["sessions"], "must be a whole number", "use sessions=5")
    if own.get("keep", "true") == "true":
        _refuse_other_rule(int(sessions), rest)
    if not any(text.startswith(("workload=", "workload.")) for text in rest):
        rest.insert(0, "workload=smoke")
    if not any(text.startswith(("tracking=", "tracking.")) for text in rest):
        rest.append("tracking=none")
    return Asked(
        minutes=positive("minutes", own["minutes"]), sessions=int(sessions), keep=own.get("keep", "true") == "true",
        rest=tuple(rest),
    )  # fmt: skip


def _refuse_other_rule(sessions: int, rest: Sequence[str]) -> None:
    """The figures of a host class are of one rule and one way to use it."""
    others = [text for text in rest if key_of(text).split(".")[0] in ("gate", "measure")]
    for text in [f"sessions={sessions}"] * (sessions != DEFAULT_SESSIONS) + others:
        value = text.partition("=")[2]
        raise ConfigError(
            key_of(text), value, "the figures kept are of the default rule", "leave it out, or add keep=false"
        )


if __name__ == "__main__":
    sys.exit(run_verb(main))
