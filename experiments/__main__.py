"""One command for every verb: `f5bench` lists them by what a person wants to do, `f5bench VERB ...` runs one.

`python -m experiments` is the same where the console script is not installed. A verb is a module that can also be run
by `python -m`; nothing is imported here before it is known which one is wanted.
"""

from __future__ import annotations

import difflib
import os
import runpy
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from experiments.completion import SHELLS, candidates, script
from reports.commands import CALLED_AS, ROOT, shown_program
from reports.verbs import HARNESS, MODULES, VERBS

PROGRAM = "f5bench"
HELP = ("-h", "--help", "help")
INTERNAL = (
    "measuring.worker",
    "checks.card.child",
    "compare.child",
    "fleet.node",
    "functions.child",
    "load.cold",
    "doctor.kernel",
    "doctor.probe",
)  # programs that verbs start


def overview() -> str:
    """One screen: the verbs by purpose."""
    lines = ["f5bench VERB [...]: speed of F5-TTS with the quality of the very audio that was timed."]
    for purpose, verbs in VERBS.items():
        lines.append(purpose)
        if purpose == HARNESS:
            lines += textwrap.wrap(
                ", ".join(verbs), 90, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
            )
        else:
            lines += [f"  {verb:<19}{said}" for verb, (_, said) in verbs.items()]
    return "\n".join([
        *lines, "f5bench VERB --help shows its settings and examples; start with: f5bench doctor, f5bench run",
        f'completion: eval "$(f5bench completion bash)" ({", ".join(SHELLS)})',
    ])  # fmt: skip


def _show(argv: Sequence[str]) -> int:
    print(overview())
    return 0


def unknown(verb: str) -> str:
    """One line for a verb that there is not."""
    near = difflib.get_close_matches(verb.replace("_", "-"), MODULES, n=1)
    hint = f"did you mean {near[0]}?" if near else "`f5bench` lists them"
    return f"error: {verb}: there is no such verb; {hint}"


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of overview, completion or a mistake; a verb that runs ends the process with its own."""
    given = list(sys.argv[1:] if argv is None else argv)
    if not given or given[0] in HELP:
        from experiments.common.cli import run_verb  # which knows a reader that leaves early

        return run_verb(_show, [])
    verb, rest = given[0], given[1:]
    if argv is None and Path(sys.argv[0]).name == PROGRAM:  # and not `python -m experiments`
        os.environ[CALLED_AS] = shown_program(Path(sys.argv[0]))
    if verb == "completion":
        if rest[:1] and rest[0] in SHELLS:
            print(script(rest[0]))
            return 0
        print(f"error: completion: give one of {', '.join(SHELLS)}", file=sys.stderr)
        return 2
    if verb == "complete":  # asked by the scripts above
        print("\n".join(candidates(rest, MODULES)))
        return 0
    if verb not in MODULES:
        print(unknown(verb), file=sys.stderr)
        return 2
    sys.path.insert(0, str(ROOT))
    sys.argv = [verb, *rest]
    runpy.run_module(MODULES[verb], run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
