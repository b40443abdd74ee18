"""Two Python functions in one run, with a verdict: `python -m experiments.functions --help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from experiments.common.cli import EXIT_OK, note, run_verb
from experiments.common.device_lock import device_lock
from experiments.compare.leave import publish, refuse_used, report_failure
from experiments.compare.processes import SideFailed
from experiments.compare.session import measure
from experiments.functions.settings import FunctionCommand, read_command
from experiments.functions.sides import open_bench, prepare_functions
from experiments.measuring.running import default_out
from experiments.settings.front import is_help, refuse_flags, show_help
from reports.verdicts.paired import Comparison

HELP = """Compare two Python functions of any repository, or one function at two of its revisions: pairs of calls, one
right after the other in random order, in rounds of fresh processes, until the verdict is certain.

  function=MODULE:NAME    called without arguments, or with one text a call; what it loads once is loaded before the
                          clock runs, and it must have finished when it returns (torch's GPU is waited for)
  repository=DIR          a checkout (default: here); revision=COMMIT takes that commit of it
  path=src                the folder of the repository that is imported from (default: its root)
  python=FILE             the interpreter (default: python3): its environment holds what the module needs
    each for both sides, or for one: reference.KEY=VALUE, candidate.KEY=VALUE
  texts=FILE              one text a line; every call gets the next one
  calls=N                 calls in one timed region (default 1); for a function of less than a millisecond, many
  device=cpu, threads=N   what is locked and recorded, and the threads that both sides may use
  ignore_ratio, catch_ratio, pairs_per_block, looks, time_limit_s, sentinel ...   see conf/compare/blocks.yaml

A revision is checked out without being built, and without submodules: where it has to be built, give two checkouts that
are (reference.repository=A candidate.repository=B). What is returned is not judged; whether it is the same is said.

examples:
  python -m experiments.functions function=app.speech:say reference.revision=HEAD~1 candidate.revision=HEAD path=src
  python -m experiments.functions reference.function=app.old:say candidate.function=app.new:say texts=lines.txt

Leaves verdict.json, summary.md, junit.xml and pairs.jsonl (every call) in out=DIR, a fresh folder.
exit codes: 0 pass (also WARN), 2 usage or configuration, 10 regression, 11 inconclusive, 12 environment invalid,
14 a side failed, 130 interrupted
"""


def main(argv: Sequence[str]) -> int:
    if is_help(argv):
        show_help(HELP)
        return EXIT_OK
    refuse_flags(argv)
    command = read_command(argv)
    out = command.out or default_out("functions")
    with ExitStack() as stack:
        try:
            comparison = run_comparison(command, out, stack)
        except SideFailed as failure:
            asked = {side: _typed(command, side) for side in command.sides}
            return report_failure(
                failure, out, asked, {"name": command.device, "kind": command.device, "threads": command.threads}
            )
    publish(comparison, out, command.settings.asked.model_dump())
    return comparison.verdict.exit_code


def run_comparison(command: FunctionCommand, out: Path, stack: ExitStack) -> Comparison:
    """Everything but the writing. Raises ConfigError and SideFailed."""
    refuse_used(out)
    prepared = prepare_functions(command, out, stack)
    lock = stack.enter_context(device_lock(command.device, "wait", note))
    return measure(prepared, open_bench(prepared, out, lock, stack), note)


def _typed(command: FunctionCommand, side: str) -> dict[str, str | None]:
    content = asdict(command.sides[side])
    return {key: None if value is None else str(value) for key, value in content.items()}


if __name__ == "__main__":
    sys.exit(run_verb(main))
