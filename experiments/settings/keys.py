"""Keys on a command line: unknown, misspelt, unread."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

from engine.contract import ConfigError
from experiments.common.presets import groups


def refuse_misspelt(key: str, value: str, settings: Collection[str]) -> None:
    """Raises ConfigError for what is neither a setting nor an override but nearly the former."""
    near = difflib.get_close_matches(key, list(settings), n=1, cutoff=0.8)
    if near and key.partition(".")[0] not in groups():
        raise ConfigError(key, value, "no such key", f"did you mean {near[0]}?")


def refuse_unread(overrides: Sequence[str], groups: Collection[str], verb: str) -> None:
    """Raises ConfigError for an override of a group that the verb makes nothing of."""
    for text in overrides:
        key = key_of(text)
        if key.partition(".")[0].partition("/")[0] in groups:
            raise ConfigError(key, text.partition("=")[2], f"{verb} does not read it", "leave it out")


def key_of(override: str) -> str:
    """Of KEY=VALUE, with or without Hydra's signs before it."""
    return override.partition("=")[0].lstrip("+~")
