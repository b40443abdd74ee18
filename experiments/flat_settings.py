"""Settings of a verb's own: one flat YAML file in conf/ that is no Hydra group, changed by KEY=VALUE."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from engine.contract import ConfigError
from experiments.compose import CONF, groups, refuse_infinite


def flat_settings(file: str, given: Sequence[str] = ()) -> dict[str, Any]:
    """The keys of conf/`file` with the values given, as YAML reads them. Raises ConfigError for what is no value."""
    content = OmegaConf.to_container(OmegaConf.load(CONF / file))
    assert isinstance(content, dict)
    values = {str(key): value for key, value in content.items()}
    for text in given:
        key, _, value = text.partition("=")
        try:
            values[key] = OmegaConf.to_container(OmegaConf.create(f"{key}: {value}"))[key]
        except (YAMLError, OmegaConfBaseException, TypeError, KeyError, ValueError) as error:
            raise ConfigError(key, value, "not a value", f"see conf/{file}") from error
        refuse_infinite(key, values[key])
    return values


def refuse_misspelt(key: str, value: str, settings: Collection[str]) -> None:
    """Raises ConfigError for what is neither a setting nor an override but nearly the former."""
    near = difflib.get_close_matches(key, list(settings), n=1, cutoff=0.8)
    if near and key.partition(".")[0] not in groups():
        raise ConfigError(key, value, "no such key", f"did you mean {near[0]}?")


def key_of(override: str) -> str:
    """Of KEY=VALUE, with or without Hydra's signs before it."""
    return override.partition("=")[0].lstrip("+~")
