"""The `gate` group as limits."""

from __future__ import annotations

from collections.abc import Sequence

from baselines.stored.verdict import Limits
from experiments.measuring.validate import gate_limits
from experiments.settings.compose import compose_config
from experiments.settings.keys import key_of


def read_limits(overrides: Sequence[str]) -> Limits:
    """The `gate` group as the overrides leave it. Raises ConfigError."""
    return gate_limits(compose_config([text for text in overrides if key_of(text).split(".")[0] == "gate"])["gate"])
