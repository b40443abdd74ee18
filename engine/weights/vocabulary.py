"""A model's vocabulary: one token a line, its index the number of the line, lines taken as they are.

As upstream's get_tokenizer reads it, so that a space is a token (the first, which also stands for the unknown), and
line ends may be a Windows editor's. Upstream takes a repeated token without a word and then counts too few rows.
"""

from __future__ import annotations

import codecs
import shlex
from pathlib import Path

from engine.contract import ConfigError

KEY = "model.vocab"
WIDE_MARKS = {  # the longer ones first: they begin alike
    codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16",
}  # fmt: skip


def read_vocabulary(path: Path) -> dict[str, int]:
    """Token -> index. Raises ConfigError naming the file and its encoding or the line."""
    lines = _text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    if not lines:
        raise ConfigError(KEY, path, "is empty", "give a file of one token a line, the first of them a space")
    if lines[0] == "" and " " not in lines:
        raise ConfigError(
            KEY, path, "line 1 is empty and no line is a space: an editor has taken it away",
            "write one space into line 1, or fetch the file again",
        )  # fmt: skip
    vocabulary: dict[str, int] = {}
    for index, token in enumerate(lines):
        first = vocabulary.setdefault(token, index)
        if first != index:
            raise ConfigError(
                KEY, path, f"line {index + 1} has the token {token!r} of line {first + 1} again",
                "give the file that belongs to the checkpoint: a token has one index",
            )  # fmt: skip
    return vocabulary


def _text(path: Path) -> str:
    """UTF-8; its byte order mark is no token."""
    content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    for mark, encoding in WIDE_MARKS.items():
        if content.startswith(mark):
            raise _encoded(path, f"is {encoding}", encoding)
    if b"\0" in content:
        line = content.partition(b"\0")[0].count(b"\n") + 1
        encoding = "UTF-16BE" if content[0] == 0 else "UTF-16LE"
        raise _encoded(path, f"line {line} has a NUL: it is UTF-16 without its mark, or no text", encoding)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        says = f"line {line} is not UTF-8 (byte {content[error.start]:#04x}) but perhaps Latin-1 (ISO-8859-1)"
        raise _encoded(path, says, "ISO-8859-1") from error


def _encoded(path: Path, says: str, encoding: str) -> ConfigError:
    new = path.with_name(f"{path.stem}.utf8{path.suffix}")
    command = f"iconv -f {encoding} -t UTF-8 {shlex.quote(str(path))} > {shlex.quote(str(new))}"
    return ConfigError(KEY, path, f"{says}; a vocabulary is read as UTF-8", f"convert it: {command}")
