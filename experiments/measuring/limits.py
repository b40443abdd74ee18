"""The `gate` group as limits, and what they say of this machine before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence

from baselines.stored.machine import busy_text
from baselines.stored.verdict import Limits
from experiments.common.cli import warn_once
from experiments.common.environment import LOAD_WINDOW_S, other_cpu_frac
from experiments.measuring.validate import gate_limits
from experiments.settings.compose import compose_config
from experiments.settings.keys import key_of


def read_limits(overrides: Sequence[str]) -> Limits:
    """The `gate` group as the overrides leave it. Raises ConfigError."""
    return gate_limits(compose_config([text for text in overrides if key_of(text).split(".")[0] == "gate"])["gate"])


def warn_if_busy(limits: Limits) -> None:
    """One line on stderr where the run that is about to begin will probably be void, by the rule that then judges."""
    text = busy_text(other_cpu_frac(LOAD_WINDOW_S), limits)
    if text is not None:
        warn_once(
            f"other processes use {text}: the run will probably be void (exit code 12); better end it now, and run "
            "again when they have ended"
        )
