"""`python -m experiments`: what there is to run, in a line each."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.contract import ConfigError
from experiments.common.cli import EXIT_OK, run_verb
from experiments.settings.front import is_help, show_help
from reports.commands import typed, verbs_in

INTERNAL = ("worker", "compare_worker", "load_cold", "doctor_probe")  # programs that verbs start


def main(argv: Sequence[str]) -> int:
    if argv and not is_help(argv):
        remedy = f"write {typed(f'experiments.{argv[0]}')}"
        raise ConfigError("verb", argv[0], "a verb is a module of its own", remedy)
    verbs = {name: text for name, text in verbs_in(Path(__file__).parent).items() if name not in INTERNAL}
    width = max(map(len, verbs))
    lines = [f"  {name:<{width}}  {re.split(r':? `', text)[0].rstrip('.')}" for name, text in verbs.items()]
    usage = "usage: python -m experiments.VERB [KEY=VALUE ...], and --help of each"
    others = "beside them: python -m reports DIR, python -m reports.listening --help"
    show_help("\n".join([usage, "", *lines, "", others]))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_verb(main))
