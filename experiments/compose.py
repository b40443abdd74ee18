"""Command line -> resolved configurations: one for `run`, a list of cells for `sweep`. Composed by Hydra itself.

A sweep is spelt three ways: comma lists and ranges in the overrides (Hydra's own grammar, cartesian product), a preset
`experiment=NAME` whose file holds `cells:` (lists of overrides), or nothing, which is `experiment=bench`.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import itertools
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from engine.contract import ConfigError
from metrics.record import to_json

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"
DEFAULT_PRESET = "bench"
VARIANT_KEYS = ("engine", "solver", "model", "vocoder")  # what makes a variant: always in the label when overridden
MAX_LABEL = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One variant of a sweep: its row's name, the overrides that made it, the resolved configuration."""

    label: str
    overrides: tuple[str, ...]
    config: Mapping[str, Any]


def compose_config(overrides: Sequence[str], conf: Path = CONF) -> dict[str, Any]:
    """Resolved configuration with the keys of RunRecord.config. Raises ConfigError for what Hydra refuses.

    conf: another checkout's configuration folder.
    """
    config = _compose(overrides, conf)
    num_cells = len(config.pop("cells", []))
    if num_cells:
        raise ConfigError(
            "experiment", _value_of("experiment", overrides), f"a preset of {num_cells} cells is a sweep",
            "use `python -m experiments.sweep` with it",
        )  # fmt: skip
    return config


def compose_run(overrides: Sequence[str]) -> Cell:
    """The one variant that the overrides name."""
    parsed = _parse(overrides)
    sweeping = [override for override in parsed if override.is_sweep_override()]
    if sweeping:
        raise ConfigError(
            sweeping[0].key_or_group, _given(sweeping[0]), "a run takes one value",
            "use `python -m experiments.sweep` for several",
        )  # fmt: skip
    config = compose_config(overrides)
    return Cell(label=_label(config, parsed, ()), overrides=tuple(overrides), config=config)


def compose_cells(overrides: Sequence[str], default: str | None = DEFAULT_PRESET) -> list[Cell]:
    """All cells of a sweep, in order, each with its own label. Raises ConfigError, also for the same cell twice.

    default: the preset where the overrides choose and sweep nothing.
    """
    parsed = _parse(overrides)
    preset, given = _split_preset(parsed, default)
    listed = _preset_cells(preset) if preset else [()]
    cell_keys = {override.key_or_group for cell in listed for override in _parse(cell)}
    clash = next((override for override in given if override.key_or_group in cell_keys), None)
    if clash is not None:
        raise ConfigError(
            clash.key_or_group, _given(clash), f"experiment={preset} sets it in its cells",
            "leave out one of the two",
        )  # fmt: skip
    varying = cell_keys | {override.key_or_group for override in given if override.is_sweep_override()}
    head = (f"experiment={preset}",) if preset else ()
    cells = [
        compose_cell((*head, *cell, *combination), varying)
        for cell in listed
        for combination in itertools.product(*map(_alternatives, given))
    ]
    _refuse_twins(cells)
    return cells


def options(group: str) -> list[str]:
    """The choices of a configuration group: the files of its folder."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@lru_cache(maxsize=1)
def groups() -> tuple[str, ...]:
    """The configuration groups that the defaults list names."""
    defaults = OmegaConf.load(CONF / "config.yaml").defaults
    return tuple(str(key) for entry in defaults if not isinstance(entry, str) for key in entry)


def _split_preset(parsed: Sequence[Override], default: str | None) -> tuple[str | None, list[Override]]:
    """(preset name or None, the other overrides). No choice of engine and nothing swept means the default preset."""
    given = [override for override in parsed if override.key_or_group != "experiment"]
    named = [override for override in parsed if override.key_or_group == "experiment"]
    if named and named[-1].is_sweep_override():
        raise ConfigError("experiment", _given(named[-1]), "one preset at a time", "sweep once for each")
    if named:
        return str(named[-1].value()), given
    chosen = any(override.is_sweep_override() or override.key_or_group in ("engine", "solver") for override in given)
    return (None if chosen else default), given


def _preset_cells(preset: str) -> list[tuple[str, ...]]:
    cells = _compose([f"experiment={preset}"]).get("cells", [()])
    if not isinstance(cells, list) or not all(isinstance(cell, list | tuple) for cell in cells) or not cells:
        raise ConfigError(
            "experiment",
            preset,
            "`cells` must be lists of overrides",
            f"see conf/experiment/{DEFAULT_PRESET}.yaml",
        )
    return [tuple(map(str, cell)) for cell in cells]


def compose_cell(overrides: tuple[str, ...], varying: Collection[str]) -> Cell:
    """One cell. varying: the keys that differ between cells and therefore stand in its label."""
    config = {key: _shared(value) for key, value in _compose(overrides).items() if key != "cells"}
    return Cell(label=_label(config, _parse(overrides), varying), overrides=overrides, config=config)


_GROUPS_SEEN: dict[str, Any] = {}


def _shared(value: Any) -> Any:
    """The same object for the same settings: two hundred cells then weigh little more than two. Nobody changes them."""
    return _GROUPS_SEEN.setdefault(to_json(value), value) if isinstance(value, dict) else value


def _alternatives(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if not override.is_discrete_sweep():
        raise ConfigError(
            override.key_or_group, _given(override), "an interval has no list of cells",
            "use a comma list or range(start,stop,step)",
        )  # fmt: skip
    key = override.get_key_element()
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def _label(config: Mapping[str, Any], parsed: Iterable[Override], varying: Collection[str]) -> str:
    """ENGINE-SOLVER, then every override that makes the variant another one or that differs between cells."""
    parts = [str(config["engine"]["name"]), str(config["solver"]["name"])]
    for override in parsed:
        key = override.key_or_group
        if key in ("engine", "solver", "experiment"):
            continue
        if key.split(".")[0] in VARIANT_KEYS or key in varying:
            parts.append(f"{key}={_given(override)}")
    label = re.sub(r"[^A-Za-z0-9_.,=+-]+", "_", "-".join(parts))
    if len(label) > MAX_LABEL:
        label = f"{label[: MAX_LABEL - 9]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
    return label


def _refuse_twins(cells: Sequence[Cell]) -> None:
    seen: dict[str, Cell] = {}
    for cell in cells:
        twin = seen.setdefault(cell.label, cell)
        if twin is not cell:
            raise ConfigError("cells", cell.label, "the same cell twice", "name every cell once")


def _parse(overrides: Sequence[str]) -> list[Override]:
    parsed = []
    for text in overrides:
        try:
            parsed += OverridesParser.create().parse_overrides([text])
        except (OverrideParseException, ValueError) as error:  # ValueError: a number of thousands of digits
            key, _, value = text.partition("=")
            detail = str(error.message if isinstance(error, OverrideParseException) else error).splitlines()[0]
            raise ConfigError(
                key,
                value,
                f"not an override ({detail})",
                "write KEY=VALUE, in quotes where the shell would split it",
            ) from error
    return parsed


def _compose(overrides: Sequence[str], conf: Path = CONF) -> dict[str, Any]:
    """The configuration as plain dicts, `cells` of a preset included."""
    for override in _parse(overrides):
        group, value = override.key_or_group, override.value()
        if group in groups() and not override.is_sweep_override() and not isinstance(value, str | list | tuple):
            raise _unknown_choice(group, value)
    try:
        composed = OmegaConf.to_container(_composed(tuple(overrides), conf), resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise refused(error, overrides) from error
    assert isinstance(composed, dict)
    refuse_infinite("", composed)
    return {str(key): value for key, value in composed.items()}


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
    parsed = _parse(overrides)
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


@lru_cache(maxsize=64)
def _hydra_compose(overrides: tuple[str, ...], conf: Path) -> DictConfig:
    with initialize_config_dir(str(conf), version_base="1.3"):
        return compose("config", list(overrides))


def _unknown_choice(group: str, value: object) -> ConfigError:
    choices = options(group)
    near = difflib.get_close_matches(str(value), choices, n=1)
    remedy = f"did you mean {group}={near[0]}?" if near else f"or add your own as conf/{group}/NAME.yaml"
    return ConfigError(group, value, f"choose one of {', '.join(choices) or '(none yet)'}", remedy)


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
    near = difflib.get_close_matches(key, known, n=1)
    remedy = f"did you mean {near[0]}?" if near else "see --cfg job for every key"
    return ConfigError(key, _value_of(key, overrides), f"no such key; known here: {', '.join(known)}", remedy)


def _keys_beside(key: str) -> list[str]:
    """The keys of the deepest node of the default configuration that the misspelt key lies in."""
    node: Any = _compose([])
    path: list[str] = []
    for part in key.split(".")[:-1]:
        if not isinstance(node, Mapping) or part not in node:
            break
        node = node[part]
        path.append(part)
    names = sorted(node) if isinstance(node, Mapping) else []
    return [".".join([*path, str(name)]) for name in names]


def _given(override: Override) -> str:
    """The value as it was typed."""
    return str(override.input_line).partition("=")[2]


def _value_of(key: str, overrides: Sequence[str]) -> str:
    values = [text.partition("=")[2] for text in overrides if text.lstrip("+~").partition("=")[0] == key]
    return values[-1] if values else ""
