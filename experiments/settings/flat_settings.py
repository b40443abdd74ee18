"""Settings of a verb's own: one flat YAML file in conf/ that is no Hydra group, changed by KEY=VALUE."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from typing import Any

from engine.contract import ConfigError
from experiments.common.presets import CONF, groups
from experiments.common.written import NotWritten, read_document, typed, value_of
from experiments.settings.compose import refuse_infinite

TEXTS = ("url",)  # with nothing as default


def flat_settings(file: str, given: Sequence[str] = ()) -> dict[str, Any]:
    """The keys of conf/`file` with the values given: a text as it is typed where the default is one, else as a file
    would have it. Raises ConfigError for what is no value."""
    values: dict[str, Any] = value_of(read_document(CONF / file).root)
    texts = {key for key, value in values.items() if isinstance(value, str) or key in TEXTS}
    for text in given:
        key, _, value = text.partition("=")
        try:
            values[key] = value if key in texts and value != "null" else typed(value)
        except NotWritten as error:
            raise ConfigError(key, value, "not a value", f"see conf/{file}") from error
        refuse_infinite(key, values[key])
    return values


def unknown_key(key: str, value: object, known: Collection[str]) -> ConfigError:
    """With the nearest right one, where one is near."""
    near = difflib.get_close_matches(key, list(known), n=1)
    remedy = f"did you mean {near[0]}?" if near else "leave it out"
    return ConfigError(key, value, f"no such key; known here: {', '.join(known)}", remedy)


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
