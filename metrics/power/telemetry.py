"""The lines of a telemetry.jsonl, as experiments.telemetry.sampler writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict


class Chip(TypedDict):
    """A sensor and its filter."""

    name: str
    samples: int | None
    update_interval_ms: float | None


class State(TypedDict, total=False):
    """What a board says of itself at one moment, without what has no value then (experiments.telemetry.board_state):
    degrees by zone, counters of throttling since it was started, what throttles now."""

    zones_c: Mapping[str, float]
    gpu_c: float
    events: Mapping[str, int]
    throttles: list[str]
    mem_available_bytes: int
    ram_used_bytes: int
    swap_used_bytes: int
    gpu_hz: float
    gpu_load_frac: float
    fan_frac: float


class Line(State, total=False):
    """The head has the keys up to chips, samples those from t_s (CLOCK_MONOTONIC), and what the source says beside.

    rule: of the total; total_of: the parts that it adds up; span_j: where a counter of joules begins again.
    """

    kind: str
    source: str
    rule: str | None
    total_of: list[str]
    periods_s: Mapping[str, float]
    span_j: Mapping[str, float]
    chips: list[Chip]
    t_s: float
    unix_s: float
    rails_w: Mapping[str, float]
    total_w: float
    counters_j: Mapping[str, float]
