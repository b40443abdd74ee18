"""Groups of settings as frozen models (pydantic): defaults, bounds and units in one place; a misfit is one line.

What is allowed is said from the declaration itself, so a message and a bound cannot differ.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from pydantic.fields import FieldInfo

from engine.contract import ConfigError
from engine.keys import Allowed
from experiments.common.quoting import argument
from metrics.record import to_json

NEAR = 0.7  # so alike that one may stand for the other (difflib): a bad guess is worse than none
# Any text but an empty one, or one that no file name can hold
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*[^\x00\s][^\x00]*$")]


class Group(BaseModel):
    """One group of a configuration. Nothing is converted: a text is no number, true is no 1."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


G = TypeVar("G", bound=Group)


def group_of(kind: type[G], key: str, values: object) -> G:
    """The group called `key` as its model. Raises ConfigError for the first key or value that does not fit."""
    if not isinstance(values, Mapping):
        raise ConfigError(key, values, "is a group of settings", "set the keys inside it, see --cfg job")
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise _refused(kind, key, values, error) from error


def _refused(kind: type[Group], key: str, values: Mapping[str, object], error: ValidationError) -> ConfigError:
    first = error.errors(include_url=False)[0]
    said = first.get("ctx", {}).get("error")
    if isinstance(said, ConfigError):  # of a check of the model's own
        return said
    path = list(_names(kind, first["loc"]))
    dotted = _dotted(key, path)
    value = _value(values, path)
    is_key = len(path) == len(first["loc"])
    if is_key and first["type"] == "extra_forbidden":
        return unknown_key(dotted, value, [_dotted(key, [*path[:-1], name]) for name in _fields(kind, path[:-1])])
    if is_key and first["type"] == "missing":
        return ConfigError(dotted, "(deleted)", "is needed", "leave it in")
    if is_key and first["type"] in ("model_type", "mapping_type", "dict_type"):
        return ConfigError(dotted, value, "is a group of settings", "set the keys inside it, see --cfg job")
    field = _fields(kind, path[:-1])[path[-1]]
    if takes_text(field) and isinstance(value, bool | int | float):
        typed = to_json(value)
        allowed = "is read as a number or as true or false, not as a text"
        return ConfigError(dotted, typed, allowed, f"type {argument(dotted, typed)}")
    return ConfigError(dotted, value, f"must be {allowed_of(field)}", _remedy(dotted, field))


# Of keys whose form nobody guesses
EXAMPLES = {"reference.voices": """'reference.voices=[{id: me, audio: me.wav, text: "What is said in it."}]'"""}


def unknown_key(key: str, value: object, known: Sequence[str]) -> ConfigError:
    """With the nearest right one, where one is near."""
    names = {name.rpartition(".")[2]: name for name in known}  # two keys of one group are half alike already
    near = difflib.get_close_matches(key.rpartition(".")[2], list(names), n=1, cutoff=NEAR)
    return no_such_key(key, value, sorted(known), names[near[0]] if near else None)


def no_such_key(key: str, value: object, known: Sequence[str], meant: str | None) -> ConfigError:
    """What was probably meant stands before the long list."""
    listed = f"known here: {', '.join(known)}"
    if meant is not None:
        return ConfigError(key, value, f"no such key, did you mean {meant}?", listed)
    return ConfigError(key, value, f"no such key; {listed}", "correct or remove it; --cfg job shows every key")


def described(kind: type[Group], group: str) -> Iterator[str]:
    """A line of help for every field that says what it is."""
    for name, field in kind.model_fields.items():
        if field.description:
            yield f"  {name}={_shown(field.default)}".ljust(34) + f" {field.description}"


def allowed_of(field: FieldInfo) -> str:
    """`a whole number from 1 to 9, or null`."""
    words = next((entry.words for entry in field.metadata if isinstance(entry, Allowed)), None)
    kinds = _kinds(field.annotation)
    if words is None:
        words = " or ".join(_words(kind, field.metadata) for kind in kinds if kind is not NoneType)
    return f"{words}, or null" if NoneType in kinds else words


def _words(kind: Any, metadata: Sequence[object]) -> str:
    if get_origin(kind) is Annotated:
        kind, *more = get_args(kind)
        metadata = [*metadata, *more]
    origin = get_origin(kind) or kind
    if origin is Literal:
        choices = [str(choice) for choice in get_args(kind)]
        return " or ".join(choices) if len(choices) == 2 else f"one of {', '.join(choices)}"
    if origin in (tuple, list):
        return f"a list of {_words(get_args(kind)[0], ()).removeprefix('a ')}s"
    if isinstance(origin, type) and issubclass(origin, (Mapping, BaseModel)):
        return "a group of settings"
    plain = {bool: "true or false", str: "a text"}.get(origin)
    return plain or ("a whole number" if origin is int else "a number") + _range(metadata)


def _range(metadata: Sequence[object]) -> str:
    said = ""
    for entry in metadata:
        if isinstance(entry, Ge):
            said += f" from {_plain(entry.ge)}"
        elif isinstance(entry, Gt):
            said += f" above {entry.gt}"
    for entry in metadata:
        if isinstance(entry, Le):
            said += f"{' to' if ' from' in said else ', up to'} {_plain(entry.le)}"
        elif isinstance(entry, Lt):
            said += f" to below {entry.lt}"
        elif isinstance(entry, MultipleOf):
            said += f", a multiple of {entry.multiple_of}"
    return said


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _kinds(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def takes_text(field: FieldInfo) -> bool:
    """Whether nothing but a text, or null, fits there."""
    kinds = [get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in _kinds(field.annotation)]
    return all(kind in (str, NoneType) for kind in kinds)


def _remedy(key: str, field: FieldInfo) -> str:
    """An example where one is held, else the default where the model has one, else the least that there may be."""
    if key in EXAMPLES:
        return f"write {EXAMPLES[key]}"
    default, kinds = field.default, _kinds(field.annotation)
    if isinstance(default, str | int | float):
        return f"use {key}={_shown(default)}"
    if get_origin(kinds[0]) is Literal:
        return f"use {key}={get_args(kinds[0])[0]}"
    if bool in kinds:
        return f"use {key}=true"
    metadata = [*field.metadata, *(entry for kind in kinds for entry in getattr(kind, "__metadata__", ()))]
    least = next((entry.ge for entry in metadata if isinstance(entry, Ge)), None)
    return f"use {key}={max(least, 1)}" if isinstance(least, int) else "see --cfg job for the default"


def _shown(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_shown, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _fields(kind: type[Group], path: Sequence[str]) -> Mapping[str, FieldInfo]:
    """Of the model that a path of nested groups leads to."""
    for name in path:
        kind = next(k for k in _kinds(kind.model_fields[name].annotation) if isinstance(k, type))
    return kind.model_fields


def _names(kind: type[Group], loc: Sequence[int | str]) -> Iterator[str]:
    """The named part of where an error is: of a list, or of a choice of kinds, the field alone."""
    here: type[BaseModel] | None = kind
    for part in loc:
        if here is None or not isinstance(part, str):
            return
        yield part
        field = here.model_fields.get(part)
        inner = () if field is None else _kinds(field.annotation)
        here = next((k for k in inner if isinstance(k, type) and issubclass(k, BaseModel)), None)


def _dotted(key: str, path: Sequence[str]) -> str:
    return ".".join([key, *path] if key else path)


def _value(values: Mapping[str, object], path: Sequence[str]) -> object:
    found: object = values
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
