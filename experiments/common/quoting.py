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
    return _quoted(str(value), "'")


def argument(key: str, value: Any) -> str:
    """KEY=VALUE as it has to be typed in a shell: the quotes for Hydra inside the quotes for the shell.

    A text stands in double quotes there, which read better inside a shell's.
    """
    return shlex.quote(f"{key}={_quoted(value, chr(34)) if isinstance(value, str) else hydra_value(value)}")


def _quoted(value: str, quote: str) -> str:
    """A backslash means something before a quote or ${ only; there, and at the end, it is doubled."""
    escaped = re.sub(rf"(\\*){quote}", rf"\1\1\\{quote}", value)
    escaped = re.sub(r"(\\*)\$\{", r"\1\1\\${", escaped)  # what would be looked up
    closing = len(escaped) - len(escaped.rstrip("\\"))
    return f"{quote}{escaped}{closing * chr(92)}{quote}"
