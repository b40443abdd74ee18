"""`python -m reports DIR [--print] [--out DIR | --publish DIR]`: render a run, sweep or verdict from its folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from metrics.process import settle
from metrics.record import RecordError
from reports.commands import VerbParser
from reports.data.fleet import FLEET
from reports.data.source import RESULT, SWEEP

EXIT_OK = 0
EXIT_USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """0 where everything was written, 2 with one line on stderr where the folder cannot be rendered."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        settle(words)
        options = _parser().parse_args(words)
    except RecordError as error:
        return _complain(str(error))
    from reports.render.every import render_report  # plots and tables take a second to import, and --help needs none
    from reports.render.terminal import print_report, stdout_console
    from reports.verdicts.page import render_verdict

    try:
        if _is_verdict(options.folder) and options.publish is None:
            print(render_verdict(options.folder, options.out or options.folder))
            return EXIT_OK
        if (options.folder / FLEET).is_file() and options.publish is None and options.out is None:
            return _fleet(options.folder, with_tables=options.print)
        rendered = render_report(options.folder, options.publish or options.out, small=options.publish is not None)
    except RecordError as error:
        return _complain(str(error))
    except OSError as error:
        return _complain(
            f"{error.filename or options.publish or options.out or options.folder}: {error.strerror or error}; "
            "give another folder"
        )
    if options.print:
        print_report(rendered.table, stdout_console())
    for path in rendered.paths:
        print(path)
    return EXIT_OK


def _fleet(folder: Path, *, with_tables: bool) -> int:
    """Every host class by itself, then the overview."""
    from reports.overview import render_fleet
    from reports.render.terminal import print_report, stdout_console

    rendered, overview = render_fleet(folder)
    for name, one in rendered.items():
        print(f"\n{name}\n")
        if with_tables:
            print_report(one.table, stdout_console())
        for path in one.paths:
            print(path)
    print(f"\n{overview.read_text('utf-8')}\n{overview}")
    return EXIT_OK


def _is_verdict(folder: Path) -> bool:
    """A run or a sweep that was judged as well is shown as what it is."""
    from reports.verdicts.page import summary_in

    return summary_in(folder) is not None and not any((folder / name).is_file() for name in (RESULT, SWEEP))


def _parser() -> VerbParser:
    parser = VerbParser(prog="python -m reports", description=__doc__)
    parser.add_argument("folder", metavar="DIR", type=Path, help="what a run, sweep, verdict or load test left")
    parser.add_argument("--print", action="store_true", help="print the table on the terminal as well")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--out", type=Path, default=None, help="folder to write into (default: DIR)")
    where.add_argument("--publish", metavar="DIR", type=Path, default=None,
                       help="write text and small pictures only, to be kept in a repository")  # fmt: skip
    return parser


def _complain(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
