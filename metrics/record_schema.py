"""The JSON Schema of result.json, made from the record's own classes: `python -m metrics.record_schema > FILE`.

Published as metrics/result.schema.json for programs that read our files without our code. Standard library only.
"""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from metrics.record import SCHEMA_VERSION, RunRecord, Score

SCHEMA_FILE = Path(__file__).with_name("result.schema.json")
DIALECT = "https://json-schema.org/draft/2020-12/schema"
PLAIN: Mapping[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


def record_schema() -> dict[str, Any]:
    """Of a whole record. Objects are closed but for config, facts, environment and workload, which grow."""
    definitions: dict[str, Any] = {}
    schema = _object(RunRecord, definitions)
    schema["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    # What the classes check themselves: a score has a number exactly when its status is ok
    score = definitions[Score.__name__]
    score["if"] = {"properties": {"status": {"const": "ok"}}}
    score["then"], score["else"] = ({"properties": {"value": {"type": kind}}} for kind in ("number", "null"))
    head = {"$schema": DIALECT, "title": "f5bench run record (result.json)", "description": _first_line(RunRecord)}
    return {**head, **schema, "$defs": definitions}


def _object(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    fields = dataclasses.fields(kind)
    missing = dataclasses.MISSING
    required = [field.name for field in fields if field.default is missing and field.default_factory is missing]
    if kind is RunRecord:  # what the file always holds, and a reader asks for
        required = [*required, "utterances", "trials", "scores", "schema_version"]
    return {
        "type": "object",
        "properties": {field.name: _type(hints[field.name], definitions) for field in fields},
        "required": list(dict.fromkeys(required)),
        "additionalProperties": False,
    }


def _type(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """definitions: filled with the classes met on the way."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_type(argument, definitions) for argument in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _type(arguments[0], definitions)}
    if is_typeddict(hint):
        return {"type": "object"}  # which grows
    if hint is type(None):
        return {"type": "null"}
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        if hint.__name__ not in definitions:
            definitions[hint.__name__] = _object(hint, definitions)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    if hint in PLAIN:
        return {"type": PLAIN[hint]}
    if origin is not None and issubclass(origin, Mapping):
        values = arguments[1]
        more = {} if values in (Any, object) else {"additionalProperties": _type(values, definitions)}
        return {"type": "object", **more}
    raise TypeError(f"no JSON type for {hint}; say here what it is stored as")


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def schema_text() -> str:
    return json.dumps(record_schema(), indent=1) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
