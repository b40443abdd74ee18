"""Lists of sentences: conf/texts/NAME.yaml or a person's own file, YAML or one sentence a line -> lines, as written."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from engine.contract import ConfigError
from engine.paths import find_file, missing
from experiments.common.plain import LineSettings
from experiments.common.presets import CONF, preset_file, presets
from experiments.common.quoting import argument
from experiments.common.written import (
    Document,
    NotWritten,
    checked_text,
    items_of,
    line_of,
    read_characters,
    read_document,
    refuse_unwritten,
    text_of,
)
from experiments.workload.voices import NOT_USABLE, USABLE_ID, USE_INSTEAD

KEYS = ("id", "category", "text")
EXAMPLE = 'write `utterances: [{id: a1, category: short, text: "..."}]`'
YAML_ENDINGS, PLAIN_ENDINGS = (".yaml", ".yml", ".json"), (".txt",)
PLAIN_CATEGORY = "plain"


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One entry of a texts file, with the position in the full list that decides its voice."""

    utterance_id: str
    category: str
    text: str
    position: int


def select_lines(workload: LineSettings) -> list[Line]:
    """The lines that `texts`, `select` and `limit` name, in the order of the file."""
    lines = _all_lines(workload["texts"])
    selected = workload["select"]
    if selected is not None:
        lines = _chosen(lines, selected)
    limit = workload["limit"]
    if limit is not None:
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise ConfigError("workload.limit", limit, "must be a whole number from 1, or null", "use null for all")
        lines = lines[:limit]
    return lines


def languages_of(texts: Any) -> list[str]:
    """The languages that the lists say they are in; a list that says nothing adds none."""
    names = texts if isinstance(texts, list) else [texts]
    files = (find_file(name) if is_own_file(name) else preset_file("texts", name) for name in names)
    found = [_stated_language(path) for path in files if path is not None and path.suffix in YAML_ENDINGS]
    return list(dict.fromkeys(language for language in found if language is not None))


def _stated_language(path: Path) -> str | None:
    document = read_document(path)
    node = dict(items_of(document.root)).get("language") if isinstance(document.root, yaml.MappingNode) else None
    return node.value if isinstance(node, yaml.ScalarNode) else None


def is_own_file(texts: object) -> bool:
    """A path, not the name of a list of conf/texts."""
    return isinstance(texts, str) and ("/" in texts or texts.endswith((*YAML_ENDINGS, *PLAIN_ENDINGS)))


def name_of(texts: Any) -> str:
    """What a workload of these texts is called: the names of the lists, the stems of the files."""
    listed = texts if isinstance(texts, list) else [texts]
    return "+".join(Path(str(name)).stem if is_own_file(name) else str(name) for name in listed)


def own_paths(texts: Any) -> Any:
    """The same lists, those that are presets of the person's own as paths."""
    if isinstance(texts, list):
        return [own_paths(name) for name in texts]
    path = preset_file("texts", texts) if isinstance(texts, str) and not is_own_file(texts) else None
    return texts if path is None or path.is_relative_to(CONF) else str(path)


def _chosen(lines: Sequence[Line], selected: Any) -> list[Line]:
    if not isinstance(selected, list) or not selected:
        raise ConfigError("workload.select", selected, "must be a list of ids, or null", "write workload.select=[en01]")
    known = [line.utterance_id for line in lines]
    for name in selected:
        if not isinstance(name, str):
            raise ConfigError(
                "workload.select", name, "is read as a number or the like, not as an id",
                f"write {argument('workload.select', [str(name)])} with the id as it stands in the file",
            )  # fmt: skip
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:3]
            raise ConfigError(
                "workload.select", name, f"no such id in this text list ({known[0]} to {known[-1]})",
                f"near it: {', '.join(near)}",
            )  # fmt: skip
    return [line for line in lines if line.utterance_id in selected]


def _all_lines(texts: Any) -> list[Line]:
    """Of one list, or of several one after the other: positions run on."""
    if not isinstance(texts, list):
        return _read_lines(texts)
    lines = [line for name in texts for line in _read_lines(name)]
    _check_ids(", ".join(map(str, texts)), lines)
    return [replace(line, position=i) for i, line in enumerate(lines)]


def _read_lines(texts: Any) -> list[Line]:
    path = None
    if isinstance(texts, str):
        path = find_file(texts) if is_own_file(texts) else preset_file("texts", texts)
    if path is not None and is_own_file(texts) and not path.exists():
        remedy = f"give a YAML file or a .txt with a sentence a line, or one of {', '.join(presets('texts'))}"
        raise ConfigError("workload.texts", texts, missing(texts), remedy)
    if path is None or not path.is_file():
        raise ConfigError(
            "workload.texts", texts, "no such text list",
            f"use one of {', '.join(presets('texts'))}, or a path to a YAML file or to a .txt with a sentence a line",
        )  # fmt: skip
    stat = path.stat()
    return list(_parsed_lines(texts, path.resolve(), stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=8)
def _parsed_lines(texts: str, path: Path, num_bytes: int, mtime_ns: int) -> tuple[Line, ...]:
    """Read once while the file stays as it is: a sweep asks for it at every cell."""
    try:
        read = _plain_lines if path.suffix in PLAIN_ENDINGS else _yaml_lines
        lines = tuple(read(path))
    except NotWritten as error:
        raise refuse_unwritten("workload.texts", texts, error, "not a text list") from error
    _check_ids(texts, lines)
    return lines


def _plain_lines(path: Path) -> Iterator[Line]:
    """One sentence a line; empty lines are none. The id is the number of the line."""
    written = [line.strip() for line in read_characters(path).split("\n")]
    width, position = max(3, len(str(len(written)))), 0
    for number, text in enumerate(written, start=1):
        if text:
            spoken = checked_text(text, f"line {number}: the text")
            yield Line(
                utterance_id=f"l{number:0{width}}", category=PLAIN_CATEGORY, text=spoken, position=position
            )  # fmt: skip
            position += 1


def _yaml_lines(path: Path) -> Iterator[Line]:
    document = read_document(path)
    entries = dict(items_of(document.root)).get("utterances") if isinstance(document.root, yaml.MappingNode) else None
    if not isinstance(entries, yaml.SequenceNode):
        raise NotWritten(f"it has no list `utterances`; {EXAMPLE}")
    for position, entry in enumerate(entries.value):
        yield _line(document, entry, position)


def _line(document: Document, entry: yaml.Node, position: int) -> Line:
    where = f"{line_of(entry)}: entry {position + 1}"
    if not isinstance(entry, yaml.MappingNode):
        raise NotWritten(f"{where} is no set of keys; {EXAMPLE}")
    nodes = dict(items_of(entry))
    for key in nodes:
        if key not in KEYS:
            raise NotWritten(
                f"{where} has a key {key!r} beside {', '.join(KEYS)}; put texts with commas or colons in double quotes"
            )
    for key in KEYS:
        if key not in nodes:
            raise NotWritten(f"{where} has no {key}; {EXAMPLE}")
    name, category, text = (
        text_of(document, nodes[key], f"{key} of entry {position + 1}", is_sentence=key == "text") for key in KEYS
    )
    return Line(utterance_id=name, category=category, text=text, position=position)


def _check_ids(texts: str, lines: Sequence[Line]) -> None:
    if not lines:
        raise ConfigError("workload.texts", texts, "holds no utterances", "write at least one")
    seen: dict[str, int] = {}
    for line in lines:
        entry = f"entry {line.position + 1}"
        if not USABLE_ID.fullmatch(line.utterance_id):
            raise ConfigError(
                "workload.texts", texts, f"id {line.utterance_id!r} of {entry} {NOT_USABLE}", USE_INSTEAD,
            )  # fmt: skip
        key = line.utterance_id.casefold()  # letters of either case are one file on many disks
        if key in seen:
            raise ConfigError(
                "workload.texts", texts, f"id {line.utterance_id} occurs twice (entries {seen[key]} and "
                f"{line.position + 1})", "give each its own id",
            )  # fmt: skip
        seen[key] = line.position + 1
