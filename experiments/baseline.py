"""Keep a run as baseline, and look at what is kept: `python -m experiments.baseline record NAME`."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from baselines.stored.approval import approval_problem, approve
from baselines.stored.known import chosen_works
from baselines.stored.machine import refuse_out_of_order
from baselines.stored.quality import SNR
from baselines.stored.store import (
    RECORDS,
    Baseline,
    BaselineRefused,
    NoBaseline,
    baseline_path,
    differences,
    list_baselines,
    load_baseline,
    read_baseline,
    refuse_unusable,
    save_baseline,
)
from engine.paths import ROOT
from experiments.common.cli import EXIT_NO_BASELINE, EXIT_OK, complain, refuse_unwritable, run_verb
from experiments.common.environment import now_iso
from experiments.common.presets import with_presets
from experiments.measuring.fresh import fresh_run
from experiments.measuring.limits import read_limits, warn_if_busy
from experiments.measuring.running import default_out
from experiments.measuring.validate import one_cell
from experiments.settings.front import refuse_flags
from experiments.settings.host import this_host_class
from experiments.settings.keys import key_of
from metrics.record import RecordError, RunRecord, load_run, to_json, write_atomically
from metrics.speed.peak import host_peak
from metrics.speed.trials import speed_of
from reports.commands import VerbParser, here, typed

EXAMPLES = """
examples:
  python -m experiments.baseline record nightly engine=int8 solver=euler_7
  python -m experiments.baseline record nightly --add engine=int8 solver=euler_7      (another session, at another time)
  python -m experiments.baseline record nightly --run outputs/A --run outputs/B --why "release 1.2"
  python -m experiments.baseline approve nightly --by "J. Doe" --why "listened to it; 2 % slower is what the fix costs"
  python -m experiments.baseline list
  python -m experiments.baseline show nightly
  python -m experiments.baseline page nightly                (PERFORMANCE_BASELINE.md)
  python -m experiments.baseline diff nightly outputs/A

exit codes: 0 done, 2 usage or a run that cannot be one, 12 the machine was not in order (as the gate would say:
gate.other_cpu_frac=F allows more), 13 no usable baseline, 14 the run failed, 130 interrupted
"""


@with_presets
def main(argv: Sequence[str]) -> int:
    options, overrides = _parser().parse_known_args(argv)
    refuse_flags(overrides)
    if overrides and options.action != "record":
        raise RecordError(f"{overrides[0]}: only `record` takes settings; see --help")
    try:
        return int(options.function(options, overrides))
    except NoBaseline as error:
        complain(error)
        return EXIT_NO_BASELINE


def record(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Store the given runs, or a fresh one, under baselines/records/HOST-CLASS/NAME.json."""
    limits = read_limits(overrides)
    if options.run:
        for text in overrides:
            if key_of(text).split(".")[0] != "gate":
                raise RecordError(f"{text}: --run takes a finished run as it is; leave one of the two out")
        runs = [load_run(folder) for folder in options.run]
    else:
        host_class = this_host_class(overrides)
        _check_free(options, host_class)
        cell = one_cell(overrides)
        out = Path(cell.config["out"] or default_out(f"baseline-{options.name}"))
        warn_if_busy(limits)
        exit_code = fresh_run(overrides, out)
        if exit_code != EXIT_OK:
            return exit_code
        runs = [load_run(out)]
    refuse_unusable(runs)
    refuse_out_of_order(runs, limits)
    host_class = str(runs[0].environment["host_class"])
    _check_free(options, host_class)
    if options.add:
        stored = load_baseline(options.records, host_class, options.name)
        runs, options.why = [*stored.runs, *runs], options.why or stored.why
    with refuse_unwritable("--records", options.records):
        path = save_baseline(_baseline(options, host_class, runs), options.records)
    print(f"{path}\n{len(runs)} session(s) of {runs[0].label}, {len(runs[-1].steady_trials)} trials in the last")
    for note in _notes(runs, options):
        print(note, file=sys.stderr)
    return EXIT_OK


def show_list(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    """One line for every stored baseline; a file that cannot be used says why."""
    for host_class, name in list_baselines(options.records):
        try:
            stored = read_baseline(baseline_path(options.records, host_class, name))
            print(f"{host_class}/{name}: {_headline(stored)}")
        except RecordError as error:
            print(f"{host_class}/{name}: unusable: {error}")
    return EXIT_OK


def show(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Who, when, why, the calibrations that fit, and each session's figures, on every host class that has the name."""
    hosts = [host for host, name in list_baselines(options.records) if name == options.name]
    for host_class in hosts or [this_host_class([])]:
        stored = load_baseline(options.records, host_class, options.name)
        print(f"{stored.name} on {stored.host_class}: {_headline(stored)}")
        print(f"recorded {stored.recorded} by {stored.recorded_by}: {stored.why}")
        print(_approval(stored))
        for metric, choice in stored.calibrations.items():
            spreads = ", ".join(f"{work} {100 * spread:.2f} %" for work, spread in sorted(choice.spread_frac.items()))
            print(f"{metric} is divided by {choice.work}" + (f" (spread left: {spreads})" if spreads else ""))
        for run in stored.runs:
            print(f"  {_figures(run)}")
    return EXIT_OK


def page(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    """A stored baseline as a page to keep beside the code (PERFORMANCE_BASELINE.md): machine first, then sessions."""
    from reports.verdicts.baseline import baseline_markdown  # brings matplotlib

    stored = load_baseline(options.records, options.host_class or _only_host(options), options.name)
    with refuse_unwritable("--out", options.out):
        write_atomically(options.out, baseline_markdown(stored))
    print(options.out)
    return EXIT_OK


def _only_host(options: argparse.Namespace) -> str:
    """This machine's class where it has the name, else the only one that does. Raises RecordError for several."""
    hosts, here = [host for host, name in list_baselines(options.records) if name == options.name], this_host_class([])
    if here in hosts or not hosts:
        return here
    if len(hosts) > 1:
        raise RecordError(f"{options.name}: stored for {', '.join(hosts)}; say which with --host-class")
    return hosts[0]


def approve_stored(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Say that a stored baseline was reviewed: who, when, why; void as soon as its content changes."""
    hosts = [host for host, name in list_baselines(options.records) if name == options.name]
    for host_class in [options.host_class] if options.host_class else hosts or [this_host_class([])]:
        stored = load_baseline(options.records, host_class, options.name)
        approved = approve(stored, by=options.by or _user(), when=now_iso(), why=options.why)
        with refuse_unwritable("--records", options.records):
            path = save_baseline(approved, options.records)
        print(f"{path}\n{_approval(approved)}")
    return EXIT_OK


def diff(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Which settings, facts and versions differ between a baseline and a run, and the figures of both."""
    run = load_run(options.run_dir)
    if run.status != "ok" or not run.steady_trials:
        raise RecordError(f"{options.run_dir}: nothing was measured (status {run.status}: {run.reason}); run it again")
    stored = load_baseline(options.records, str(run.environment["host_class"]), options.name)
    found = differences(stored.runs[-1], run)
    for difference in found:
        print(f"{difference.key}: {to_json(difference.baseline)} -> {to_json(difference.new)}")
    if not found:
        print("no setting differs")
    print(f"baseline  {_figures(stored.runs[-1])}\nrun       {_figures(run)}")
    return EXIT_OK


def _check_free(options: argparse.Namespace, host_class: str) -> None:
    """Before minutes are spent: the name can be a file, and nothing stored is overwritten unasked."""
    path = baseline_path(options.records, host_class, options.name)
    if options.add:
        load_baseline(options.records, host_class, options.name)
    elif path.exists() and not options.replace:
        raise BaselineRefused(f"{path}: there is one already; --add makes this its next session, --replace discards it")


def _baseline(options: argparse.Namespace, host_class: str, runs: Sequence[RunRecord]) -> Baseline:
    refuse_unusable(runs)
    return Baseline(
        name=options.name,
        host_class=host_class,
        recorded=now_iso(),
        recorded_by=options.by or _user(),
        why=options.why or "no reason given",
        git_commit=runs[0].environment.get("git_commit"),
        calibrations=chosen_works(runs),
        runs=tuple(runs),
    )


def _approval(stored: Baseline) -> str:
    problem = approval_problem(stored)
    if problem is not None or stored.approval is None:
        return f"not approved: {problem}"
    return f"approved {stored.approval.when} by {stored.approval.by}: {stored.approval.why}"


def _user() -> str:
    if shutil.which("git"):
        command = ["git", "-C", str(ROOT), "config", "user.name"]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
        if done.stdout.strip():
            return done.stdout.strip()
    return os.environ.get("USER", "unknown")


def _notes(runs: Sequence[RunRecord], options: argparse.Namespace) -> list[str]:
    """What is to be done next, as whole commands."""
    words = [] if options.records == RECORDS else ["--records", options.records]
    notes = []
    if any(run.environment.get("git_dirty") for run in runs):
        notes.append("note: the working tree had uncommitted changes; the commit does not say what was measured")
    if len(runs) < 3:
        notes.append(
            "note: from three sessions on the noise between sessions is measured instead of assumed; add some at "
            f"other times: {_command('record', options.name, '--add', *words)}, with the same settings"
        )
    look, agree = (_command(action, options.name, *words) for action in ("show", "approve"))
    agree = f'{agree[:-1]} --why "..."`'
    notes.append(f"note: nobody has approved it as it is now; look at it, {look}, then {agree}")
    return notes


def _command(*words: object) -> str:
    command = typed("experiments.baseline", *words)
    return f"`{here(command)}`"


def _headline(stored: Baseline) -> str:
    commit = (stored.git_commit or "no commit")[:12]
    state = "approved" if approval_problem(stored) is None else "not approved"
    return f"{stored.runs[0].label}, {len(stored.runs)} session(s), {stored.recorded}, {commit}, {state}"


def _figures(run: RunRecord) -> str:
    """When, how fast by both clocks with the calibration beside them, SNR, memory."""
    speed = speed_of(run.steady_trials)
    cpu_s = [trial.calibration_cpu_s for trial in run.steady_trials if trial.calibration_cpu_s is not None]
    calibration = f"calibration {1000 * statistics.fmean(cpu_s):.1f} ms CPU" if cpu_s else "no calibration"
    snr = [score.value for score in run.scores_of(SNR) if score.value is not None]
    peak = host_peak(run)
    parts = (
        f"{run.environment.get('started')} {run.run_id}: RTF {speed.rtf_ratio:.3f}",
        f"p50 {1000 * speed.latency_p50_s:.1f} ms",
        f"{1000 * speed.cpu_s_per_call:.1f} ms CPU a call",
        calibration,
        f"SNR {statistics.fmean(snr):.2f} dB" if snr else "no SNR",
        f"peak {peak[0] / 2**20:.0f} MiB" if peak else "no peak memory",
    )
    return ", ".join(parts)


def _parser() -> VerbParser:
    parser = VerbParser(
        prog="python -m experiments.baseline",
        description=__doc__,
        epilog=EXAMPLES,
    )
    actions = parser.add_subparsers(dest="action", required=True)
    verbs = (
        ("record", record), ("list", show_list), ("show", show), ("page", page), ("approve", approve_stored),
        ("diff", diff),
    )  # fmt: skip
    for name, function in verbs:
        action = actions.add_parser(name, help=(function.__doc__ or "").split("\n")[0])
        action.set_defaults(function=function)
        action.add_argument("--records", type=Path, default=RECORDS, help="where baselines lie (default: %(default)s)")
        if name != "list":
            action.add_argument("name", help="name of the baseline")
    keep = actions.choices["record"]
    keep.add_argument("--run", type=Path, action="append", metavar="RUN_DIR", help="a finished run; several are pooled")
    keep.add_argument("--why", help="why this is a baseline; stored with it")
    again = keep.add_mutually_exclusive_group()
    again.add_argument("--add", action="store_true", help="add the session(s) to the stored baseline")
    again.add_argument("--replace", action="store_true", help="discard the stored baseline of this name")
    agree = actions.choices["approve"]
    agree.add_argument("--why", required=True, help="why it may be believed; stored with it")
    agree.add_argument("--host-class", help="only the baseline of this host class (default: every one of that name)")
    paper = actions.choices["page"]
    paper.add_argument("--host-class", help="which one (default: this machine's, else the only one of that name)")
    paper.add_argument("--out", type=Path, default=Path("PERFORMANCE_BASELINE.md"), help="default: %(default)s")
    for action in (keep, agree):
        action.add_argument("--by", help="who does this (default: git's user.name)")
    actions.choices["diff"].add_argument("run_dir", type=Path, metavar="RUN_DIR")
    return parser


if __name__ == "__main__":
    sys.exit(run_verb(main))
