"""JSON files -> dataclasses, every value checked against its annotation: a stored file may have been cut, edited or
written by another program, and what is read here is taken for granted below. Standard library only."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

Kind = TypeVar("Kind")
BIGGEST = {int: 2**63, float: 2**1023}  # what arrays and floats can hold


def load_json(path: Path) -> Any:
    """The content of a JSON file. Raises OSError where it cannot be read, ValueError with the reason for what is not
    JSON, holds a number that is not finite or a text that cannot be written again, or is nested beyond sense."""
    return parse_json(path.read_bytes())


def parse_json(content: bytes) -> Any:
    """The same of a file's bytes."""
    try:
        text = content.decode("utf-8-sig")
        found = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        if "\\ud" in text.lower():
            json.dumps(found, ensure_ascii=False).encode()  # half of a pair of surrogates is no character
    except UnicodeError as error:
        raise ValueError(f"no UTF-8 ({error})") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return found


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} is not a number that can be stored")
    return value


def from_json(kind: type[Kind], data: Any, where: str = "") -> Kind:
    """A dataclass from what JSON gave for it; lists become tuples where the annotation says so. where: dotted, for the
    message. Raises ValueError that names the field, the value and the kind that belongs there."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{where or kind.__name__}={_shown(data)}: must hold the fields of a {kind.__name__}")
    hints, prefix = _hints(kind), f"{where}." if where else ""  # type: ignore[arg-type]
    for name in data:
        if name not in hints:
            raise ValueError(f"{prefix}{name}={_shown(data[name])}: no such field of a {kind.__name__}")
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in data and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{prefix}{field.name}: is missing in a {kind.__name__}")
    return kind(**{name: value_of(hints[name], value, f"{prefix}{name}") for name, value in data.items()})


@lru_cache(maxsize=64)
def _hints(kind: Any) -> Mapping[str, object]:
    return get_type_hints(kind)


def part_of(content: Mapping[str, object], name: str) -> Mapping[str, object]:
    """The part of that name; empty where it is not there, or is no group of entries."""
    part = content.get(name)
    return part if isinstance(part, Mapping) else {}


def number_in(content: Mapping[str, object], name: str, otherwise: float | None = None) -> float:
    """The number of that name; `otherwise` where it is not there. Raises ValueError for what is none, or is missing."""
    value = content.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name}={_shown(value)}: must be {WORDS[float]}")
    return value


def value_of(hint: Any, value: Any, where: str) -> Any:
    """`value` as the annotation has it. Raises ValueError."""
    if hint in PLAIN:
        return _plain(hint, value, where)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _one_of(arguments, value, where)
    if origin is Literal:
        if not isinstance(value, str) or value not in arguments:
            raise ValueError(f"{where}={_shown(value)}: must be one of {', '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        return _tuple(arguments, value, where)
    if origin is list:
        return list(_tuple((arguments[0], ...), value, where))
    if is_typeddict(hint):
        return _entries(hint, value, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where}={_shown(value)}: must be a group of entries")
        return {key: value_of(arguments[1], entry, f"{where}.{key}") for key, entry in value.items()}
    return from_json(hint, value, where)


PLAIN = (int, float, str, bool, object, Any)
WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def _plain(hint: Any, value: Any, where: str) -> Any:
    if hint is Any or hint is object:
        return value
    fits = isinstance(value, (int, float) if hint is float else hint)
    if not fits or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{where}={_shown(value)}: must be {WORDS[hint]}")
    if isinstance(value, int) and hint in BIGGEST and abs(value) >= BIGGEST[hint]:
        raise ValueError(f"{where}={_shown(value)}: is beyond what a number can be")
    return value


def _one_of(arguments: Sequence[Any], value: Any, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    kinds = [hint for hint in arguments if hint is not type(None)]
    if len(kinds) == 1:
        return value_of(kinds[0], value, where)
    for hint in kinds:
        try:
            return value_of(hint, value, where)
        except ValueError:
            continue
    raise ValueError(f"{where}={_shown(value)}: is none of the kinds that belong here")


def _entries(hint: Any, value: Any, where: str) -> dict[str, Any]:
    """A group of entries: those that are named are of their kinds, others stay as they are."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}={_shown(value)}: must be a group of entries")
    for name in sorted(hint.__required_keys__ - set(value)):
        raise ValueError(f"{where}.{name}: is missing")
    hints = _hints(hint)
    return {name: value_of(hints.get(name, Any), entry, f"{where}.{name}") for name, entry in value.items()}


def _tuple(arguments: Sequence[Any], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{where}={_shown(value)}: must be a list")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(value_of(arguments[0], entry, f"{where}.{i}") for i, entry in enumerate(value))
    if len(value) != len(arguments):
        raise ValueError(f"{where}={_shown(value)}: must be {len(arguments)} entries")
    pairs = enumerate(zip(arguments, value, strict=True))
    return tuple(value_of(hint, entry, f"{where}.{i}") for i, (hint, entry) in pairs)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
