"""The `gate` group as limits, and what they say of this machine before anything is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields

import yaml

from baselines.stored.machine import busy_text
from baselines.stored.verdict import Limits
from experiments.common.cli import warn_once
from experiments.common.environment import LOAD_WINDOW_S, other_cpu_frac
from experiments.common.presets import CONF, presets
from experiments.measuring.validate import gate_limits
from experiments.settings.compose import compose_config
from experiments.settings.keys import key_of

SAID: Mapping[str, str] = {
    "catch_ratio": "a slowdown by it never passes beyond the budget (processor time; wall time on a GPU)",
    "ignore_ratio": "a slowdown below it never fails beyond the budget",
    "coarse_catch_ratio": "the same of wall time on a CPU, which others may share",
    "coarse_ignore_ratio": "and of it",
    "snr_margin_db": "SNR may fall by so much, mean over sentences",
    "worst_sentence_snr_margin_db": "and in the worst sentence",
    "memory_ratio": "memory may grow by it, and by memory_extra_bytes",
    "memory_extra_bytes": "on top of the ratio",
    "energy_ratio": "joules per second of speech, where the baseline has them",
    "session_noise_frac": "assumed between sessions while fewer than three are known",
    "coarse_session_noise_frac": "the same of wall time on a CPU",
    "session_noise_floor_frac": "no estimate is believed below it",
    "drift_residual_frac": "of the machine's own drift that the calibration leaves",
    "machine_ratio": "a calibration may take that many times its time in the baseline",
    "other_cpu_frac": "of all cores that other processes may use when the run begins",
    "confidence": "unchanged code fails in at most 1 less it",
    "pass_confidence": "a change by catch_ratio passes in at most 1 less it",
}


def limit_lines() -> Iterator[str]:
    """A line of help for every limit of the group `gate`, with its default."""
    limits = gate_limits(yaml.safe_load((CONF / "gate" / "seeds.yaml").read_text("utf-8")))
    yield f"keys of gate (gate.KEY=VALUE; gate=NAME: {', '.join(presets('gate'))}):"
    for field in fields(limits):
        yield f"  {field.name}={getattr(limits, field.name)}".ljust(38) + f" {SAID[field.name]}"


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
