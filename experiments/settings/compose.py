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
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from engine.contract import ConfigError
from engine.paths import ROOT as ROOT
from experiments.common.environment import INSTRUCTION_SETS, cpu_instructions
from experiments.common.plain import Config, as_config
from experiments.common.presets import CONF, folders, groups
from experiments.common.presets import presets as options
from experiments.common.quoting import hydra_value
from experiments.settings.overrides import alternatives, given, parse
from experiments.settings.typed import NEAR, no_such_key
from experiments.workload.texts import name_of, own_paths
from metrics.record import to_json

DEFAULT_PRESET = "bench"
VARIANT_KEYS = (
    "engine",
    "solver",
    "model",
    "vocoder",
    "enhance",
)  # what makes a variant: always in the label when overridden
UNENHANCED = {"name": "none"}
MAX_LABEL = 120
TEXTS = "workload.texts"
# The instruction set that presets choose their cells for, where that is not this machine's
COMPOSED_FOR: ContextVar[str | None] = ContextVar("composed_for", default=None)
INSTRUCTIONS = (*(name for _, name in INSTRUCTION_SETS), "otherwise")  # keys of `cells` in a preset


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One variant of a sweep: its row's name, the overrides that made it, the resolved configuration."""

    label: str
    overrides: tuple[str, ...]
    config: Config


def compose_config(overrides: Sequence[str], conf: Path = CONF) -> Config:
    """Resolved configuration with the keys of RunRecord.config. Raises ConfigError for what Hydra refuses.

    conf: another checkout's configuration folder.
    """
    config = _compose(overrides, conf)
    num_cells = len(_for_this_cpu(config.pop("cells", [])) or ())
    if num_cells:
        raise ConfigError(
            "experiment", _value_of("experiment", overrides), f"a preset of {num_cells} cells is a sweep",
            "use `python -m experiments.sweep` with it",
        )  # fmt: skip
    return as_config(config)


def compose_run(overrides: Sequence[str]) -> Cell:
    """The one variant that the overrides name."""
    parsed = parse(overrides)
    sweeping = [override for override in parsed if override.is_sweep_override()]
    if sweeping:
        raise ConfigError(
            sweeping[0].key_or_group, given(sweeping[0]), "a run takes one value",
            "use `python -m experiments.sweep` for several",
        )  # fmt: skip
    config = compose_config(overrides)
    return Cell(label=_label(config, parsed, ()), overrides=tuple(overrides), config=config)


def compose_cells(overrides: Sequence[str], default: str | None = DEFAULT_PRESET) -> list[Cell]:
    """All cells of a sweep, in order, each with its own label. Raises ConfigError, also for the same cell twice.

    default: the preset where the overrides choose and sweep nothing.
    """
    parsed = parse(overrides)
    preset, others = _split_preset(parsed, default)
    listed = _preset_cells(preset) if preset else [()]
    cell_keys = {override.key_or_group for cell in listed for override in parse(cell)}
    clash = next((override for override in others if override.key_or_group in cell_keys), None)
    if clash is not None:
        raise ConfigError(
            clash.key_or_group, given(clash), f"experiment={preset} sets it in its cells",
            "leave out one of the two",
        )  # fmt: skip
    varying = cell_keys | {override.key_or_group for override in others if override.is_sweep_override()}
    head = (f"experiment={preset}",) if preset else ()
    cells = [
        compose_cell((*head, *cell, *combination), varying)
        for cell in listed
        for combination in itertools.product(*map(alternatives, others))
    ]
    _refuse_twins(cells)
    return cells


def _split_preset(parsed: Sequence[Override], default: str | None) -> tuple[str | None, list[Override]]:
    """(preset name or None, the other overrides). No choice of engine and nothing swept means the default preset."""
    others = [override for override in parsed if override.key_or_group != "experiment"]
    named = [override for override in parsed if override.key_or_group == "experiment"]
    if named and named[-1].is_sweep_override():
        raise ConfigError("experiment", given(named[-1]), "one preset at a time", "sweep once for each")
    if named:
        return str(named[-1].value()), others
    chosen = any(override.is_sweep_override() or override.key_or_group in ("engine", "solver") for override in others)
    return (None if chosen else default), others


def _preset_cells(preset: str) -> list[tuple[str, ...]]:
    cells = _for_this_cpu(_compose([f"experiment={preset}"]).get("cells", [()]))
    if not isinstance(cells, list) or not all(isinstance(cell, list | tuple) for cell in cells) or not cells:
        raise ConfigError(
            "experiment",
            preset,
            "`cells` must be lists of overrides, or by instruction set (amx, avx512bf16, .., otherwise) such lists",
            f"see conf/experiment/{DEFAULT_PRESET}.yaml",
        )
    return [tuple(map(str, cell)) for cell in cells]


def _for_this_cpu(cells: Any) -> Any:
    """A preset may list other cells for another instruction set (environment.INSTRUCTION_SETS), or `otherwise`."""
    if not isinstance(cells, dict):
        return cells
    unknown = [key for key in cells if key not in INSTRUCTIONS]
    if unknown:
        raise ConfigError("cells", unknown[0], "names no instruction set", f"use {', '.join(INSTRUCTIONS)}")
    instructions = COMPOSED_FOR.get()
    return cells.get(cpu_instructions() if instructions is None else instructions, cells.get("otherwise"))


def compose_cell(overrides: tuple[str, ...], varying: Collection[str]) -> Cell:
    """One cell. varying: the keys that differ between cells and therefore stand in its label.

    Where settings of the model differ, quality is compared with the model without them: made of its own, a variant's
    mistake would be its standard.
    """
    composed = _compose(overrides)
    kept = tuple(text for text in overrides if not _varies_model(text, varying))
    if len(kept) < len(overrides) and composed["quality"].get("reference_model") is None:
        model = _compose(kept)["model"]
        if model != composed["model"]:
            composed["quality"]["reference_model"] = model
    config = as_config({key: _shared(value) for key, value in composed.items() if key != "cells"})
    return Cell(label=_label(config, parse(overrides), varying), overrides=overrides, config=config)


def _varies_model(text: str, varying: Collection[str]) -> bool:
    """Whether an override sets a key of the model group, not the group, and differs between cells."""
    key = parse([text])[0].key_or_group
    return key.startswith("model.") and key in varying


_GROUPS_SEEN: dict[str, Any] = {}


def _shared(value: Any) -> Any:
    """The same object for the same settings: two hundred cells then weigh little more than two. Nobody changes them."""
    return _GROUPS_SEEN.setdefault(to_json(value), value) if isinstance(value, dict) else value


def names_of(config: Config) -> list[str]:
    """Of the engine, and of the solver where the model has one."""
    solver = [str(config["solver"]["name"])] if len(config["solver"]) > 1 else []
    return [str(config["engine"]["name"]), *solver]


def _label(config: Config, parsed: Iterable[Override], varying: Collection[str]) -> str:
    """ENGINE-SOLVER, then every override that makes the variant another one or that differs between cells."""
    parts = names_of(config)
    for override in parsed:
        key = override.key_or_group
        if key in ("engine", "solver", "experiment"):
            continue
        if key.split(".")[0] in VARIANT_KEYS or key in varying:
            parts.append(f"{key}={given(override)}")
    if "enhance" in config and not any(part.startswith("enhance=") for part in parts):
        parts.append(f"enhance={config['enhance']['name']}")  # set by a preset
    written = "-".join(parts)
    label = re.sub(r"[^A-Za-z0-9_.,=+-]+", "_", written)
    if not written.isascii():  # names in another script would all be _
        label = f"{label[: MAX_LABEL - 9]}-{hashlib.sha256(written.encode()).hexdigest()[:8]}"
    if len(label) > MAX_LABEL:
        label = f"{label[: MAX_LABEL - 9]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
    return label


def _refuse_twins(cells: Sequence[Cell]) -> None:
    seen: dict[str, Cell] = {}
    for cell in cells:
        twin = seen.setdefault(cell.label.casefold(), cell)
        if twin.config != cell.config:  # letters of either case, and signs that no file name can hold, are one here
            allowed = f"two cells with names that are one as a folder ({' '.join(twin.overrides)})"
            raise ConfigError("cells", " ".join(cell.overrides), allowed, "change one of the two values")
        if twin is not cell:
            raise ConfigError("cells", cell.label, "the same cell twice", "name every cell once")


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


def _compose(overrides: Sequence[str], conf: Path = CONF) -> dict[str, Any]:
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
    return no_such_key(key, _value_of(key, overrides), known, near)


def _meant(key: str, beside: Sequence[str]) -> str | None:
    """The same key of the nearest group, where there is no such group; else the nearest key beside it, else elsewhere.
    Only the last names are compared: two keys of one group are half alike already."""
    top = _compose([])
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
    node: Any = _compose([])
    path: list[str] = []
    for part in key.split(".")[:-1]:
        if not isinstance(node, Mapping) or part not in node:
            break
        node = node[part]
        path.append(part)
    names = sorted(node) if isinstance(node, Mapping) else []
    return [".".join([*path, str(name)]) for name in names]


def _value_of(key: str, overrides: Sequence[str]) -> str:
    values = [text.partition("=")[2] for text in overrides if text.lstrip("+~").partition("=")[0] == key]
    return values[-1] if values else ""
