"""What a person wrote, as they wrote it: the one reader of YAML, JSON and text files that come from outside.

YAML 1.1 turns words into other things (Yes into true, 010 into 8, 1:30 into 90, a sentence behind # into nothing). Here
a plain word is true, false, null or a number only where it is written so in JSON's way, and a text is the characters
in the file. Where those cannot be known the file is refused with its line and the quotes that are needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from engine.contract import ConfigError

TAGS = "tag:yaml.org,2002:"
WORDS: Mapping[str, object] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?|[-+]?\.[0-9]+([eE][-+]?[0-9]+)?")
BLOCK_STYLES = ("|", ">")
LINE_ENDS = "\x85\u2028\u2029"  # YAML folds them as it folds newlines
MAX_SHOWN = 60
MAX_DEPTH = 50
MAX_DIGITS = 300


class NotWritten(ValueError):
    """What cannot be taken as written; the message says where, why and what to write."""


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML (or JSON) file: its root, and its characters, in which the nodes' marks lie."""

    root: yaml.Node
    source: str


def read_characters(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark. Raises NotWritten for other encodings."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise NotWritten(f"line {line}: is not UTF-8 ({error.reason}); save the file as UTF-8") from error


def read_document(path: Path) -> Document:
    """Raises NotWritten for what is no YAML, for two documents, for a key that stands twice."""
    source = read_characters(path)
    try:
        root = yaml.compose(source, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise NotWritten(
            f"{where}{error.problem or error.context}; put texts with special characters in double quotes"
        ) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise NotWritten(" ".join(str(error).split()) + "; write it as YAML") from error
    if root is None:
        raise NotWritten("holds nothing; write at least one entry")
    return Document(root, source)


def typed(text: str) -> Any:
    """A value from the command line as a file would have it: a number, true, a list ..., else the text itself."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise NotWritten(" ".join(str(error).split()) + "; write a number, a word or [A,B]") from error
    return None if root is None else value_of(root)


def value_of(node: yaml.Node, depth: int = 0) -> Any:
    """Plain values: mappings with text keys, lists, text, numbers, true, false, null. Raises NotWritten."""
    if depth > MAX_DEPTH:
        raise NotWritten(f"{line_of(node)}: too deep; write it flat")
    if isinstance(node, yaml.MappingNode):
        return {key: value_of(value, depth + 1) for key, value in items_of(node)}
    if isinstance(node, yaml.SequenceNode):
        _refuse_tag(node, "seq")
        return [value_of(item, depth + 1) for item in node.value]
    _refuse_tag(node, "str", "int", "float", "bool", "null", "timestamp", "merge", "value")
    return _scalar(node) if node.style is None else _quoted(node)


def items_of(node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node]]:
    """Key as written, node. Raises NotWritten for a key that is no word or stands twice."""
    _refuse_tag(node, "map")
    seen: set[str] = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise NotWritten(
                f"{line_of(key)}: a key must be a word; put texts with special characters in double quotes"
            )
        name = _quoted(key)
        if name in seen:
            raise NotWritten(f"{line_of(key)}: {name} stands twice; leave one out")
        seen.add(name)
        yield name, value


def text_of(document: Document, node: yaml.Node, what: str, *, is_sentence: bool = False) -> str:
    """The characters of a text as they are written. what: how messages call it. is_sentence: what is spoken, in which a
    # is more likely than a comment behind it. Raises NotWritten."""
    where = f"{line_of(node)}: {what}"
    if not isinstance(node, yaml.ScalarNode):
        raise NotWritten(f"{where} is no text but {_kind(node)}; put it in double quotes")
    start, written = node.start_mark.index, _quoted(node)
    if document.source[start : start + 1] in ("&", "!"):
        raise NotWritten(
            f"{where} begins with {document.source[start]}, which YAML takes away; put it in double quotes"
        )
    if node.style is None:
        if WORDS.get(written, True) is None:
            raise NotWritten(f"{where} is empty ({written or 'nothing'}); write a text, in double quotes")
        if is_sentence:
            _refuse_comment(document.source, node, where)
    if any(char in LINE_ENDS for char in document.source[start : node.end_mark.index]):
        raise NotWritten(f"{where} holds a line end that is no newline; put it in double quotes, written as \\u2028")
    if node.style in BLOCK_STYLES:
        written = written.rstrip("\n")
    return checked_text(written, where)


def checked_text(text: object, where: str) -> str:
    """A text from a place that has typed it already. Raises NotWritten for another type and for half characters."""
    if text is None:
        raise NotWritten(f"{where} is empty (null); write a text, in double quotes")
    if not isinstance(text, str):
        raise NotWritten(
            f"{where} is read as {_kind(text)} ({_shown(text)}), not as a text; put it in double quotes as it is spoken"
        )
    if any("\ud800" <= char <= "\udfff" or char == "\0" for char in text):
        raise NotWritten(f"{where} ({_shown(text)}) holds half a character; save it as UTF-8")
    return text


def refuse_unwritten(key: str, value: object, error: NotWritten, what: str | None = None) -> ConfigError:
    """The one line of a user's mistake. what: which kind of file it is not."""
    allowed, _, remedy = str(error).rpartition("; ")
    return ConfigError(key, value, f"{what} ({allowed})" if what else allowed, remedy)


def line_of(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"


def _quoted(node: yaml.ScalarNode) -> str:
    """JSON writes what lies beyond 16 bits as two halves."""
    written = str(node.value)
    return written.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") if node.style == '"' else written


def _scalar(node: yaml.ScalarNode) -> Any:
    written = node.value
    if written in WORDS:
        return WORDS[written]
    if WHOLE.fullmatch(written):
        if len(written) > MAX_DIGITS:
            raise NotWritten(
                f"{line_of(node)}: a number of {len(written)} digits; write a smaller one, or put it in quotes"
            )
        return int(written)
    return float(written) if NUMBER.fullmatch(written) else written


def _refuse_tag(node: yaml.Node, *known: str) -> None:
    if node.tag not in [TAGS + name for name in known]:
        raise NotWritten(
            f"{line_of(node)}: the tag {node.tag} is not known; put texts that begin with ! in double quotes"
        )


def _refuse_comment(source: str, node: yaml.ScalarNode, where: str) -> None:
    """Behind an unquoted text a # may be a comment or the rest of the sentence; nobody can tell which."""
    end = node.end_mark.index
    rest = source[end : source.find("\n", end) if "\n" in source[end:] else len(source)]
    if rest.lstrip().startswith("#"):
        raise NotWritten(f"{where} is cut at #, which YAML takes for a comment; put it in double quotes")


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, Mapping | yaml.MappingNode):
        return "a set of keys (a colon, or braces)"
    return "a list" if isinstance(value, Sequence | yaml.SequenceNode) else type(value).__name__


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
