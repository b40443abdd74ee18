"""What the harness asks of a kind of model before and beside its engines, so that nothing else knows which kind it is.

A family is a module with these names: `model.family` says which, and the package of an engine's build function has one
called `family`, or is of F5-TTS.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Protocol, cast

from engine.clock import Clock
from engine.contract import ConfigError
from engine.settings import EngineConfig, ModelSettings

DEFAULT = "engine.families.f5tts"  # of models whose group was written before there was a choice
CheckText = Callable[[str, str], None]


class Family(Protocol):
    """NAME: for people. MODELS: what to do where another family's engine was asked for. REFERENCE: overrides of the
    engine, and of the solver where there is one, that quality is compared with. UNREAD: keys that the default
    configuration has and that these models make nothing of."""

    NAME: str
    MODELS: str
    REFERENCE: tuple[str, ...]
    UNREAD: tuple[str, ...]

    def validate(self, config: EngineConfig) -> None:
        """Raises ConfigError for what can be refused before anything is built; weights are found, not read."""
        ...

    def use_threads(self, number: int) -> None:
        """For the libraries of this process that its engines compute with, where they are told at all."""
        ...

    def context(self, config: EngineConfig, clock: Clock) -> object:
        """What its build functions take as `context`."""
        ...

    def files(self, config: EngineConfig) -> dict[str, str]:
        """Hash, or name of what is drawn, of everything that decides the sound, by its key. Raises ConfigError."""
        ...

    def check_weights(self, model: ModelSettings) -> None:
        """Raises ConfigError for weights that do not fit the settings, by their header alone."""
        ...

    def text_check(self, model: ModelSettings) -> CheckText:
        """(key, text) -> None; raises ConfigError for what the model cannot speak."""
        ...

    def num_evals(self, config: EngineConfig) -> int:
        """Evaluations of the model for one chunk of text."""
        ...

    def asked(self, config: EngineConfig) -> dict[str, tuple[str, object]]:
        """Key -> (fact, what it has to be) by which a built engine shows that it is the one of this configuration."""
        ...


def family_of(model: ModelSettings) -> Family:
    """Of a `model` group. Raises ConfigError for a name that is no family."""
    name = str(model.get("family") or DEFAULT)
    if not name.startswith("engine.") or importlib.util.find_spec(name.rpartition(".")[0]) is None:
        raise ConfigError("model.family", name, "must name a family's module below engine.", f"use {DEFAULT}")
    if importlib.util.find_spec(name) is None:
        raise ConfigError("model.family", name, "there is no such module", f"use {DEFAULT}")
    return cast(Family, importlib.import_module(name))


def family_of_target(target: str) -> Family:
    """Of an engine, by the package of its build function."""
    own = f"{target.rpartition('.')[0].rpartition('.')[0]}.family"
    is_own = own.count(".") == 2 and importlib.util.find_spec(own) is not None
    return cast(Family, importlib.import_module(own if is_own else DEFAULT))


def refuse_strangers(engine: Mapping[str, object], model: ModelSettings) -> None:
    """Raises ConfigError where the engine is of another family than the model."""
    theirs, ours = family_of_target(str(engine["_target_"])), family_of(model)
    if theirs is not ours:
        said = f"speaks {theirs.NAME}, and model={model.get('name')} is {ours.NAME}"
        raise ConfigError("engine", engine.get("name"), said, theirs.MODELS)
