"""The commit that made it slower: `python -m experiments.bisection good=REV bad=REV`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract import ConfigError
from experiments.bisection.settings import BISECT, Command, composed_words, read_command, resume_folder
from experiments.common.cli import (
    EXIT_JOB_FAILED,
    EXIT_OK,
    EXIT_USAGE,
    complain,
    note,
    refuse_unwritable,
    resume_command,
    run_verb,
)
from experiments.common.device_lock import folder_lock
from experiments.common.presets import with_presets
from experiments.settings.keys import key_of
from reports.commands import here, typed

if TYPE_CHECKING:
    from experiments.bisection.ledger import Ledger
    from experiments.bisection.walk import Walk
    from reports.bisection import Walked

HELP = """Walk the commits between a revision that was fast and one that is slow, to the one that made it slower: each
step compares a revision with the fast one, and what is found is proven against the commit before it.

  good=REV              the revision that was fast; bad=REV (default HEAD) the one that is slow
  bisect.KEY=VALUE      how far the walk may go and how often it may be wrong, see below
  compare.KEY=VALUE     how each comparison is measured (python -m experiments.compare --help)
  function=MODULE:NAME  walk over revisions of a function instead of an engine; repository, path, python, texts, calls,
                        device, threads as in python -m experiments.functions --help
  out=DIR, resume=DIR   a fresh folder for the walk; go on with one that was interrupted
  Everything else is an override of the engine, for both sides.

Where a comparison cannot tell, or a revision cannot be built, another revision of the range is tried, and what remains
is named as suspect. Of an engine's commits only those that change engine/ or conf/ are walked, for they are what is
measured.

examples:
  python -m experiments.bisection good=v1.0 bad=HEAD workload=smoke
  python -m experiments.bisection good=v1.0 engine=int8 workload=smoke compare.catch_ratio=1.03
  python -m experiments.bisection good=v1.0 bad=main function=app.speech:say repository=. path=src
  python -m experiments.bisection resume=outputs/20260101-120000-bisect

Leaves bisect.json, summary.md, junit.xml, bisect.jsonl (a line a comparison) and a folder a comparison in out=DIR.
exit codes: 0 bad is not slower by what must be caught, 2 usage or configuration, 10 the commit is found, 11 cannot tell
(with the suspects), 12 environment invalid, 14 an end of the walk failed, 130 interrupted
"""


@with_presets
def main(argv: Sequence[str]) -> int:
    if BISECT.answered(argv, HELP, composed_words(argv)):
        return EXIT_OK
    folder = resume_folder(argv)
    command = read_command(argv) if folder is None else None
    # What measures is imported once --help is answered
    from experiments.bisection.ledger import load_ledger
    from experiments.measuring.running import default_out

    if command is None:
        ledger = load_ledger(Path(str(folder)))
        return walk_in(_resumed(ledger), ledger)
    out = command.out or default_out("bisect")
    ledger = _new_ledger(command, out, argv)
    with refuse_unwritable("out", out):
        out.mkdir(parents=True, exist_ok=True)
    return walk_in(command, ledger)


def _new_ledger(command: Command, out: Path, argv: Sequence[str]) -> Ledger:
    """Nothing is written yet. Raises ConfigError for revisions between which there is nothing to walk."""
    from experiments.bisection.comparing import repository_of
    from experiments.bisection.ledger import Ledger
    from experiments.bisection.revisions import line_between

    root, measured = repository_of(command)
    line = line_between(command.good, command.bad, root, measured)
    ends = (f"good={line.revisions[0].commit}", f"bad={line.revisions[-1].commit}")
    words = [word for word in argv if key_of(word) not in ("good", "bad", "out")]
    return Ledger(folder=out, argv=(*ends, *words), repository=str(root), line=line)


def _resumed(ledger: Ledger) -> Command:
    """Raises ConfigError where the words lead to another repository than they did."""
    from experiments.bisection.comparing import repository_of

    command = read_command(ledger.argv)
    root, _ = repository_of(command)
    if str(root) != ledger.repository:
        remedy = "go on from the folder in which the walk was begun"
        raise ConfigError("resume", ledger.folder, f"is a walk in {ledger.repository}, not in {root}", remedy)
    return command


def walk_in(command: Command, ledger: Ledger) -> int:
    """Start or go on, and leave the files. Raises ConfigError."""
    from experiments.bisection.ledger import start_ledger

    with folder_lock(ledger.folder, "resume", "walk"):
        walk = _walk(command, ledger if ledger.steps else start_ledger(ledger))
        line = ledger.line
        of = f", {walk.plan.num_commits} of which change {' or '.join(line.of)}" if line.of else ""
        note(f"{line.num_commits} commits{of}; at most {walk.plan.most} comparisons, all in {ledger.folder}")
        try:
            return _ended(walk, command)
        except KeyboardInterrupt:
            note(here(f"go on with: {resume_command('bisection', ledger.folder)}"))
            raise


def _walk(command: Command, ledger: Ledger) -> Walk:
    from baselines.paired.walk import WalkPlan
    from experiments.bisection.comparing import compared
    from experiments.bisection.walk import Walk

    plan = WalkPlan(
        num_commits=len(ledger.line.revisions) - 1, wrong_frac=command.settings.wrong_frac,
        spare=command.settings.spare,
    )  # fmt: skip
    return Walk(
        ledger=ledger, plan=plan, compare=lambda asked, out, say: compared(command, asked, out, say), say=note,
        settings={"bisect": command.settings.model_dump(), "words": list(command.words)},
    )  # fmt: skip


def _ended(walk: Walk, command: Command) -> int:
    """The walk's exit code; its files are on the disk, and what they say on the terminal."""
    from experiments.common.environment import now_iso
    from experiments.compare.processes import SideFailed
    from reports.bisection import CONTENT, Walked, write_walked
    from reports.verdicts.coloured import print_verdict
    from reports.verdicts.sheet import terminal_lines

    try:
        verdict = walk.run()
    except SideFailed as failure:
        complain(failure)
        return EXIT_USAGE if failure.kind in ("ConfigError", "InvalidRequest") else EXIT_JOB_FAILED
    ledger = walk.ledger
    walked = Walked(
        verdict=verdict, plan=walk.plan, revisions=[(one.commit, one.subject) for one in ledger.line.revisions],
        tried=ledger.tried, folders=[step.folder for step in ledger.steps], num_commits=ledger.line.num_commits,
        of=ledger.line.of, environment=walk.environment or {"host_class": ledger.host_class},
        wall_s=sum(step.wall_s for step in ledger.steps),
    )  # fmt: skip
    sheet = write_walked(replace(walked, todo=_todo(walked, ledger, command)), now_iso(), ledger.folder)
    print_verdict(terminal_lines(sheet))
    print(f"walk {ledger.folder / CONTENT}")
    return verdict.exit_code


def _todo(walked: Walked, ledger: Ledger, command: Command) -> tuple[tuple[str, str], ...]:
    """What to type next, where there is more to find."""
    from experiments.bisection.revisions import inside_of_merge

    verdict, revisions = walked.verdict, ledger.line.revisions
    if verdict.culprit is None:
        return ()
    found = revisions[verdict.culprit].commit
    todo = []
    inside = inside_of_merge(found, Path(ledger.repository))
    if inside is not None:
        words = (f"good={inside[0]}", f"bad={inside[1]}", *command.words)
        todo.append(("it is a merge; the walk inside of it", typed("experiments.bisection", *words)))
    if verdict.in_parts and found != revisions[-1].commit:
        words = (f"good={found}", f"bad={revisions[-1].commit}", *command.words)
        todo.append(("the rest of the slowdown", typed("experiments.bisection", *words)))
    return tuple(todo)


if __name__ == "__main__":
    sys.exit(run_verb(main))
