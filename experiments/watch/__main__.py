"""A gate every night or hour: `python -m experiments.watch watch.baseline=nightly` remembers, tells and alerts."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from engine.contract import ConfigError, UnsupportedEngine
from experiments.common.cli import EXIT_OK, EXIT_USAGE, note, refuse_unwritable, run_verb
from experiments.common.device_lock import folder_lock
from experiments.common.presets import with_presets
from experiments.measuring.limits import read_limits
from experiments.settings.compose import compose_run
from experiments.watch.schedule import Clock, RealClock, due, next_due_s
from experiments.watch.settings import WATCH, Watch

HELP = """Judge new runs by a stored baseline on a schedule: every night (03:00 UTC), or watch=hourly.

  Each run is `python -m experiments.gate NAME` in a process of its own, in a folder of its own below
  watch.folder. watch.jsonl there has a line a run; f5bench.prom is what Prometheus' node exporter reads
  (watch.textfile=PATH writes it there as well), and watch.webhook=URL is told when the verdict changes. The figures of
  all kept runs are courses (`python -m experiments.history`), so that a slow drift is found as well as a step.
  Everything but watch.KEY=VALUE changes the gate and its new runs.

examples:
  python -m experiments.watch watch.baseline=nightly
  python -m experiments.watch watch=hourly watch.baseline=nightly workload=smoke measure.rounds=3
  python -m experiments.watch watch.baseline=nightly watch.first_now=true watch.runs=1

exit codes, of the last run: 0 pass (also WARN), 2 usage or configuration, 10 a regression, of this run or of a course,
11 cannot tell, 12 environment differs, 13 no usable baseline, 14 the run failed, 130 interrupted
"""
OWN = ("gate.baseline", "gate.run", "out")  # what the watch itself says to the gate
OF_THE_GATE = ("gate.require_approved", "gate.records")  # keys of that verb, and no limits


@with_presets
def main(argv: Sequence[str]) -> int:
    if WATCH.answered(argv, HELP):
        return EXIT_OK
    mine, overrides = WATCH.split(argv)
    settings = WATCH.made(mine)
    check(overrides)
    _refuse_bare()
    return watch(settings, overrides, RealClock())


def watch(settings: Watch, overrides: Sequence[str], clock: Clock) -> int:
    """Until `settings.runs` are done. A run that the gate refuses as misused ends it: the next would be, too."""
    from experiments.watch import session as sessions

    session = sessions.Session(settings=settings, overrides=tuple(overrides), clock=clock, gate=sessions.run_gate)
    code, folder = EXIT_OK, Path(settings.folder)
    with refuse_unwritable("watch.folder", folder):
        folder.mkdir(parents=True, exist_ok=True)
    with refuse_unwritable("watch.folder", folder), folder_lock(folder, "watch.folder", "watch"):
        for number, _ in enumerate(moments(settings, clock), start=1):
            is_last = number == settings.runs
            next_s = None if is_last else next_due_s(clock.now_s(), settings.every_minutes, settings.offset_minutes)
            entry = session.run(next_s)
            code = sessions.exit_code_of(entry)
            note(f"watch: run {number}: {entry.outcome or 'no verdict'}, exit code {code}, {entry.folder}")
            if entry.exit_code == EXIT_USAGE:
                break
    return code


def moments(settings: Watch, clock: Clock) -> Iterator[float]:
    return islice(due(clock, settings.every_minutes, settings.offset_minutes, settings.first_now), settings.runs)


def check(overrides: Sequence[str]) -> None:
    """Before the first night. Raises ConfigError."""
    for word in overrides:
        key, _, value = word.partition("=")
        if key.lstrip("+~") in OWN:
            remedy = "use watch.folder=DIR" if key == "out" else "use watch.baseline=NAME"
            raise ConfigError(key, value, "is set by the watch", remedy)
    read_limits([word for word in overrides if word.partition("=")[0] not in OF_THE_GATE])
    compose_run([word for word in overrides if not word.startswith("gate.")])


def _refuse_bare() -> None:
    try:
        import prometheus_client  # noqa: F401
        import ruptures  # noqa: F401
    except ImportError as error:
        raise UnsupportedEngine(f"a watch needs {error.name}", "pip install '.[watch]'") from error


if __name__ == "__main__":
    sys.exit(run_verb(main))
