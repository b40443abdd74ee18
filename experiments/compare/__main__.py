"""Two engines in one run, with a verdict: `python -m experiments.compare reference.KEY=.. candidate.KEY=..`.

What measures is imported once it is known that something is to be measured: --help is answered at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from baselines.paired.data import CANDIDATE, REFERENCE
from engine.contract import ConfigError
from experiments.common.cli import EXIT_OK, run_verb
from experiments.common.device_lock import device_lock
from experiments.common.plain import Config, as_config, as_plain
from experiments.common.presets import with_presets
from experiments.compare.settings import COMPARE, SIDES, Command, naming_sides, read_command
from experiments.settings.compose import compose_config
from experiments.settings.keys import key_of

if TYPE_CHECKING:
    from experiments.compare.preparing import Prepared
    from reports.verdicts.paired import Comparison

OWN = ("out", "tracking", "device")
HELP = """Compare two engines in one run: pairs of calls on the same sentence with the same noise, in random order, in
blocks of fresh processes, until the verdict is certain. Only one process works at a time.

  reference.KEY=VALUE, candidate.KEY=VALUE   overrides of one side; without a side they are for both
  reference.revision=HEAD~1                  engine and configuration of a git revision (candidate.revision likewise)
  compare.KEY=VALUE                          how it is measured and judged, see below

examples:
  python -m experiments.compare reference.engine=fp32 candidate.engine=bf16 workload=smoke
  python -m experiments.compare reference.revision=HEAD~1 candidate.revision=HEAD workload=smoke
  python -m experiments.compare candidate.model.checkpoint=/path/mine.safetensors compare.sentinel=true
  python -m experiments.compare reference.engine=upstream candidate.engine=fp32 compare=quick compare.pairs=48

Functions of a repository of your own, at two of its revisions: `python -m experiments.functions --help`.

Leaves verdict.json, summary.md (for a pull request), junit.xml and pairs.jsonl (every call) in out=DIR, a fresh folder.
exit codes: 0 pass (also WARN), 2 usage or configuration, 10 regression, 11 inconclusive, 12 environment invalid,
14 a side failed or its audio is invalid, 130 interrupted
"""


@with_presets
def main(argv: Sequence[str]) -> int:
    shared = [word for word in argv if "=" in word and word.partition(".")[0] not in SIDES]
    if COMPARE.answered(argv, HELP, shared):
        return EXIT_OK
    from experiments.compare.leave import publish, report_failure
    from experiments.compare.processes import SideFailed
    from experiments.measuring.running import default_out, sync_tracking

    command = read_command(argv)
    config = _own_settings(command)
    out = Path(str(config["out"] or default_out("compare")))
    with ExitStack() as stack:
        try:
            comparison = run_comparison(command, out, stack)
        except SideFailed as failure:
            asked = {side: asdict(request) for side, request in command.sides.items()}
            exit_code = report_failure(failure, out, asked, config["device"], tracking=config["tracking"])
        else:
            publish(comparison, out, command.settings.asked.model_dump(), tracking=config["tracking"])
            exit_code = comparison.verdict.exit_code
    sync_tracking(config, out)
    return exit_code


def run_comparison(command: Command, out: Path, stack: ExitStack) -> Comparison:
    """Everything but the writing. Raises ConfigError and SideFailed."""
    from experiments.compare.leave import refuse_used
    from experiments.compare.preparing import prepare
    from experiments.compare.session import measure, open_bench

    refuse_used(out)
    with naming_sides(command):
        prepared = prepare(command, out, stack)
    say(opening(prepared, out))
    device = str(prepared.device["kind"])
    mode, most_s = prepared.specs[0].config["sweep"]["lock"], prepared.settings.asked.time_limit_s
    lock = stack.enter_context(device_lock(device, mode, say, f"at most {most_s / 60:.0f} min"))
    return measure(prepared, open_bench(prepared, out, lock, stack), say)


def opening(prepared: Prepared, out: Path) -> str:
    """What is going to be compared, and what it may cost, before anything is built."""
    from experiments.compare.session import LOG

    settings, labels = prepared.settings, prepared.labels
    most = settings.limits.looks[-1]
    how = (
        f"at most {most} pairs in one set of processes"
        if settings.limits.mode == "quick"
        else f"at most {most} blocks of {settings.plan.turns_per_block} pairs, each in fresh processes"
    )
    sentences = len(prepared.workload.requests)
    many = f"{sentences} sentence{'s' if sentences != 1 else ''}"
    return (
        f"{labels[CANDIDATE]} against {labels[REFERENCE]}: {many}, {how}, at most "
        f"{settings.asked.time_limit_s / 60:.0f} min; building both, log in {out / LOG}"
    )


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _own_settings(command: Command) -> Config:
    """`out`, `tracking` and `device`, which are those of the whole comparison. Raises ConfigError."""
    own = {
        side: as_plain(compose_config([text for text in request.overrides if key_of(text).split(".")[0] in OWN]))
        for side, request in command.sides.items()
    }
    for key, reason in (("tracking", "a comparison is logged once"), ("out", "a comparison has one folder")):
        if own[REFERENCE][key] != own[CANDIDATE][key]:
            raise ConfigError(key, "(differs)", reason, "set it without reference. or candidate. before it")
    return as_config(own[CANDIDATE])


if __name__ == "__main__":
    sys.exit(run_verb(main))
