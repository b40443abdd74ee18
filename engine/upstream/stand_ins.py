"""What f5_tts imports and only its training uses, where it is not installed: empty modules in its place.

Upstream's package imports its trainer with its model, and with it wandb, datasets and cached_path, hundreds of
megabytes with what they bring. A name that is taken from a stand-in can be imported; calling it says what is missing.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

TRAINING_ONLY = ("wandb", "datasets", "cached_path")


class StandIn(ModuleType):
    """An empty module."""

    def __init__(self, name: str):
        super().__init__(name, "Stands in for a package that is not installed and that inference does not use.")
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        package = self.__name__

        def absent(*args: object, **kwargs: object) -> Any:
            raise ModuleNotFoundError(f"{package}.{name} was called and {package} is not installed", name=package)

        return type(name, (), {"__init__": absent})


def cover(names: Sequence[str] = TRAINING_ONLY) -> list[str]:
    """Puts a stand-in in the place of each that is absent; which those are. What is installed stays as it is."""
    absent = [name for name in names if name not in sys.modules and not _installed(name)]
    for name in absent:
        sys.modules[name] = StandIn(name)
    return absent


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
