"""Sets up a Jetson, from a fresh JetPack to proven engines: `make jetson`, or `python -m experiments.setup_jetson`.

    python -m experiments.setup_jetson --dry-run   prints the commands for this board and runs none

    python -m experiments.setup_jetson --l4t 36.4.4 --family agx-orin --wheels-only    while an image is built

Only the standard library is needed. The line for apt is printed and never run. On JetPack 6 the variable JETSON_INDEX
holds the address of an index with wheels for jp6/cu126 (docs/jetson.md). Exit code: that of the last step, the
GPU check; 2 where this machine is refused; 14 where a step before it failed.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.jetson.board import read_jetson
from experiments.jetson.plan import (
    CONSTRAINTS,
    INDEX,
    INDEX_WORD,
    KEPT,
    ORIN,
    PYTHON,
    THOR,
    Plan,
    Refused,
    Step,
    constraints_of,
    plan,
)
from experiments.jetson.tree import Tree
from metrics.process import settle
from reports.commands import VerbParser, here

REPOSITORY = Path(__file__).resolve().parents[1]
EXIT_OK, EXIT_REFUSED, EXIT_STEP_FAILED, EXIT_INTERRUPTED = 0, 2, 14, 130
# Run in the environment that is made: versions of what is there, as pip has them
VERSIONS = """
import json, sys
from importlib import metadata
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def main(argv: Sequence[str], root: Path = Path("/")) -> int:
    """root: below which the board is looked for."""
    parser = VerbParser(prog="python -m experiments.setup_jetson", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="print the commands and run none")
    parser.add_argument("--wheels-only", action="store_true", help="without doctor and GPU check, which need the board")
    parser.add_argument("--l4t", help="release of the board that it is for, where that is not to be seen: 36.4.4")
    parser.add_argument("--family", choices=(*ORIN, *THOR), help="that board")
    options = parser.parse_args(argv)
    settle(argv)
    if (options.l4t is None) != (options.family is None):
        parser.error("--l4t and --family belong together: give both")
    board = read_jetson(Tree(root)) if options.l4t is None else None
    l4t, family = (options.l4t, options.family) if board is None else (board.l4t, board.family)
    try:
        made = plan(l4t, sys.version_info[:2], family, sys.executable)
        if options.wheels_only:
            made = replace(made, steps=tuple(step for step in made.steps if not step.needs_board))
        if made.index_needed and not os.environ.get(INDEX) and not options.dry_run:
            raise Refused(f"{INDEX} is not set: it holds the address of an index with wheels for jp6/cu126; "
                          f"docs/jetson.md says which it must have")  # fmt: skip
    except Refused as error:
        print(f"error: {here(str(error))}", file=sys.stderr)
        return EXIT_REFUSED
    print(shown(made), flush=True)
    return EXIT_OK if options.dry_run else run(made.steps, os.environ)


def shown(made: Plan) -> str:
    """The whole plan as a shell would take it."""
    lines = [f"# {made.title}", "# First, by hand:", f"#   {shlex.join(['sudo', 'apt', 'install', *made.apt])}"]
    if made.index_needed:
        lines.append(f"# {INDEX}: the address of an index with wheels for jp6/cu126")
    lines += [f"# {note}" for note in made.notes]
    for step in made.steps:
        lines.append(f"# {step.said}")
        if step.words:
            lines.append(" ".join(word if word == INDEX_WORD else shlex.quote(word) for word in step.words))
    return "\n".join(lines)


def run(steps: Sequence[Step], environ: Mapping[str, str]) -> int:
    """In the repository, one after the other, up to the first that fails."""
    code = EXIT_OK
    for number, step in enumerate(steps, start=1):
        print(f"[{number}/{len(steps)}] {step.said}", file=sys.stderr, flush=True)
        words = [environ[INDEX] if word == INDEX_WORD else word for word in step.words]
        code = subprocess.run(words, cwd=REPOSITORY, check=False).returncode if words else _write_constraints()
        if code != 0:
            if step.ends_with_its_code:
                return code
            print(f"error: step {number} ended with exit code {code}; see what it printed, then `make jetson` again",
                  file=sys.stderr)  # fmt: skip
            return EXIT_STEP_FAILED
    return code


def _write_constraints() -> int:
    """What pip must leave alone from now on."""
    done = subprocess.run(
        [PYTHON, "-c", VERSIONS, *KEPT], cwd=REPOSITORY, stdout=subprocess.PIPE, encoding="utf-8", check=False
    )
    if done.returncode == 0:
        (REPOSITORY / CONSTRAINTS).write_text(constraints_of(json.loads(done.stdout)), encoding="utf-8")
    return done.returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
