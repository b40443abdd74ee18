"""Keys on a command line: unknown, misspelt, unread."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from pathlib import Path

from engine.contract import ConfigError
from engine.paths import with_home
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


def resumed_folder(argv: Sequence[str], program: str, keys: Collection[str] = ("resume",)) -> Path | None:
    """DIR of resume=DIR, None where nothing goes on. What goes on is what it was, so nothing else may be set.

    program: the module that left the folder. Raises ConfigError.
    """
    given = [word for word in argv if word.partition("=")[0] in keys and "=" in word]
    others = [word for word in argv if word not in given]
    if not given:
        return None
    if others:
        raise ConfigError(
            others[0].partition("=")[0], others[0].partition("=")[2], "cannot be set beside resume",
            "what goes on keeps its settings; start another one for other settings",
        )  # fmt: skip
    folder = given[-1].partition("=")[2]
    if not folder:
        raise ConfigError("resume", "", "names no folder", f"give the folder that {program} left")
    return with_home(folder)
