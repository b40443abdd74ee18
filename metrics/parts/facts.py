"""`facts` of a record: what an engine says that was built (engine.contract.EngineFacts), as JSON has it.

The keys that are read, of what kind; others are kept as they are. Records of before lack what came later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict


class Student(TypedDict, total=False):
    """Of a model that another one taught: the guidance that its one row has in it; empty of every other."""

    taught_cfg_strength: float


class Facts(TypedDict, total=False):
    """proof: counters, histograms, providers; which ones is each backend's own."""

    name: str
    denoiser: str
    precision: str
    solver: str
    steps: int
    evals_per_step: int
    time_grid: list[float]
    sway: float
    cfg_strength: float
    vocoder: str
    model: str
    device_name: str
    num_threads: int
    weights_bytes: int
    weights_sha256: str
    random_weights: bool
    sample_rate_hz: int
    max_batch: int
    versions: Mapping[str, str]
    proof: Mapping[str, object]
    solver_options: Mapping[str, object]
    enhance: Mapping[str, object]
    noise: str
    student: Student
