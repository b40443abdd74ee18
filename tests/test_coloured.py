"""A verdict on a terminal: the outcome alone in colour, long lines whole, plain text in a pipe."""

import io

import pytest
from rich.console import Console

from metrics.verdict import SEVERITY
from reports.verdicts.coloured import STYLES, print_verdict

LONG = "  FAIL         wall_time  " + "x1.123 (1.101 to 1.145) " * 20 + "[not markup] :smile:"


def shown(lines: list[str], **options: object) -> str:
    output = io.StringIO()
    print_verdict(lines, Console(file=output, highlight=False, markup=False, emoji=False, **options))
    return output.getvalue()


@pytest.mark.parametrize("width", [80, 160])
def test_lines_stay_whole_at_any_width(width: int) -> None:
    assert shown(["PASS: all is well", LONG], width=width) == f"PASS: all is well\n{LONG}\n"


def test_only_a_leading_outcome_is_coloured() -> None:
    text = shown(
        ["FAIL: no PASS here", "  a FAIL within", "PASSAGE"], width=80, force_terminal=True, color_system="standard"
    )
    assert text == "\x1b[1;31mFAIL\x1b[0m: no PASS here\n  a FAIL within\nPASSAGE\n"


def test_every_outcome_has_a_colour() -> None:
    assert set(STYLES) == set(SEVERITY)
