"""A comment on a pull request from what was measured: `python -m reports.comment FOLDER ...`, one sentence a folder."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from metrics.process import settle
from metrics.record import RecordError, write_atomically
from reports.commands import VerbParser, here
from reports.comment.artifact import PREFIX, folders_in, measurements_in, pull_request_of
from reports.comment.github import GitHub
from reports.verdicts.comment import (
    MARK,
    MAX_CHARS,
    Measurement,
    comment_markdown,
    heading,
    outputs,
    read_measurement,
)

EXIT_OK = 0
EXIT_USAGE = 2
COMMIT = re.compile(r"[0-9a-f]{40}")
LINK = re.compile(r"https?://[A-Za-z0-9./_#?=&%:~-]+")
DESCRIPTION = f"""{__doc__}
A FOLDER is what compare, gate, quality-gate or a walk left (verdict.json, bisect.json), or holds such folders: speed
and quality of one change are then one sentence. Several changes are several folders: one with two verdicts of a kind is
refused. Prints Markdown. Nothing is judged here again.

  --post writes it as the one comment of the pull request, and edits that comment from then on; every measurement gets a
  check besides: success, failure, or neutral where it cannot tell. With --artifacts ROOT instead of folders it takes
  all ROOT/{PREFIX}NAME/ of a measuring job, and the number from them, which is believed only if it is of COMMIT.

examples:
  python -m reports.comment outputs/A
  python -m reports.comment outputs/A --name cpu --outputs outputs.txt --exit-code 11
  python -m reports.comment --artifacts downloaded --post --commit 0123456789012345678901234567890123456789

exit codes: 0 done, 2 usage, or GitHub refused
"""


def main(argv: Sequence[str] | None = None) -> int:
    """0 where all was written, 2 with one line on stderr."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        settle(words)
        given = _parser().parse_args(words)
        _refuse_unfit(given)
        measurements = _measurements(given)
        body = comment_markdown(measurements)
        print(body, end="")
        if given.outputs is not None:
            _append_outputs(given.outputs, measurements[0])
        if given.out is not None:
            write_atomically(given.out, body)
        return _post(given, measurements, body) if given.post else EXIT_OK
    except RecordError as error:
        return _complain(str(error))
    except OSError as error:
        return _complain(f"{error.filename}: {error.strerror}; give another path")


def _measurements(given: argparse.Namespace) -> Sequence[Measurement]:
    if given.artifacts is not None:
        return measurements_in(given.artifacts, given.link)
    many = len(given.folders) > 1
    names = [folder.name if many else given.name or folder.name for folder in given.folders]
    pairs = zip(names, given.folders, strict=True)
    return [read_measurement(name, folder, given.link, given.exit_code) for name, folder in pairs]


def _append_outputs(path: Path, measurement: Measurement) -> None:
    """KEY=VALUE lines as GITHUB_OUTPUT takes them; a sentence has no line breaks."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{key}={value}\n" for key, value in outputs(measurement).items())


def _post(given: argparse.Namespace, measurements: Sequence[Measurement], body: str) -> int:
    """Nothing is written where the pull request has moved on: the run of its newest commit comments."""
    github = GitHub.of(os.environ)
    number = given.pull_request or pull_request_of(given.artifacts)
    if github.head_of(number) != given.commit:
        print(f"pull request {number} is not at {given.commit[:12]}: its newest run comments", file=sys.stderr)
        return EXIT_OK
    for one in measurements:
        summary = comment_markdown([one]).removeprefix(MARK)[:MAX_CHARS]
        github.check(given.commit, f"f5bench {one.name}", one.conclusion, heading(one, is_named=False), summary)
    was_there = github.upsert(number, MARK, body)
    print(f"pull request {number}: the comment was {'edited' if was_there else 'written'}", file=sys.stderr)
    return EXIT_OK


def _refuse_unfit(given: argparse.Namespace) -> None:
    """Raises RecordError for flags that do not go together."""
    if bool(given.folders) == (given.artifacts is not None):
        raise RecordError("FOLDER: give folders with a verdict, or --artifacts ROOT; one of the two")
    if given.artifacts is not None:
        folders_in(given.artifacts)
    if given.link is not None and not LINK.fullmatch(given.link):
        raise RecordError(f"--link={given.link}: must be an http address; give the page of the run")
    if given.post and not COMMIT.fullmatch(given.commit or ""):
        raise RecordError(f"--commit={given.commit}: must be the 40 letters of a commit; --post needs it")
    if given.post and given.pull_request is None and given.artifacts is None:
        raise RecordError("--pull-request: which one to comment on; give its number")
    if given.pull_request is not None and given.pull_request < 1:
        raise RecordError(
            f"--pull-request={given.pull_request}: must be a number from 1; leave it out with --artifacts"
        )


def _parser() -> VerbParser:
    parser = VerbParser(prog="python -m reports.comment", description=DESCRIPTION)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", type=Path)
    parser.add_argument("--artifacts", metavar="ROOT", type=Path, help="folder of downloaded artifacts")
    parser.add_argument("--name", help="what the measurement is called (default: the folder's name)")
    parser.add_argument("--exit-code", type=int, metavar="N", help="how what measured ended, where it left no verdict")
    parser.add_argument("--link", metavar="URL", help="where everything that was measured lies")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the Markdown there as well")
    parser.add_argument("--outputs", metavar="FILE", type=Path, help="append verdict, ratio and sentence as KEY=VALUE")
    parser.add_argument("--post", action="store_true", help="write or edit the comment, and make the checks")
    parser.add_argument("--pull-request", type=int, metavar="N", help="its number, where no artifact names it")
    parser.add_argument("--commit", metavar="SHA", help="the commit that was measured")
    return parser


def _complain(message: str) -> int:
    print(f"error: {here(' '.join(message.split()))}", file=sys.stderr)
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
