"""Values as Hydra's grammar writes them, and whole arguments as a shell takes them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from metrics.record import to_json


def hydra_value(value: Any) -> str:
    """A value in the grammar of Hydra's overrides, so that it comes back with its type."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{hydra_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(hydra_value(item) for item in value) + "]"
    if value is None or isinstance(value, (bool, int, float)):
        return to_json(value)
    # A backslash means something before a quote only; there, and at the end, it is doubled
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", str(value))
    closing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{closing * chr(92)}'"


def argument(key: str, value: Any) -> str:
    """KEY=VALUE as it has to be typed in a shell: the quotes for Hydra inside the quotes for the shell."""
    return shlex.quote(f"{key}={_double_quoted(value) if isinstance(value, str) else hydra_value(value)}")


def _double_quoted(value: str) -> str:
    """The same as hydra_value's, in the quotes that read better inside a shell's."""
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', value)
    closing = len(escaped) - len(escaped.rstrip("\\"))
    return f'"{escaped}{closing * chr(92)}"'
