"""What a measuring job left, as another job finds it: text of a stranger, of which only known forms are believed.

ROOT/f5bench-NAME/ holds pull_request.txt, exit_code.txt and verdict.json, in it or one folder below. A pull request can
make its own job write anything, so a comment informs and proves nothing: the number is held against the commit by the
caller, a name is a few letters, a code is one of a list, and every value of a verdict is checked where it is read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from metrics.record import RecordError
from reports.verdicts.comment import Measurement, failed_measurement, read_measurement

PREFIX = "f5bench-"
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")
NUMBER = re.compile(r"[1-9][0-9]{0,8}")
CODE = re.compile(r"0|1|2|1[0-4]|130")
BIGGEST_BYTES = 2_000_000
NUMBER_FILE, CODE_FILE = "pull_request.txt", "exit_code.txt"


def folders_in(root: Path) -> list[tuple[str, Path]]:
    """(name, folder) of every measurement, by name; others are left alone. Raises RecordError where there is none."""
    places = sorted(root.glob(f"{PREFIX}*")) if root.is_dir() else []
    named = [(place.name.removeprefix(PREFIX), place) for place in places if place.is_dir() and not place.is_symlink()]
    found = [(name, place) for name, place in named if NAME.fullmatch(name)]
    if not found:
        raise RecordError(f"{root}: holds no folder {PREFIX}NAME; download the artifacts of the measuring job into it")
    return found


def pull_request_of(root: Path) -> int:
    """The one number that all measurements name. Raises RecordError."""
    texts = {_text(folder / NUMBER_FILE) for _, folder in folders_in(root)}
    number = texts.pop() if len(texts) == 1 else None
    if number is None or not NUMBER.fullmatch(number):
        raise RecordError(f"{root}: names no pull request, or two; the measuring job writes {NUMBER_FILE}")
    return int(number)


def measurements_in(root: Path, link: str | None) -> Sequence[Measurement]:
    """One a folder; what cannot be read is a failure with its reason."""
    found = []
    for name, folder in folders_in(root):
        code = _text(folder / CODE_FILE)
        try:
            _refuse_strange(folder)
            ended = int(code) if code is not None and CODE.fullmatch(code) else 1
            found.append(read_measurement(name, folder, link, ended))
        except RecordError as error:
            found.append(failed_measurement(name, str(error), link))
    return found


def _refuse_strange(folder: Path) -> None:
    """A link, or a file that no verdict is as big as. Raises RecordError."""
    for path in folder.rglob("verdict.json"):
        if path.is_symlink() or path.parent.is_symlink() or path.stat().st_size > BIGGEST_BYTES:
            raise RecordError(f"{path.name}: is a link or too big to be a verdict; measure again")


def _text(path: Path) -> str | None:
    """One short line of a plain file, else None."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > 64:
        return None
    return path.read_bytes().decode("ascii", errors="replace").removesuffix("\n")
