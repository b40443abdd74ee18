"""How numbers and reasons are spelt in every report: significant digits, lists, paths without the machine in them."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from typing import Any

ABSENT = "-"
MAX_SLUG = 120

# An absolute path names the machine it was made on; its last part says what the reader needs. URLs are left alone.
_ABSOLUTE_PATH = re.compile(r"(?<![\w./:~-])/(?:[\w.@+=,-]+/)+([\w.@+=,-]+)")

# Where the settings of a variant begin in its label: KEY=VALUE
_SETTING = re.compile(r"-(?=[A-Za-z_][\w.]*=)")


def significant(value: float, digits: int = 3) -> str:
    """`digits` significant digits without an exponent: 0.0834, 1.74, 83.1, 1240."""
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, decimals)
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))  # 9.996 rounds to 10.0, which has one decimal less
    return f"{rounded:.{max(0, decimals)}f}"


def count(number: float) -> str:
    """A count that may be a mean: 7, or 10.5."""
    return f"{number:.0f}" if float(number).is_integer() else f"{number:.1f}"


def plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(words: Sequence[str], most: int = 6) -> str:
    """a, b, c and 4 more."""
    if len(words) <= most:
        return ", ".join(words)
    return f"{', '.join(words[:most])} and {len(words) - most} more"


def without_machine_paths(text: str | None) -> str | None:
    """Absolute paths cut to their last part, line breaks to spaces: what may stand in a table that is published."""
    if text is None:
        return None
    return _ABSOLUTE_PATH.sub(r".../\1", " ".join(text.split()))


def plain_json(value: Any) -> str:
    """Indented JSON whose lines hold no absolute path."""
    lines = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False).splitlines()
    return "\n".join(line[: len(line) - len(line.lstrip())] + (without_machine_paths(line) or "") for line in lines)


def in_parts(label: str) -> tuple[str, str]:
    """(engine and solver, the settings behind them; "" where there are none): fp32-euler_7-vocoder=bigvgan."""
    name, *settings = _SETTING.split(label, maxsplit=1)
    return (name, settings[0]) if name and settings else (label, "")


def in_lines(label: str, most: int = 30) -> str:
    """A label for a picture, where a long line covers its neighbours: the settings below, by value alone where a whole
    group was chosen (vocoder=vocos_onnx), by the last part of their key otherwise."""
    name, settings = in_parts(label)
    if not settings:
        return label
    pairs = [part.partition("=") for part in _SETTING.split(settings)]
    said = [f"{key.rpartition('.')[2]}={value}" if "." in key else value for key, _, value in pairs]
    return f"{name}\n{cut(', '.join(said), most)}"


def cut(text: str, most: int) -> str:
    """At most so many characters: the middle gives way."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


def slug(label: str) -> str:
    """A label as a file name; one that cannot be a file name as it is gets a part of its hash, so that two stay two."""
    usable = re.sub(r"[^A-Za-z0-9._=,-]+", "_", label)[:MAX_SLUG]
    if usable == label and label.strip("."):
        return label
    return f"{usable.strip('.')}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
