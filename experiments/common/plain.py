"""The whole configuration in the plain form that is composed, measured with and stored: which keys, of what kind.

Nothing here needs Hydra or pydantic: a worker imports it, and its memory is a figure. Bounds stand with the keys;
`experiments.settings.groups` makes models of them, by which every configuration is checked before anything is started.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypedDict, cast

from annotated_types import Ge, Gt, Le

from engine.keys import LONGEST_S, MOST_BYTES, MOST_COUNT, Elsewhere, Named
from engine.settings import EngineConfig

LAST_SEED = 2**63 - 1  # of torch's and numpy's generators

FromZero = Annotated[int, Ge(0), Le(MOST_COUNT)]
FromOne = Annotated[int, Ge(1), Le(MOST_COUNT)]
Seed = Annotated[int, Ge(0), Le(LAST_SEED)]
Seconds = Annotated[float, Gt(0), Le(LONGEST_S)]


class MeasureSettings(Named, total=False):
    """`measure`: rounds over the workload, warm-up, limits; slow_*: for solvers of slow_from_evals evaluations or more.
    calibration: the kinds of work timed beside, calibrations_per_round: of each."""

    warmup_rounds: FromZero
    warmup_utterances: FromOne
    rounds: FromOne
    slow_rounds: FromOne
    slow_warmup_rounds: FromZero
    slow_from_evals: FromOne
    calibration: Literal["all", "gemm", "memory", "dispatch", "none"]
    calibrations_per_round: FromOne
    cold_starts: FromZero
    energy_busy_s: Annotated[float, Ge(0), Le(LONGEST_S)]
    order_seed: Seed
    time_limit_s: Seconds
    memory_limit_bytes: Annotated[int, Ge(1 << 20), Le(MOST_BYTES)] | None
    machine_ratio: Annotated[float, Gt(1)] | None
    gemm_peak: bool


class RecogniserSettings(TypedDict, total=False):
    """`quality.recogniser`. folder: of a CTranslate2 Whisper, null: the packaged tiny.en."""

    kind: str
    folder: str | None
    language: str


class SpeakerSettings(TypedDict, total=False):
    """`quality.speaker`. file: of wavlm and ecapa."""

    kind: str
    file: str | None


class PredictedMosSettings(TypedDict, total=False):
    """`quality.predicted_mos`: local files, never downloaded; null: the packaged one, where there is one."""

    dnsmos: str | None
    dnsmos_p808: str | None
    utmos: str | None


class QualitySettings(Named, total=False):
    """`quality`: which scores, by which models, against what. timeout_s: of one call of foreign code in its child,
    child_memory_bytes: the child's address space. reference_model: own, a preset's name or a whole `model` group."""

    enabled: bool
    metrics: list[str]
    timeout_s: Seconds
    child_memory_bytes: Annotated[int, Ge(1 << 28), Le(MOST_BYTES)]
    reference_dir: str | None
    reference_model: Annotated[str | Mapping[str, object] | None, Elsewhere()]
    recogniser: RecogniserSettings
    speaker: SpeakerSettings
    predicted_mos: PredictedMosSettings


class RetrySettings(TypedDict, total=False):
    """`sweep.retries`: attempts beyond the first, by kind of failure."""

    exception: FromZero
    out_of_memory: FromZero
    killed: FromZero
    crash: FromZero
    hang: FromZero


class SweepSettings(Named, total=False):
    """`sweep`. hosts: patterns of host classes, for launcher=ray; None: all that there are. grace_s: beyond
    measure.time_limit_s, to build and to write. From num_trials on: of a search."""

    all: bool
    hosts: list[str] | None
    fail_fast: bool
    max_failures: FromOne | None
    resume: str | None
    lock: Literal["wait", "refuse"]
    grace_s: Annotated[float, Ge(0), Le(LONGEST_S)]
    retries: RetrySettings
    num_trials: FromOne
    sampler: str
    sampler_seed: Annotated[int, Ge(0), Le(2**32 - 1)]
    objectives: list[str]
    constraints: str | list[str]
    space: Mapping[str, object]


class LauncherSettings(Named, total=False):
    """`launcher`: where cells are measured, local or ray. address: HOST:PORT of the fleet's head, None for RAY_ADDRESS.
    losses: so often a cell goes on elsewhere when its machine is lost. wait_s: for a machine of a class that has none
    left; small_bytes: files that travel, larger ones have to be on the machines."""

    address: str | None
    losses: FromZero
    wait_s: Annotated[float, Ge(0), Le(LONGEST_S)]
    small_bytes: Annotated[int, Ge(0), Le(MOST_BYTES)]


class TrackingSettings(Named, total=False):
    """`tracking`: MLflow as a sink. uri: None for MLFLOW_TRACKING_URI, else a database below outputs/."""

    mode: Literal["auto", "off"]
    uri: str | None
    experiment: str
    timeout_s: Seconds


class LineSettings(TypedDict):
    """Which lines of which text lists. select: their ids, None for all."""

    texts: str | list[str]
    select: list[str] | None
    limit: FromOne | None


class WorkloadSettings(Named, LineSettings):
    """`workload`."""


class GateSettings(Named):
    """`gate`: beside its name the limits of baselines.stored.verdict, which checks them."""


class Config(EngineConfig, total=False):
    """One experiment, as conf/config.yaml composes it. gate: baselines.stored.verdict.Limits."""

    workload: WorkloadSettings
    measure: MeasureSettings
    quality: QualitySettings
    gate: Mapping[str, object]
    tracking: TrackingSettings
    sweep: SweepSettings
    launcher: LauncherSettings
    seed: Seed
    out: str | None


def as_plain(config: Config) -> Mapping[str, object]:
    """To look a group up by a name that is not known here."""
    return config


def as_config(stored: Mapping[str, object]) -> Config:
    """A configuration that was checked when it was stored, or that is checked next."""
    return cast(Config, stored)
