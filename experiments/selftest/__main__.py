"""How often the same-run verdict is wrong: `python -m experiments.selftest [minutes=M] [KEY=VALUE ...]`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from baselines.paired.data import CANDIDATE
from baselines.paired.rule import PairedLimits
from baselines.paired.selftests import SELFTESTS, HostErrors, Restarts, Tally, error_sentence, load_errors, path_of
from baselines.simulation.traces import TRACES, load_traces
from baselines.stored.store import USABLE_NAME
from engine.contract import ConfigError
from experiments.common.cli import EXIT_JOB_FAILED, EXIT_OK, complain, run_verb
from experiments.common.environment import fingerprint
from experiments.common.presets import with_presets
from experiments.compare.processes import SideFailed
from experiments.compare.settings import SIDES
from experiments.measuring.running import default_out
from experiments.measuring.validate import one_cell
from experiments.selftest.keep import Keeper, positive, refuse_other_machines
from experiments.selftest.live import Keep, Live, live_command, run_live
from experiments.selftest.replay import RATIOS, rates, table
from experiments.settings.compose import compose_config
from experiments.settings.front import is_help, refuse_flags, show_help
from experiments.settings.keys import key_of, refuse_misspelt
from metrics.record import to_json, write_atomically
from reports.commands import here

HELP = """The same-run verdict on engines whose true ratio is known: how often it cries wolf here, and what it finds.

Without minutes=: replays of the recorded traces (baselines/traces/) and of six synthetic machines, fixed seeds, about a
minute; with a table of what other tools' rules do on the same times. With minutes=M: live self-comparisons with the
processes, checks, journal and looks of experiments.compare (a comparison's own time_limit_s and its look at a changed
machine are left out) until M minutes are over; a slowdown is injected by keeping the processor busy inside the timed
region, in proportion to the call's own time. Live counts of a host class add up over invocations.

  minutes=M          live, for M minutes (the comparison in flight is finished); every outcome is kept at once
  ratios=[1,1.05]    true ratios of the live comparisons, in turn; default [1,1.05,1,0.95,1,1.1,1,1.025]
  replays=N          replays of each ratio on each trace and machine (default 100; unchanged code four times as many)
  record=NAME        keep the live self-comparisons' times as baselines/traces/NAME.json (take ratios=[1])
  keep=false         do not change this host class's figures below baselines/selftests/
  everything else    as for experiments.compare, for both sides; the default workload is one short sentence.
                     Sides that differ (candidate.KEY=), another rule (compare.looks=, ..) and another protocol
                     (compare.pairs_per_block=, compare.sentinel=) need keep=false

examples:
  python -m experiments.selftest
  python -m experiments.selftest minutes=30 'ratios=[1]'
  python -m experiments.selftest minutes=10 engine=bf16 compare.pairs_per_block=12 keep=false

Leaves selftest.json and selftest.md in out=DIR. exit codes: 0 done, 2 usage, 14 an engine failed, 130 interrupted
"""
OWN = ("minutes", "ratios", "replays", "record", "keep")
LIVE_ONLY, REPLAY_ONLY = ("ratios", "record"), ("replays",)
PROTOCOL = ("pairs_per_block", "blocks_per_server", "sentinel")
RULE = (*PROTOCOL, *(limit.name for limit in fields(PairedLimits)))
LIVE_RATIOS = (1.0, 1.05, 1.0, 0.95, 1.0, 1.10, 1.0, 1.025)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The verb's own settings; rest: for experiments.compare."""

    minutes: float | None
    ratios: tuple[float, ...]
    replays: int
    record: str | None
    keep: bool
    rest: tuple[str, ...]

    @property
    def overrides(self) -> list[str]:
        """What composes the engine and the machine that are tested, out= too."""
        outs = [text for text in self.rest if text.startswith("out=")]
        return outs if self.minutes is None else [*outs, *live_command(self.rest).sides[CANDIDATE].overrides]


@with_presets
def main(argv: Sequence[str]) -> int:
    if is_help(argv):
        show_help(HELP)
        return EXIT_OK
    refuse_flags(argv)
    asked = read_asked(argv)
    config = compose_config(asked.overrides) if asked.minutes is None else one_cell(asked.overrides).config
    out = Path(config["out"] or default_out("selftest"))
    environment = fingerprint(config["device"])
    host_class = str(environment["host_class"])
    keep = Keeper(host_class, is_kept=asked.keep)
    try:
        with ExitStack() as stack:
            errors = keep(*_tallies(asked, out, host_class, stack, keep))
    except SideFailed as failure:
        complain(failure)
        return EXIT_JOB_FAILED
    known = load_errors(host_class) if asked.keep else errors  # with what earlier self-tests found
    sentence = error_sentence(known, host_class)
    show(errors, sentence, out, environment, live=asked.minutes is not None, replays=asked.replays)
    if asked.keep:
        print(f"kept    {path_of(host_class, SELFTESTS)}")
    return EXIT_OK


def _tallies(
    asked: Asked, out: Path, host_class: str, stack: ExitStack, keep: Keep
) -> tuple[list[Tally], Restarts | None]:
    if asked.minutes is None:
        return rates(load_traces(TRACES), asked.replays, host_class), None
    live = Live(minutes=asked.minutes, ratios=asked.ratios, record=asked.record, overrides=asked.rest)
    return run_live(live, out, stack, keep)


def show(
    errors: HostErrors, sentence: str, out: Path, environment: Mapping[str, object], *, live: bool, replays: int
) -> None:
    """The table of this self-test and what is known of the host class on stdout, both files in `out`."""
    lines = table(errors.tallies, load_traces(TRACES), replays, rivals=not live)
    text = "\n".join([*lines, "", sentence]) + "\n"
    content = {
        "schema_version": 1, "created": errors.created, "host_class": errors.host_class, "rule": errors.rule,
        "restart_sd_frac": errors.restart_sd_frac,
        "restarts": None if errors.restarts is None else asdict(errors.restarts), "environment": dict(environment),
        "tallies": [
            {"source": t.source, "true_ratio": t.true_ratio, "outcomes": dict(t.outcomes)} for t in errors.tallies
        ],
    }  # fmt: skip
    write_atomically(out / "selftest.json", to_json(content) + "\n")
    write_atomically(out / "selftest.md", text)
    print(here(text), end="")
    print(f"table   {out / 'selftest.md'}")


def read_asked(argv: Sequence[str]) -> Asked:
    """Raises ConfigError."""
    own = {key: text.partition("=")[2] for text in argv if (key := text.partition("=")[0]) in OWN}
    rest = tuple(text for text in argv if text.partition("=")[0] not in OWN)
    minutes = own.get("minutes")
    for text in rest:
        refuse_misspelt(*text.partition("=")[::2], OWN)
    refuse_other_machines(rest)
    _refuse_unread(own)
    if minutes is None and [text for text in rest if not text.startswith("out=")]:
        raise ConfigError("overrides", " ".join(rest), "replays compose no engine", "add minutes=10 for a live test")
    if own.get("keep", "true") not in ("true", "false"):
        raise ConfigError("keep", own["keep"], "must be true or false", "use keep=false")
    if own.get("keep", "true") == "true":
        _refuse_other_rule(rest)
    replays = positive("replays", own.get("replays", "100"))
    if replays != int(replays):
        raise ConfigError("replays", own["replays"], "must be a whole number", "use replays=100")
    if own.get("record") is not None and not USABLE_NAME.fullmatch(own["record"]):
        raise ConfigError("record", own["record"], "cannot be a file name", "use letters, digits, _ . = + -")
    ratios = own.get("ratios")
    return Asked(
        minutes=None if minutes is None else positive("minutes", minutes),
        ratios=LIVE_RATIOS if ratios is None else _ratios(ratios),
        replays=int(replays),
        record=own.get("record"),
        keep=own.get("keep", "true") == "true",
        rest=rest,
    )


def _refuse_unread(own: Mapping[str, str]) -> None:
    """What is for the other kind of self-test, and a trace without a name."""
    is_live = "minutes" in own
    for key in LIVE_ONLY if not is_live else REPLAY_ONLY:
        if key in own:
            kind, remedy = ("replays", "leave it out") if is_live else ("live comparisons", "add minutes=10")
            raise ConfigError(key, own[key], f"is for {kind}", remedy)
    name = own.get("record")
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ConfigError("record", name, "must be letters, digits, dots and hyphens", "use record=amx-2c")


def _whole(key: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(key, text, "must be a whole number from 1", f"see --help for {key}")
    return int(text)


def _refuse_other_rule(rest: Sequence[str]) -> None:
    """The figures of a host class are of one engine against itself, by the rule as experiments.compare has it."""
    for text in rest:
        key, _, value = text.partition("=")
        if key.partition(".")[0] in SIDES:
            raise ConfigError(key, value, "the figures kept are of two equal sides", "leave it out, or add keep=false")
        if key_of(text).removeprefix("compare.") in RULE:
            raise ConfigError(key, value, "the figures kept are of the default rule", "leave it out, or add keep=false")


def _ratios(text: str) -> tuple[float, ...]:
    ratios = tuple(positive("ratios", part) for part in text.strip("[]").split(","))
    for ratio in ratios:
        if ratio not in RATIOS:
            raise ConfigError("ratios", ratio, f"must be among {', '.join(map(str, RATIOS))}", "use ratios=[1,1.05]")
    return ratios


if __name__ == "__main__":
    sys.exit(run_verb(main))
