"""verdict.json of a comparison and load.json as they lie on disk, as far as MLflow gets them.

A key that files of an earlier form, or of a failed measurement, lack may be missing.
"""

from __future__ import annotations

from typing import Any, TypedDict

from experiments.common.plain import Config, TrackingSettings
from metrics.parts.environment import Environment
from metrics.parts.facts import Facts
from metrics.parts.spoken import Spoken
from reports.verdicts.paired import SideContent


class PairEntry(TypedDict):
    """One of a verdict's `findings`, or its `sentinel`: candidate / reference with the bounds that decided."""

    metric: str
    ratio: float
    low: float
    high: float
    median_s: dict[str, float]


class VerdictFile(TypedDict, total=False):
    outcome: str
    created: str
    reason: str | None
    wall_s: float
    num_blocks: int
    num_turns: int
    findings: list[PairEntry]
    sentinel: PairEntry | None
    sides: dict[str, SideContent]
    environment: Environment
    workload: Spoken
    tracking: TrackingSettings


class AudioEntry(TypedDict):
    num_heard: int
    num_invalid: int


class PercentileEntry(TypedDict):
    value_s: float | None


class QueueEntry(TypedDict):
    mean: float


class LevelEntry(TypedDict, total=False):
    """One of a load's `levels`. refusal: why only its errors are counted."""

    name: str
    num_ok: int
    refusal: str | None
    error_frac: float
    latency_p50: PercentileEntry
    latency_p95: PercentileEntry
    latency_p99: PercentileEntry
    requests_per_s: float | None
    generated_s_per_s: float | None
    queue: QueueEntry


class LeakEntry(TypedDict):
    outcome: str
    slope_bytes_per_h: float | None
    interval_bytes_per_h: tuple[float, float] | None


class TargetEntry(TypedDict):
    """An open loop's p95 against its target."""

    outcome: str
    over_frac: float


class SearchEntry(TypedDict):
    outcome: str
    holds_per_s: float | None
    fails_per_s: float | None


class ColdEntry(TypedDict):
    """ratio: cold / warm with its interval, None where the pairs were too few."""

    ratio: dict[str, float] | None


class LoadFile(TypedDict, total=False):
    created: str
    status: str
    reason: str | None
    label: str
    config: Config
    settings: dict[str, Any]
    facts: Facts
    environment: Environment
    workload: Spoken
    audio: AudioEntry
    levels: list[LevelEntry]
    leak: LeakEntry | None
    search: SearchEntry | None
    target: TargetEntry | None
    cold_vs_warm: ColdEntry | None
