"""`environment` of a record: the host's fingerprint, the machine's state, what was seen of it meanwhile.

The keys that are read, of what kind; others are kept as they are. Which of them a record has depends on the machine,
and on the version that wrote it. experiments.common.environment says how each is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict


class Board(TypedDict, total=False):
    """`jetson`: which board it is (experiments.jetson.board). unknown: what could not be read -> why not."""

    board: str
    family: str
    model: str | None
    module: str | None
    carrier: str | None
    l4t: str | None
    jetpack: str | None
    mode_id: int | None
    mode_name: str | None
    clocks: str | None
    memory_bytes: int | None
    unknown: Mapping[str, str]


class MachineEntry(TypedDict, total=False):
    """`machine`: what baselines.class_history.MachineState found; valid: None where there was nothing to compare."""

    valid: bool | None
    ratio: float | None
    limit_ratio: float | None
    num_runs: int
    num_shipped: int
    reason: str | None


class UnifiedMemory(TypedDict, total=False):
    """`unified_memory`: MemAvailable before the worker was started, its lowest, and the difference."""

    before_bytes: int
    lowest_bytes: int
    lost_bytes: int


class PowerSeen(TypedDict, total=False):
    """`telemetry` of the timed rounds and `energy` of the energy pass: the figures of a telemetry.jsonl
    (metrics.power.summary). From zeus_j on: a second opinion on a card, and why there is none."""

    source: str
    rule: str
    num_samples: int
    power_mean_w: float
    power_max_w: float
    longest_gap_s: float
    hottest_c: float
    hottest_zone: str
    throttles: list[str]
    events: Mapping[str, int]
    swap_grew_bytes: int
    zeus_j: float
    own_j: float
    zeus_difference_frac: float
    zeus_missing: str


class Commit(TypedDict, total=False):
    """The commit of the code that measured. git_reason: why there is none."""

    git_commit: str | None
    git_dirty: bool | None
    git_reason: str | None


class Environment(Commit, total=False):
    """device: cpu or cuda[:INDEX]. versions: of the packages that decide speed or sound. started: UTC.

    load_1min, other_cpu_frac: how busy other programs kept the machine. gemm_peak_*: operations a second by kind of
    product, and whose product that was.
    """

    host_class: str
    device: str
    cpu_model: str | None
    cpu_flags: list[str] | None
    num_cores: int | None
    memory_bytes: int
    kernel: str | None
    python: str | None
    versions: Mapping[str, str] | None
    gpu: str | None
    power_mode: str | None
    jetson: Board | None
    threads: int | None
    load_1min: float | None
    other_cpu_frac: float | None
    started: str | None
    gemm_peak_flop_per_s: Mapping[str, float]
    gemm_peak_by: Mapping[str, str]
    machine: MachineEntry | None
    unified_memory: UnifiedMemory | None
    telemetry: PowerSeen | None
    energy: PowerSeen | None
