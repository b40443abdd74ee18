"""Journals: one JSON object a line. A line is appended whole or not at all, and read back whatever happened around it.

Every entry has a `kind`. A write that fails is undone, so that the next one begins a line of its own; one whose process
died in the middle leaves a torn line, which the next writer ends with a line break. Files of earlier writers may hold a
torn line with the next entry behind it: that entry is whole, and counts.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn


class LineWriter:
    """Appends lines to one file, which it makes with its folders. Threads and processes may share a file."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open("a+b", buffering=0)
        self._lock = threading.Lock()

    def append(self, text: str) -> None:
        """On the disk when it returns. Raises OSError with the file's name, and then the file is as it was before."""
        with self._lock:
            handle = self._file.fileno()
            fcntl.flock(handle, fcntl.LOCK_EX)
            try:
                self._append(handle, text.encode() + b"\n")
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(self._path)) from error
            finally:
                fcntl.flock(handle, fcntl.LOCK_UN)

    def _append(self, handle: int, left: bytes) -> None:
        num_bytes = os.fstat(handle).st_size
        if num_bytes and os.pread(handle, 1, num_bytes - 1) != b"\n":
            left = b"\n" + left  # behind the torn line of a writer that died
        try:
            while left:
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        except BaseException:
            # What cannot be taken back either (a device, a failing disk) is a torn line to the next writer
            with suppress(OSError):
                os.ftruncate(handle, num_bytes)
            raise

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> LineWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class Lines:
    """whole: (line number from 1, entry) in the order of the file. torn: numbers of lines with something damaged."""

    whole: tuple[tuple[int, dict[str, Any]], ...]
    torn: tuple[int, ...]

    @property
    def entries(self) -> list[dict[str, Any]]:
        return [entry for _, entry in self.whole]


def read_lines(path: Path, kinds: Collection[str]) -> Lines:
    """kinds: of the entries that may stand behind a torn one on its line. Raises OSError."""
    return split_lines(path.read_bytes(), kinds)


def split_lines(content: bytes, kinds: Collection[str]) -> Lines:
    """A last line without its line break is whole where it is a whole object: no part of one ever is."""
    whole: list[tuple[int, dict[str, Any]]] = []
    torn = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        text = line.decode("utf-8", "surrogateescape").strip(" \t\r")
        entries, rest = _leading(text)
        if rest:
            if not all(entry["kind"] in kinds for entry in entries):
                entries, rest = [], text  # the torn entry and the one behind it read as one, that nobody wrote
            torn.append(number)
            entries += _behind_torn(rest, kinds)
        whole += [(number, entry) for entry in entries]
    return Lines(whole=tuple(whole), torn=tuple(torn))


def torn_text(torn: Collection[int]) -> str:
    """line 3 is torn; lines 3 and 7 are torn."""
    numbers = [str(number) for number in torn]
    if len(numbers) == 1:
        return f"line {numbers[0]} is torn"
    return f"lines {', '.join(numbers[:-1])} and {numbers[-1]} are torn"


def _leading(text: str) -> tuple[list[dict[str, Any]], str]:
    """The whole entries that a line begins with, and what is behind them."""
    entries = []
    while text and (found := _entry_at(text)) is not None:
        entry, end = found
        entries.append(entry)
        text = text[end:].lstrip(" \t\r")
    return entries, text


def _behind_torn(text: str, kinds: Collection[str]) -> list[dict[str, Any]]:
    """The entries that a line ends with. By their kind: an object within a torn entry may be whole, and is none."""
    place = text.find("{", 1)
    while place >= 0:
        entries, rest = _leading(text[place:])
        if not rest and all(entry["kind"] in kinds for entry in entries):
            return entries
        place = text.find("{", place + 1)
    return []


def _entry_at(text: str) -> tuple[dict[str, Any], int] | None:
    """The entry that the text begins with, and where it ends."""
    try:
        content, end = _DECODER.raw_decode(text)
        text[:end].encode("utf-8")  # what stands for bytes that are no UTF-8 does not encode
    except (ValueError, RecursionError):
        return None
    return (content, end) if isinstance(content, dict) and isinstance(content.get("kind"), str) else None


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
