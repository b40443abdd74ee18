"""What load.json holds beside the figures of its levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from experiments.common.journal import About


class AskedLoad(TypedDict, total=False):
    """experiments.serve.settings.Load as it is stored, as far as the words need it."""

    scenario: str
    transport: str
    limit_s: float
    target_s: float | None


class Head(About):
    """Everything that is not a figure."""

    created: str
    settings: AskedLoad


class MedianTime(TypedDict):
    """interval_s: None where the pairs were too few for one."""

    value_s: float
    interval_s: tuple[float, float] | None


class ColdPairs(TypedDict, total=False):
    """Of cold_vs_warm: a fresh process against the warm service. errors: reason -> how many pairs; refusal: why the
    comparison ended before its time, and there are no times; ratio: cold / warm, None where the pairs were too few."""

    num_pairs: int
    errors: Mapping[str, int]
    refusal: str | None
    cold_s: MedianTime
    cold_build_s: MedianTime
    cold_call_s: MedianTime
    warm_s: MedianTime
    ratio: RatioEntry | None


class RatioEntry(TypedDict):
    """As metrics.stats.ratio_interval has it."""

    ratio: float
    low: float
    high: float
    num_pairs: int
