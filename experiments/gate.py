"""A new run against a stored baseline: `python -m experiments.gate NAME` runs what the baseline ran and judges it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from baselines.paired.selftests import same_run_sentence, stored_sentence
from baselines.stored.approval import approval_problem
from baselines.stored.comparable import flatten
from baselines.stored.gate import Rule, foresee, judge
from baselines.stored.known import known_of
from baselines.stored.store import RECORDS, Baseline, NoBaseline, baseline_path, load_baseline
from baselines.stored.verdict import Limits, Verdict
from engine.contract import ConfigError
from experiments.common.cli import (
    EXIT_JOB_FAILED,
    EXIT_NO_BASELINE,
    EXIT_OK,
    complain,
    refuse_unwritable,
    run_verb,
)
from experiments.common.environment import now_iso
from experiments.common.plain import as_config
from experiments.common.presets import presets as options
from experiments.common.presets import with_presets
from experiments.measuring.fresh import fresh_run, hydra_value
from experiments.measuring.job import RESULT
from experiments.measuring.limits import limit_lines, read_limits, warn_if_busy
from experiments.measuring.running import default_out, sync_tracking
from experiments.measuring.validate import one_cell, validate_out
from experiments.settings.compose import compose_config
from experiments.settings.foreseen import planned_record
from experiments.settings.front import is_information, refuse_flags, show_by_hydra
from experiments.settings.host import this_host_class
from experiments.settings.keys import key_of
from experiments.settings.overrides import parse
from experiments.settings.typed import Group, Text, group_of
from experiments.sweep.hosts import is_fleet
from experiments.sweep.once import one_run_a_class
from metrics.record import RunRecord, load_run
from metrics.typed import part_of
from metrics.verdict import EXIT_CODES, SEVERITY
from reports.commands import VerbParser, typed
from reports.verdicts.sheet import show_verdict, write_verdict
from reports.verdicts.stored import Gated, gate_sheet, verdict_content

RULE: Rule = judge
# Of several host classes' exit codes the one that is told: as verdicts are ordered, a run that failed last
WORST = (*dict.fromkeys(EXIT_CODES[outcome] for outcome in SEVERITY), EXIT_JOB_FAILED)
# What the new run takes from the baseline; the rest is a matter of the one who gates.
BASELINE_GROUPS = (
    "model", "engine", "solver", "vocoder", "reference", "workload", "device", "measure", "quality", "seed", "text",
)  # fmt: skip
DESCRIPTION = f"""{__doc__}
NAME is of a baseline that was recorded on a machine of this host class. Settings (KEY=VALUE) change the new run;
gate.KEY=VALUE changes a limit. Leaves verdict.json, summary.md and junit.xml in out=DIR, by default beside the run's
result.json. What is judged can be written as settings too: gate.baseline=NAME, gate.run=DIR,
gate.require_approved=true, gate.records=DIR. With launcher=ray a machine of every host class that sweep.hosts names
makes a run, judged by the baseline of that class.

examples:
  python -m experiments.gate nightly
  python -m experiments.gate nightly gate.catch_ratio=1.10 measure.rounds=10 out=outputs/pr-12
  python -m experiments.gate nightly --run outputs/A --require-approved
  python -m experiments.gate nightly launcher=ray 'sweep.hosts=[jetson-*]'

exit codes: 0 pass (also WARN), 2 usage or configuration, 10 regression, 11 cannot tell, 12 the machine was not in order
or a setting is not the baseline's, 13 no usable baseline (none for this host class among them), 14 the run failed,
130 interrupted
"""


class Gate(Group):
    """What is judged, by which baseline: keys of the command line beside the limits of the group `gate`."""

    baseline: Text | None = None
    run: Text | None = None
    require_approved: bool = False
    records: Text = str(RECORDS)


@with_presets
def main(argv: Sequence[str]) -> int:
    if is_information(argv):
        show_by_hydra(shown(argv))
        return EXIT_OK
    given, overrides = read_asked(argv)
    refuse_flags(overrides)
    parse(overrides)
    limits = read_limits(overrides)
    try:
        if given.run is not None:
            return _judge_stored(given, overrides, limits)
        if is_fleet(overrides, compose_config):
            return _judge_elsewhere(given, overrides, limits)
        return _judge_fresh(given, overrides, limits)
    except NoBaseline as error:
        complain(error)
        return EXIT_NO_BASELINE


def read_asked(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """(what is judged and how, the other overrides): NAME --run DIR, or gate.baseline=NAME gate.run=DIR."""
    asked, words = _split(argv)
    given, overrides = _parser().parse_known_args(words)
    if given.name is not None and "=" in given.name:
        given.name, overrides = None, [given.name, *overrides]
    if given.name is not None and asked.baseline is not None:
        raise ConfigError("gate.baseline", asked.baseline, f"{given.name} is named too", "leave one of them out")
    if given.name is None and asked.baseline is None:
        raise ConfigError("gate.baseline", "(none)", "is needed", "write `gate NAME`; see --help")
    given.name = given.name or asked.baseline
    given.run = Path(asked.run) if asked.run is not None else given.run
    given.require_approved |= asked.require_approved
    given.records = Path(asked.records) if asked.records != str(RECORDS) else given.records
    return given, overrides


def _split(argv: Sequence[str]) -> tuple[Gate, list[str]]:
    """(this verb's own keys, all other words)."""
    own = {f"gate.{name}": name for name in Gate.model_fields}
    mine = [word for word in argv if word.partition("=")[0] in own]
    values = {own[override.key_or_group]: override.value() for override in parse(mine)}
    return group_of(Gate, "gate", values), [word for word in argv if word not in mine]


def shown(argv: Sequence[str]) -> list[str]:
    """What Hydra takes to show the configuration with this verb's own keys in it."""
    asked, words = _split(argv)
    named = words[:1] if words and "=" not in words[0] and not words[0].startswith("-") else []
    keys = asked.model_dump() if not named else {**asked.model_dump(), "baseline": named[0]}
    return [*words[len(named) :], *(f"+gate.{key}={hydra_value(value)}" for key, value in keys.items())]


def _judge_stored(given: argparse.Namespace, overrides: Sequence[str], limits: Limits) -> int:
    for text in overrides:
        if key_of(text).split(".")[0] not in ("gate", "out"):
            raise ConfigError(
                key_of(text), text.partition("=")[2], "--run takes a finished run as it is", "leave it out"
            )
    run = load_run(given.run)
    baseline = _load(given, str(run.environment["host_class"]))
    beside = given.run if given.run.is_dir() else given.run.parent
    return _finish(given, baseline, run, limits, Path(_out(overrides) or beside))


def _judge_fresh(given: argparse.Namespace, overrides: Sequence[str], limits: Limits) -> int:
    device = [text for text in overrides if key_of(text).split(".")[0] == "device"]
    baseline = _load(given, this_host_class(device))
    out = Path(_out(overrides) or default_out(f"gate-{given.name}"))
    words = [*overrides_of(baseline.runs[-1].config), *overrides]
    planned = planned_record(one_cell(words))
    verdict = foresee(baseline.runs, planned, limits)
    if verdict is not None:
        validate_out(out, 0, 0)
        return _tell(verdict, baseline, planned, limits, out)
    warn_if_busy(limits)
    exit_code = fresh_run(words, out)
    if exit_code not in (EXIT_OK, EXIT_JOB_FAILED) or not (out / RESULT).is_file():
        return exit_code or EXIT_JOB_FAILED
    run = load_run(out)
    exit_code = _finish(given, baseline, run, limits, out)
    sync_tracking(as_config(run.config), out)  # the run's own sync came before there was a verdict
    return exit_code


def _judge_elsewhere(given: argparse.Namespace, overrides: Sequence[str], limits: Limits) -> int:
    """A run on a machine of every host class, each against that class's own baseline, which has to be there before any
    of them is made. The exit code is that of the class that stands worst."""
    words = [text for text in overrides if key_of(text) != "out"]
    out = Path(_out(overrides) or default_out(f"gate-{given.name}"))
    baselines: dict[str, Baseline] = {}

    def words_for(host_class: str) -> list[str]:
        baselines[host_class] = _load(given, host_class)
        return [*overrides_of(baselines[host_class].runs[-1].config), *words]

    codes = [EXIT_OK]
    for ended in one_run_a_class(words, words_for, out):
        if ended.folder is None:
            complain(ended.said)
            codes.append(ended.exit_code)
            continue
        print(f"{ended.said}:")
        run = load_run(ended.folder)
        codes.append(_finish(given, baselines[ended.host_class], run, limits, ended.folder))
        sync_tracking(as_config(run.config), ended.folder)
    return max(codes, key=WORST.index)


def _load(given: argparse.Namespace, host_class: str) -> Baseline:
    """Before minutes are spent. Raises NoBaseline, also for a damaged one and, where asked, for an unapproved one."""
    baseline_path(given.records, host_class, given.name)  # a name that cannot be is the user's mistake
    baseline = load_baseline(given.records, host_class, given.name)
    for rates in (stored_sentence, same_run_sentence):
        rates(host_class)  # a damaged file of it is told now
    problem = approval_problem(baseline)
    if problem is not None and given.require_approved:
        raise NoBaseline(
            f"baseline {given.name} of {host_class}: {problem}; "
            f"`{typed('experiments.baseline', 'approve', given.name, '--why', 'TEXT')}`"
        )
    return baseline


def overrides_of(config: Mapping[str, object]) -> list[str]:
    """Overrides that compose what a stored configuration holds, whatever its choices were called or are by now."""
    default: Mapping[str, object] = compose_config([])
    choices = []
    for group in BASELINE_GROUPS:
        name = part_of(config, group).get("name")
        if name in options(group) and name != part_of(default, group).get("name"):
            choices.append(f"{group}={name}")
    composed: Mapping[str, object] = compose_config(choices)
    wanted = {key: config[key] for key in BASELINE_GROUPS if key in config}
    old, now = dict(flatten("", {key: composed[key] for key in wanted})), dict(flatten("", wanted))
    deleted = [f"~{key}" for key in old if key not in now]
    changed = [key for key in now if now[key] != old.get(key, now)]
    if "workload.texts" in changed:  # which implies both, were they not said
        changed += [key for key in ("workload.select", "workload.name") if key in now and key not in changed]
    return [*choices, *deleted, *(f"++{key}={hydra_value(now[key])}" for key in changed)]


def _finish(given: argparse.Namespace, baseline: Baseline, run: RunRecord, limits: Limits, out: Path) -> int:
    verdict = RULE(baseline.runs, run, limits, known_of(baseline, given.records))
    return _tell(verdict, baseline, run, limits, out)


def _tell(verdict: Verdict, baseline: Baseline, run: RunRecord, limits: Limits, out: Path) -> int:
    gated = Gated(
        baseline=baseline, run=run, limits=limits, verdict=verdict,
        stored=stored_sentence(baseline.host_class), same_run=same_run_sentence(baseline.host_class),
    )  # fmt: skip
    sheet = gate_sheet(gated)
    with refuse_unwritable("out", out):
        write_verdict(sheet, verdict_content(gated, now_iso()), out)
    show_verdict(sheet, out)
    return gated.verdict.exit_code


def _out(overrides: Sequence[str]) -> str | None:
    out = compose_config([text for text in overrides if key_of(text) == "out"])["out"]
    return None if out is None else str(out)


def _parser() -> VerbParser:
    parser = VerbParser(
        prog="python -m experiments.gate",
        usage="python -m experiments.gate NAME [KEY=VALUE ...] [--run RUN_DIR] [--require-approved] [--records DIR]",
        description=DESCRIPTION,
        epilog="\n".join(limit_lines()),
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the stored baseline")
    parser.add_argument("--run", type=Path, metavar="RUN_DIR", help="judge this finished run instead of making one")
    parser.add_argument(
        "--require-approved", action="store_true", help="refuse (13) a baseline that nobody approved as it is"
    )
    parser.add_argument("--records", type=Path, default=RECORDS, help="where baselines lie (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(run_verb(main))
