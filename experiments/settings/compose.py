"""Command line -> resolved configurations: one for `run`, a list of cells for `sweep`. Composed by Hydra itself.

A sweep is spelt three ways: comma lists and ranges in the overrides (Hydra's own grammar, cartesian product), a preset
`experiment=NAME` whose file holds `cells:` (lists of overrides), or nothing, which is `experiment=bench`.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Collection, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override

from engine.contract import ConfigError
from experiments.common.environment import INSTRUCTION_SETS, cpu_instructions
from experiments.common.plain import Config, as_config
from experiments.common.presets import CONF
from experiments.settings.composing import plain_config, value_of
from experiments.settings.overrides import alternatives, given, parse
from metrics.record import to_json

DEFAULT_PRESET = "bench"
# What makes a variant: always in the label when overridden
VARIANT_KEYS = ("engine", "solver", "model", "vocoder", "enhance")
MAX_LABEL = 120
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
    config = plain_config(overrides, conf)
    num_cells = len(_for_this_cpu(config.pop("cells", [])) or ())
    if num_cells:
        raise ConfigError(
            "experiment", value_of("experiment", overrides), f"a preset of {num_cells} cells is a sweep",
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
    cells = _for_this_cpu(plain_config([f"experiment={preset}"]).get("cells", [()]))
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
    composed = plain_config(overrides)
    kept = tuple(text for text in overrides if not _varies_model(text, varying))
    if len(kept) < len(overrides) and composed["quality"].get("reference_model") is None:
        model = plain_config(kept)["model"]
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
