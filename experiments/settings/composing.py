"""Overrides -> one configuration, as Hydra composes it; what Hydra refuses, in a line of ours.

Cells that differ in numbers alone share what is slow, the composition of their groups.
"""

from __future__ import annotations

import copy
import difflib
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from engine.contract import ConfigError
from experiments.common.presets import CONF, folders, groups
from experiments.common.presets import presets as options
from experiments.common.quoting import hydra_value
from experiments.settings.overrides import parse
from experiments.settings.typed import NEAR, no_such_key
from experiments.workload.texts import name_of, own_paths

UNENHANCED = {"name": "none"}
TEXTS = "workload.texts"


def implied(overrides: Sequence[str]) -> list[str]:
    """The overrides with what own texts imply: all of them, under their own name, where neither is set beside them."""
    keys = [override.key_or_group for override in parse(overrides)]
    if TEXTS not in keys:
        return list(overrides)
    named = next(o for o in reversed(parse(overrides)) if o.key_or_group == TEXTS)
    if named.is_sweep_override() or named.type == OverrideType.DEL:
        return list(overrides)
    own = {"workload.select": None, "workload.name": name_of(named.value())}
    return [*overrides, *(f"{key}={hydra_value(value)}" for key, value in own.items() if key not in keys)]


def plain_config(overrides: Sequence[str], conf: Path = CONF) -> dict[str, Any]:
    """The configuration as plain dicts, `cells` of a preset included."""
    for override in parse(overrides):
        group, value = override.key_or_group, override.value()
        if group in groups() and not override.is_sweep_override() and not isinstance(value, str | list | tuple):
            raise _unknown_choice(group, value)
    try:
        composed = OmegaConf.to_container(
            _composed(tuple(implied(overrides)), conf), resolve=True, throw_on_missing=True
        )
    except (HydraException, OmegaConfBaseException) as error:
        raise refused(error, overrides) from error
    assert isinstance(composed, dict)
    refuse_infinite("", composed)
    config = _spelt_out({str(key): value for key, value in composed.items()})
    if config.get("enhance") == UNENHANCED:
        del config["enhance"]  # as in every configuration, record and cell key of before there was the choice
    return config


def _spelt_out(config: dict[str, Any]) -> dict[str, Any]:
    """Names of own text lists as paths: whoever reads the configuration later needs no --config-dir."""
    workload = config.get("workload")
    if len(folders()) > 1 and isinstance(workload, dict) and "texts" in workload:
        workload["texts"] = own_paths(workload["texts"])
    return config


def refuse_infinite(key: str, node: Any) -> None:
    """Raises ConfigError: no setting is, and no record could hold, what is not a finite number."""
    if isinstance(node, float) and not math.isfinite(node):
        raise ConfigError(key, node, "is not a finite number", "see --cfg job for the default")
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in entries:
        refuse_infinite(f"{key}.{name}" if key else str(name), value)


def _composed(overrides: tuple[str, ...], conf: Path) -> DictConfig:
    """As Hydra composes. Cells that differ in numbers only share the composition of their groups, the slow part.

    Only `KEY=VALUE` with a plain value of an existing key is set here; Hydra takes the whole of anything else.
    """
    parsed = parse(overrides)
    values = [override for override in parsed if _is_plain_value(override)]
    others = [override.key_or_group for override in parsed if not _is_plain_value(override)]
    # The order of two overrides counts where one sets what the other one sets, or what it lies in
    if any(f"{value.key_or_group}.".startswith(f"{key}.") for value in values for key in others if "." in key):
        return _hydra_compose(overrides, conf)
    if any(value.key_or_group in others for value in values):
        return _hydra_compose(overrides, conf)
    texts = {str(override.input_line) for override in values}
    config = _hydra_compose(tuple(text for text in overrides if text not in texts), conf)
    if not values:
        return config
    config = copy.deepcopy(config)
    try:
        for override in values:
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
    except OmegaConfBaseException:
        return _hydra_compose(overrides, conf)  # says in Hydra's words what is wrong
    return config


def _is_plain_value(override: Override) -> bool:
    """`group.key=value`: no choice of a group, nothing added or deleted, nothing to interpolate."""
    key, value = override.key_or_group, override.value()
    if override.type != OverrideType.CHANGE or override.is_sweep_override() or override.package is not None:
        return False
    is_plain = value is None or isinstance(value, bool | int | float)
    return is_plain and key not in groups() and "/" not in key and "@" not in key


def _hydra_compose(overrides: tuple[str, ...], conf: Path) -> DictConfig:
    return _composed_once(overrides, conf, folders()[1:])


@lru_cache(maxsize=64)
def _composed_once(overrides: tuple[str, ...], conf: Path, own: tuple[Path, ...]) -> DictConfig:
    """own: folders of presets beside conf."""
    beside = [f"hydra.searchpath={hydra_value([f'file://{folder}' for folder in own])}"] if own else []
    with initialize_config_dir(str(conf), version_base="1.3"):
        return compose("config", [*overrides, *beside])


def _unknown_choice(group: str, value: object) -> ConfigError:
    choices = options(group)
    allowed = f"choose one of {', '.join(choices) or '(none yet)'}"
    near = difflib.get_close_matches(str(value), choices, n=1, cutoff=NEAR)
    if near:  # before the long list
        return ConfigError(group, value, f"did you mean {group}={near[0]}?", allowed)
    return ConfigError(group, value, allowed, f"or add your own, DIR/{group}/NAME.yaml, by --config-dir DIR")


def refused(error: Exception, overrides: Sequence[str]) -> ConfigError:
    """Hydra's and OmegaConf's own words, as a line that names the key, the value and what is allowed."""
    if isinstance(error, MissingConfigException):
        group, _, value = str(error.missing_cfg_file).rpartition("/")
        return _unknown_choice(group, value)
    text = str(error)
    found = re.match(r"Could not override '([^']*)'", text)
    if found is None:
        return ConfigError("overrides", " ".join(overrides), text.splitlines()[0], "see --help")
    key = found.group(1)
    known = _keys_beside(key)
    near = _meant(key, known)
    return no_such_key(key, value_of(key, overrides), known, near)


def _meant(key: str, beside: Sequence[str]) -> str | None:
    """The same key of the nearest group, where there is no such group; else the nearest key beside it, else elsewhere.
    Only the last names are compared: two keys of one group are half alike already."""
    top = plain_config([])
    first, dot, rest = key.partition(".")
    if first not in top:
        near = difflib.get_close_matches(first, [*map(str, top), "reference", "candidate"], n=1, cutoff=NEAR)
        return f"{near[0]}{dot}{rest}" if near else None
    name = key.rpartition(".")[2]
    groups = {str(group): held for group, held in top.items() if isinstance(held, Mapping)}
    elsewhere = {str(other): f"{group}.{other}" for group, held in groups.items() for other in held}
    for known in (
        {other.rpartition(".")[2]: other for other in beside},
        elsewhere | {str(one): str(one) for one in top},
    ):
        if near := difflib.get_close_matches(name, list(known), n=1, cutoff=NEAR):
            return known[near[0]]
    return None


def _keys_beside(key: str) -> list[str]:
    """The keys of the deepest node of the default configuration that the misspelt key lies in."""
    node: Any = plain_config([])
    path: list[str] = []
    for part in key.split(".")[:-1]:
        if not isinstance(node, Mapping) or part not in node:
            break
        node = node[part]
        path.append(part)
    names = sorted(node) if isinstance(node, Mapping) else []
    return [".".join([*path, str(name)]) for name in names]


def value_of(key: str, overrides: Sequence[str]) -> str:
    values = [text.partition("=")[2] for text in overrides if text.lstrip("+~").partition("=")[0] == key]
    return values[-1] if values else ""
