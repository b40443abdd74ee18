"""Commands as people can type them here: quoted for the shell, for the running interpreter, from where they stand.

Messages are written for the root of a clone with its virtual environment switched on. At the edge, where one is printed
for a person, `here` puts in what works on this machine in this folder. Files keep the general form: they are read
elsewhere.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import itertools
import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from reports.verbs import MODULES

ROOT = Path(__file__).resolve().parent.parent
EXIT_USAGE = 2
CALLED_AS = "F5BENCH_CALLED_AS"  # set where f5bench started this process: messages then spell commands by it
PAGE = "report.html"  # what a report leaves in its folder to be opened
# A word of its own, and not the end of a path: what was put in once stays as it is
_MAIN = re.compile(r'^if __name__ == "__main__":', re.MULTILINE)
# What was a module of its own under another name, and scripts that people keep still call so
MOVED = {
    "experiments.calibrate_reuse": "experiments.solvers.calibrate_reuse",
    "experiments.checks.fleet_chaos": "experiments.checks.fleet.chaos",
    "experiments.fit_solver": "experiments.solvers.fit",
    "experiments.floor": "experiments.scoring.floor",
    "experiments.gate_selftest": "experiments.selftest.stored",
    "experiments.gpu_check": "experiments.checks.gpu",
    "experiments.gpu_correct": "experiments.checks.gpu_correct",
    "experiments.overhead": "experiments.checks.overhead",
    "experiments.pocket_eval": "experiments.pocket.evaluate",
    "experiments.quality_selftest": "experiments.selftest.quality",
    "experiments.score": "experiments.scoring.score",
    "experiments.step_error": "experiments.checks.step_error",
    "experiments.train_pocket": "experiments.pocket.train",
}
_ALONE = r"(?<![\w./-])"
_PYTHON = re.compile(_ALONE + r"python(?= -m [a-z])")
_MODULE = r"((?:experiments|reports)(?:\.\w+)*)(?![\w.]*\w)"
_VERB = re.compile(f"{_ALONE}python -m {_MODULE}")
# A module of a verb named in a sentence; a package alone ("reports") is a word as well
_NAMED = re.compile(_ALONE + r"((?:experiments|reports)(?:\.\w+)+)(?![\w.]*\w)")
_NAMES = {module: verb for verb, module in MODULES.items()}
_PIP = re.compile(_ALONE + r"(?<!-m )pip(?= (?:un)?install )")
_HUB = re.compile(_ALONE + r"hf(?= download )")
_MLFLOW = re.compile(_ALONE + r"mlflow(?= (?:ui|experiments|db) )")
_EXTRA = re.compile(r"""(?P<quote>['"]?)(?<![\w./])\.\[(?P<names>[a-z,]+)\](?P=quote)""")
_CONSTRAINTS = re.compile(r"(?<=-c )constraints\.txt")
_FOLDER = re.compile(
    _ALONE + r"(?P<tool>git|make)(?P<rest> (?:restore|fetch|log|bench|test|lint|doctor|gpu-check|jetson|install)\b)"
)


def typed(module: str, *words: object) -> str:
    """`python -m MODULE WORDS`, each word quoted where a shell would change it."""
    return shlex.join(["python", "-m", module, *map(str, words)])


def interpreter() -> str:
    """How the running Python is called from here: by its name where that finds it, else by its path."""
    path = Path(sys.executable)
    found = shutil.which("python")
    return "python" if found is not None and Path(found) == path else _shown(path)


def here(text: str) -> str:
    """`text` with every command in it as it has to be typed on this machine, in this folder."""
    python = interpreter()
    if program := os.environ.get(CALLED_AS):
        for pattern in (_VERB, _NAMED):
            text = pattern.sub(lambda match: f"{program} {_NAMES[match[1]]}" if match[1] in _NAMES else match[0], text)
    text = _PYTHON.sub(lambda match: python, text)
    text = _PIP.sub(lambda match: f"{python} -m pip", text)
    text = _HUB.sub(lambda match: _program("hf"), text)
    text = _MLFLOW.sub(lambda match: _program("mlflow"), text)
    if Path.cwd() == ROOT:
        return text
    text = _EXTRA.sub(lambda match: shlex.quote(f"{ROOT}[{match['names']}]"), text)
    text = _CONSTRAINTS.sub(lambda match: shlex.quote(str(ROOT / "constraints.txt")), text)
    return _FOLDER.sub(lambda match: f"{match['tool']} -C {shlex.quote(str(ROOT))}{match['rest']}", text)


def shown_program(path: Path) -> str:
    """How a script that is running is called from here: by its name where that finds it, else by its path."""
    found = shutil.which(path.name)
    return path.name if found is not None and Path(found).resolve() == path.resolve() else _shown(path)


def verbs_in(folder: Path) -> dict[str, str]:
    """Name below the package -> its purpose in a line, of every module that `python -m` runs. Nothing is imported."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__main__" else parts)
        text = path.read_text(encoding="utf-8")
        if name and _MAIN.search(text):
            found[name] = (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]
    return dict(sorted(found.items()))


def refuse_misspelt(package: str, folder: Path) -> None:
    """For a package's `__init__`: a line, and exit code 2, where `python -m PACKAGE.NAME` names no module of it.

    Python sets sys.argv[0] to "-m" while it looks for the module; the name stands in sys.orig_argv.
    """
    if sys.argv[:1] != ["-m"]:
        return
    asked = next((word for flag, word in itertools.pairwise(sys.orig_argv) if re.fullmatch(r"-[a-zA-Z]*m", flag)), "")
    head, _, name = asked.partition(".")
    if asked in MOVED:
        print(f"error: {asked} has moved; write {here(f'`{typed(MOVED[asked])}`')}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    place = folder.joinpath(*name.split("."))
    if head != package or not name or place.with_suffix(".py").is_file() or (place / "__main__.py").is_file():
        return
    near = difflib.get_close_matches(name, list(verbs_in(folder)), n=1)
    remedy = f"did you mean `{typed(f'{package}.{near[0]}')}`?" if near else f"see `{typed(package, '--help')}`"
    print(f"error: {package}.{name}: there is no such command; {here(remedy)}", file=sys.stderr)
    sys.exit(EXIT_USAGE)


def _program(name: str) -> str:
    """A program that a package of the running environment brought along."""
    path = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    return name if found is not None and Path(found) == path else _shown(path)


def _shown(path: Path) -> str:
    """Relative to the folder the user stands in, where it lies below; never through a link to another place."""
    here_first = os.path.relpath(path)
    return shlex.quote(str(path) if here_first.startswith(os.pardir) else here_first)


class Offered(Exception):
    """Instead of parsing: what may stand where the cursor is."""

    def __init__(self, words: Sequence[str]):
        super().__init__()
        self.words = list(words)


class VerbParser(argparse.ArgumentParser):
    """The flags of a verb on folders: no abbreviations; a mistake is one line and exit code 2, as everywhere.

    completing: set while a shell asks for words; nothing is parsed then, and `Offered` is raised.
    """

    completing = False

    def __init__(self, *, prog: str, **settings: object) -> None:
        kept = {"formatter_class": argparse.RawDescriptionHelpFormatter, **settings, "allow_abbrev": False}
        # As it is shown, so that what stands below the usage's first line is indented for it
        super().__init__(prog=here(prog), **kept)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"error: {' '.join(message.split())}; see --help\n")

    def format_help(self) -> str:
        return here(super().format_help())

    def format_usage(self) -> str:
        return here(super().format_usage())

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        if VerbParser.completing:
            raise Offered(offered(self, [""] if args is None else args))
        return super().parse_known_args(args, namespace)


def offered(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """Subcommands, flags behind a dash, and the choices of a flag; nothing where a file or free text stands.

    words: of the verb, the last one begun. argparse keeps what a parser takes in `_actions`, which shell completion by
    argcomplete and shtab reads, too.
    """
    *before, begun = words
    for word in before:
        below = _subcommands(parser)
        parser = below.get(word, parser)
    flags = {flag: action for action in parser._actions for flag in action.option_strings}
    asked = flags.get(before[-1]) if before else None
    if asked is not None and asked.nargs != 0:
        found = [str(choice) for choice in asked.choices or ()]
    elif begun.startswith("-"):
        found = list(flags)
    else:
        named = [str(choice) for action in _positionals(parser) for choice in action.choices or ()]
        found = [*named, *(["--help"] if not begun and not _positionals(parser) else [])]
    return [word for word in found if word.startswith(begun)]


def _subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return {
        name: below for action in parser._actions if isinstance(action, argparse._SubParsersAction)
        for name, below in action.choices.items()
    }  # fmt: skip


def _positionals(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Subcommands, or a file or a name, which the shell completes."""
    return [action for action in parser._actions if not action.option_strings]
