"""`python -m reports.site`: write docs/results.md again from reports/published."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from metrics.record import write_atomically
from reports.commands import VerbParser
from reports.site.results import PAGE, results_page


def main(argv: Sequence[str] | None = None) -> int:
    """0 where the page was written, 2 with one line on stderr where something published cannot be read."""
    VerbParser(prog="python -m reports.site", description=__doc__).parse_args(argv)
    try:
        text = results_page()
    except (OSError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    write_atomically(PAGE, text)
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
