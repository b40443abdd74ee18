"""Engines built by name in this process, and what they say of themselves."""

from __future__ import annotations

from typing import cast

from engine.clock import Clock
from engine.contract import Engine, EngineFacts
from engine.families.family import family_of
from experiments.common.environment import num_threads
from experiments.common.plain import Config
from metrics.parts.facts import Facts
from metrics.speed.memory import read_memory


def facts_content(facts: EngineFacts) -> Facts:
    """Facts as JSON holds them. `enhance` stands there where something is done, as before there was the choice."""
    content = {name: getattr(facts, name) for name in EngineFacts.__dataclass_fields__}
    for name in ("enhance", "student"):
        if not content[name]:
            del content[name]
        else:
            content[name] = dict(content[name])
    return cast(Facts, {**content, "versions": dict(facts.versions), "proof": dict(facts.proof)})


def resident_peak_bytes() -> int:
    """VmHWM alone: read_memory also walks the page tables for PSS, milliseconds that a trial must not wait for."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
            return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
    except OSError:
        return read_memory().peak_rss_bytes


def build_by_name(config: Config, clock: Clock) -> Engine:
    """The engine that conf/engine names, on the configured number of threads."""
    from engine.build import build_engine

    family_of(config["model"]).use_threads(num_threads(config["device"]))
    return build_engine(config, clock)
