"""Runs of many days as courses: `python -m experiments.history DIR` says what changed, and names the suspects."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from baselines.history.course import CourseLimits
from baselines.refused import SettingRefused
from engine.contract import UnsupportedEngine
from experiments.common.cli import EXIT_OK, note, refuse_unwritable, refused_limit, run_verb
from experiments.common.repository import GitRefused, git, refusal
from metrics.record import RecordError, to_json, write_atomically
from metrics.verdict import EXIT_CODES
from reports.commands import ROOT, VerbParser
from reports.words import plural

if TYPE_CHECKING:
    from reports.history.courses import History
    from reports.history.reading import Reading
    from reports.history.review import Found
    from reports.history.suspects import Commits, Log

PUBLISHED = ROOT / "reports" / "published"
REVIEW, PAGE, CONTENT = "review.md", "history.html", "history.json"
DESCRIPTION = f"""{__doc__}
Reads every run, sweep and gate in or below the folders. A course is one figure (RTF, CPU seconds, p95, memory, energy,
quality) of one variant, model and workload on one host class; of a change it says how large it is, between which runs
it lies, and what is not the same there: commits, versions, settings. RTF and p95 are taken in units of each run's own
calibration, where every run made one. Leaves {REVIEW}, {PAGE} (one file, for any browser) and {CONTENT} in --out.

examples:
  python -m experiments.history outputs --out outputs/history
  python -m experiments.history --published --days 30
  python -m experiments.history outputs/watch --gate --runs-a-month 720
  python -m experiments.history --selftest 100

exit codes: 0 done, 2 usage or nothing to read; with --gate also 10 a course is worse, 11 cannot tell
"""


def main(argv: Sequence[str]) -> int:
    options = _parser().parse_args(argv)
    limits = _limits(options)
    _refuse_bare()
    if options.selftest is not None:
        return selftest(options.selftest, limits)
    # Tables and pages take a second to import, and --help needs none
    from reports.history.courses import history_of
    from reports.history.review import error_rate, found_in, sentence

    history = history_of(_reading(options), limits, timedelta(days=options.days))
    found = found_in(history, log_of(options.repository))
    with refuse_unwritable("--out", options.out):
        write_history(history, found, options.out)
    print(f"{history.outcome}: {sentence(history, found)}")
    print(f"  {error_rate(history)}")
    if history.left_out:
        print(f"  left out: {plural(len(history.left_out), 'run')}, each with its reason in {options.out / REVIEW}")
    print(f"  page: {(options.out / PAGE).resolve().as_uri()}")
    return EXIT_CODES[history.outcome] if options.gate else EXIT_OK


def selftest(num: int, limits: CourseLimits) -> int:
    """How often the rule is wrong, on recorded comparisons of engines with themselves and on synthetic machines."""
    from baselines.simulation.histories import RUNS_A_MONTH, RUNS_BEFORE, machines, rates_of

    caught = f"+{100 * (limits.catch_ratio - 1):g} % found within {limits.found_within} runs"
    print(f"{num} histories a machine, {RUNS_BEFORE} runs and {RUNS_A_MONTH} more; {caught}:")
    for name, machine in machines().items():
        rates = rates_of(machine, num, limits)
        print(
            f"  {name:<30} alarms without a change {rates.alarms}, found {rates.found}; where the first "
            f"{RUNS_BEFORE} gave PASS {rates.found_sure} of {rates.sure}; cannot tell {rates.unsure}", flush=True,
        )  # fmt: skip
    return EXIT_OK


def write_history(history: History, found: Sequence[Found], out: Path) -> None:
    """The review, the page and the JSON. Raises OSError."""
    from reports.history.page import render_history
    from reports.history.review import content, review

    text, data = review(history, found), content(history, found)
    write_atomically(out / CONTENT, to_json(data) + "\n")
    write_atomically(out / REVIEW, text)
    write_atomically(out / PAGE, render_history(history, found, text, data))


def log_of(repository: Path) -> Log:
    """Asks git for the commits between two; without a repository none are named, and the reason is."""
    from reports.history.suspects import MOST_COMMITS, Commits, no_log

    try:
        if git(repository, "rev-parse", "--verify", "--quiet", "HEAD").returncode != 0:
            return no_log
    except GitRefused:
        return no_log

    def log(before: str, after: str) -> Commits:
        try:
            done = git(repository, "log", "--format=%H%x09%s", f"{before}..{after}")
            if done.returncode != 0:
                raise refusal(repository, done)
        except GitRefused as refused:
            return Commits(reason=refused.reason)
        lines = [line.partition("\t") for line in done.stdout.splitlines()]
        return Commits(
            listed=tuple((name, subject) for name, _, subject in lines[:MOST_COMMITS]), num_all=len(lines),
            reason=None if lines else "the later commit is not a descendant of the earlier one",
        )  # fmt: skip

    return log


def _reading(options: argparse.Namespace) -> Reading:
    """Raises RecordError where there is nothing to read."""
    from reports.history.reading import read_folders, read_published

    if not options.folders and not options.published:
        raise RecordError("DIR: none was given; name folders with runs, or add --published")
    reading = read_folders(options.folders)
    if options.published:
        reading += read_published(PUBLISHED)
    if not reading.measured:
        for one in reading.left_out:
            note(f"left out: {one.where}: {one.reason}")
        where = ", ".join(map(str, options.folders)) or "--published"
        raise RecordError(
            f"{where}: no run shows a speed that counts; {plural(len(reading.left_out), 'run')} left out, "
            "each with its reason above"
        )
    return reading


def _limits(options: argparse.Namespace) -> CourseLimits:
    try:
        return CourseLimits(
            catch_ratio=options.catch_ratio, false_alarm_frac=options.false_alarm_frac,
            runs_a_month=options.runs_a_month, found_within=options.found_within,
        )  # fmt: skip
    except SettingRefused as error:
        raise refused_limit(error) from error


def _refuse_bare() -> None:
    try:
        import ruptures  # noqa: F401
    except ImportError as error:
        raise UnsupportedEngine(f"a history needs {error.name}", "pip install '.[watch]'") from error


def _count(text: str) -> int:
    """For argparse: a whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be a whole number from 1")
    return value


def _parser() -> VerbParser:
    parser = VerbParser(prog="python -m experiments.history", description=DESCRIPTION)
    limits = CourseLimits()
    parser.add_argument("folders", nargs="*", type=Path, metavar="DIR", help="folders with runs, sweeps or gates")
    parser.add_argument("--published", action="store_true", help="and the reports that are published with f5bench")
    parser.add_argument("--days", type=float, default=7, help="up to the newest run, that are reviewed (default: 7)")
    parser.add_argument("--out", type=Path, default=Path("outputs/history"), help="default: %(default)s")
    parser.add_argument("--repository", type=Path, default=ROOT, help="whose commits are named (default: this one)")
    parser.add_argument("--selftest", type=_count, metavar="N", help="N histories of each known machine, read nothing")
    parser.add_argument("--gate", action="store_true", help="exit by the worst course")
    parser.add_argument("--catch-ratio", type=float, default=limits.catch_ratio, help="default: %(default)s")
    parser.add_argument("--false-alarm-frac", type=float, default=limits.false_alarm_frac, help="default: %(default)s")
    parser.add_argument("--runs-a-month", type=int, default=limits.runs_a_month, help="default: %(default)s")
    parser.add_argument("--found-within", type=int, default=limits.found_within, help="runs (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(run_verb(main))
