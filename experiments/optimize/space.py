"""What a search is asked: its space in Hydra's sweep syntax, its objectives, its constraints; read from records."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from baselines.class_history import machine_fault
from baselines.stored.quality import is_valid
from engine.contract import ConfigError
from experiments.settings.overrides import check_sweep, parse, values_of
from metrics.fidelity.artefacts import METRIC as AUDIO_VALID
from metrics.fidelity.catalog import by_name
from metrics.pareto import Direction
from metrics.power.figures import GROSS, MEAN, NET
from metrics.record import RunRecord
from metrics.speed.peak import host_peak
from metrics.speed.steady import unsteady_reason
from metrics.speed.trials import speed_of

SPEED_OBJECTIVES = ("rtf", "latency_p50_s", "cpu_s_per_call", "peak_bytes")
ENERGY_OBJECTIVES = (GROSS, NET, MEAN)  # of the pass of measure=energy; the fewer the better
# Against the reference or nothing (a search has no oracle cell on every grid), and with a better direction
QUALITY: Mapping[str, str] = {
    name: metric.better for name, metric in by_name().items() if metric.better != "neither" and "_vs_oracle" not in name
}
FIGURES = (*SPEED_OBJECTIVES, *ENERGY_OBJECTIVES, *QUALITY)
SAMPLERS = ("tpe", "nsga2", "random")
CONSTRAINT = re.compile(r"\s*([a-z0-9_]+)\s*(<=|>=)\s*([-+0-9.eE]+)\s*")


class NoFigure(Exception):
    """A record that has no such figure; the message is the reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraint:
    """metric <= limit or metric >= limit."""

    metric: str
    is_upper: bool
    limit: float

    def excess(self, value: float) -> float:
        """At most 0 where it holds, as Optuna wants it."""
        return value - self.limit if self.is_upper else self.limit - value

    def __str__(self) -> str:
        return f"{self.metric}{'<=' if self.is_upper else '>='}{self.limit:g}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Dimension:
    """One key of the space: choices, or a number between two (a whole one or not), on a log scale or not."""

    key: str
    choices: tuple[str, ...] | None = None
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    is_whole: bool = False
    is_log: bool = False

    @property
    def size(self) -> int | None:
        """How many values there are, None for a continuum."""
        if self.choices is not None:
            return len(self.choices)
        return None if self.step is None else math.floor((self.high - self.low) / self.step + 1e-9) + 1

    def suggest(self, trial: Any) -> str:
        """The value as an override's text. trial: an optuna.Trial."""
        if self.choices is not None:
            return str(trial.suggest_categorical(self.key, self.choices))
        if self.is_whole:
            return str(trial.suggest_int(self.key, int(self.low), int(self.high), step=int(self.step or 1)))
        if self.step is not None:
            return f"{trial.suggest_float(self.key, self.low, self.high, step=self.step):.6g}"
        return f"{trial.suggest_float(self.key, self.low, self.high, log=self.is_log):.6g}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """fixed: overrides that every trial has."""

    dimensions: tuple[Dimension, ...]
    fixed: tuple[str, ...]

    @property
    def size(self) -> int | None:
        sizes = [dimension.size for dimension in self.dimensions]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)


def read_space(argv: Sequence[str], default: Any) -> Space:
    """The swept overrides of the command line, else the default space; what is not swept is fixed."""
    if not isinstance(default, Mapping):
        raise ConfigError("sweep.space", default, "is a group of keys", "see conf/sweep/search.yaml")
    parsed = parse(argv)
    fixed = tuple(str(override.input_line) for override in parsed if not override.is_sweep_override())
    swept = [override for override in parsed if override.is_sweep_override()]
    if not swept:
        given = {override.key_or_group for override in parsed}
        swept = parse([f"{key}={text}" for key, text in default.items() if key not in given])
    if not swept:
        raise ConfigError("space", "(none)", "nothing is left to search", "sweep a key, for example engine=fp32,bf16")
    return Space(dimensions=tuple(map(_dimension, swept)), fixed=fixed)


def _dimension(override: Override) -> Dimension:
    """Raises ConfigError for a sweep over nothing."""
    key, value = override.get_key_element(), override.value()
    check_sweep(override)
    if isinstance(value, RangeSweep):
        whole = all(isinstance(part, int) for part in (value.start, value.stop, value.step))
        last = value.start + (math.ceil((value.stop - value.start) / value.step) - 1) * value.step
        low, high = sorted((value.start, last))
        return Dimension(key=key, low=low, high=high, step=abs(value.step), is_whole=whole)
    if isinstance(value, IntervalSweep):
        whole = isinstance(value.start, int) and isinstance(value.end, int) and "int" in value.tags
        return Dimension(
            key=key, low=value.start, high=value.end, is_whole=whole, step=1 if whole else None,
            is_log="log" in value.tags,
        )  # fmt: skip
    return Dimension(key=key, choices=tuple(values_of(override)))


def read_constraints(texts: Any) -> tuple[Constraint, ...]:
    """Raises ConfigError for what is no condition on a known figure."""
    found = []
    for text in texts if isinstance(texts, list) else [texts]:
        match = CONSTRAINT.fullmatch(str(text))
        if match is None or match.group(1) not in FIGURES:
            known = ", ".join(FIGURES)
            raise ConfigError("sweep.constraints", text, "is not METRIC>=NUMBER", f"the metrics are {known}")
        found.append(
            Constraint(metric=match.group(1), is_upper=match.group(2) == "<=", limit=_number(text, match.group(3)))
        )
    return tuple(found)


def _number(text: object, digits: str) -> float:
    try:
        return float(digits)
    except ValueError:
        raise ConfigError("sweep.constraints", text, f"{digits} is no number", "write METRIC>=NUMBER") from None


def directions_of(objectives: Any) -> tuple[Direction, ...]:
    """Raises ConfigError for an unknown objective."""
    if not isinstance(objectives, list) or not objectives or len(set(objectives)) < len(objectives):
        raise ConfigError("sweep.objectives", objectives, "must be a list of different figures", "use [rtf,peak_bytes]")
    found: list[Direction] = []
    for name in objectives:
        if name not in FIGURES:
            known = ", ".join(FIGURES)
            raise ConfigError("sweep.objectives", name, "no such figure", f"use some of {known}")
        found.append("maximize" if QUALITY.get(name) == "higher" else "minimize")
    return tuple(found)


def figure_of(record: RunRecord, name: str) -> float:
    """One figure of a scored record. Raises NoFigure where it has none: no number without valid audio behind it."""
    if record.status != "ok":
        raise NoFigure(f"{record.status}: {record.reason}")
    _refuse_unheard(record)
    if name in QUALITY:
        return _mean_score(record, name)
    if name == "peak_bytes":
        return float(_peak_bytes(record))
    fault = machine_fault(record.environment)
    if fault is not None:
        raise NoFigure(f"the machine was not in order: {fault}")
    unsteady = unsteady_reason(record)
    if unsteady is not None:
        raise NoFigure(f"not steady: {unsteady}")
    if name in ENERGY_OBJECTIVES:
        return _energy(record, name)
    speed = speed_of(record.trials)
    return {"rtf": speed.rtf_ratio, "latency_p50_s": speed.latency_p50_s, "cpu_s_per_call": speed.cpu_s_per_call}[name]


def _peak_bytes(record: RunRecord) -> int:
    """Of the GPU's own memory where it has some, else of the host's; of the one memory of a board that has one."""
    peak = host_peak(record)
    if record.peak_device_bytes is not None and (peak is None or peak[1] != "unified"):
        return record.peak_device_bytes
    if peak is None:
        raise NoFigure("peak memory was not read")
    return peak[0]


def _energy(record: RunRecord, name: str) -> float:
    score = next(iter(record.scores_of(name)), None)
    if score is None or score.status != "ok" or score.value is None:
        # Of a pass that gave nothing, the first figure alone says why
        found = score or next(iter(record.scores_of(GROSS)), None)
        raise NoFigure(f"{name}: {found.reason if found else 'measured without measure=energy'}")
    return score.value


def _refuse_unheard(record: RunRecord) -> None:
    """Every sentence has a verdict on its audio, and it is acceptable; where scoring crashed there is none at all."""
    checked = {score.utterance_id: score for score in record.scores_of(AUDIO_VALID)}
    spoken = {u.utterance_id for u in record.utterances} | {t.utterance_id for t in record.steady_trials}
    for name in sorted(spoken):
        if name not in checked:
            raise NoFigure(
                f"audio not checked ({name}): its scoring came to no end; going on with the search does it again"
            )
        if not is_valid(record, checked[name]):
            raise NoFigure(f"audio invalid ({name}: {checked[name].reason})")


def _mean_score(record: RunRecord, name: str) -> float:
    """Over all sentences: a score that one of them lacks would compare other sentences."""
    scores = record.scores_of(name)
    missing = next((score for score in scores if score.value is None), None)
    if missing is not None or not scores:
        raise NoFigure(f"{name}: {missing.reason if missing else 'was not computed (quality.metrics)'}")
    return fmean(score.value for score in scores if score.value is not None)
