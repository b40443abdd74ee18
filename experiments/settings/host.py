"""The host class that overrides choose."""

from __future__ import annotations

from collections.abc import Iterable

from experiments.common.environment import fingerprint
from experiments.settings.compose import compose_config


def this_host_class(overrides: Iterable[str]) -> str:
    """Host class of this machine with the device that the overrides choose."""
    return str(fingerprint(compose_config(list(overrides))["device"])["host_class"])
