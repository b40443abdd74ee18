"""Verdicts on a terminal: their outcomes in colour, nothing else, and lines that the terminal wraps, not we."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.text import Text

from reports.commands import here

STYLES: Mapping[str, str] = {
    "PASS": "bold green", "WARN": "bold yellow", "FAIL": "bold red", "INCONCLUSIVE": "bold yellow",
    "INVALID_ENV": "bold red", "NO_BASELINE": "bold yellow",
}  # fmt: skip
# Where a verdict's lines carry one: at their start, indented or not
_LEADING = re.compile(rf"^ *({'|'.join(STYLES)})\b")


def print_verdict(lines: Iterable[str], console: Console | None = None) -> None:
    """On stdout, commands in them as they can be typed here. Without a terminal, or with NO_COLOR, plain text."""
    console = console or Console(highlight=False, markup=False, emoji=False)
    for line in lines:
        text = Text(here(line))
        if found := _LEADING.match(text.plain):
            text.stylize(STYLES[found[1]], found.start(1), found.end(1))
        console.print(text, soft_wrap=True)
