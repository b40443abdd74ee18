"""How many times as fast one row is as the base, with an interval over the sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metrics.paired import t_quantile
from metrics.record import Trial
from reports.data.table import Row, Table, is_void

MIN_SENTENCES = 6  # as for every interval of a median
ONE_SIDED_ERROR = 0.025


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """ratio: the base's RTF over the row's. low..high: 95 % interval, None under six sentences."""

    ratio: float
    low: float | None
    high: float | None


def times_of(row: Row, table: Table) -> Times | None:
    """None where the row shows no speed, has no ratio to the base, or either was timed by a machine not in order."""
    base = next((other for other in table.rows if other.label == table.base_label), None)
    if row.timing is None or row.timing.times_base is None or base is None or is_void(base) or is_void(row):
        return None
    if row is base or base.cell.record is None or row.cell.record is None:
        return Times(ratio=row.timing.times_base, low=None, high=None)
    interval = times_interval(base.cell.record.steady_trials, row.cell.record.steady_trials)
    low, high = interval or (None, None)
    return Times(ratio=row.timing.times_base, low=low, high=high)


def times_interval(base: Sequence[Trial], own: Sequence[Trial]) -> tuple[float, float] | None:
    """95 % interval of the ratio of two RTFs, sentences being the sample: what other sentences like these would give.

    Ratio estimator with a linearised standard error (Cochran, Sampling Techniques, 1977, section 6.4) of the four sums
    that the ratio is made of, and Student's t. What another process would give is not in it. None under six sentences.
    """
    sums = [_by_sentence(base), _by_sentence(own)]
    names = sorted(sums[0].keys() & sums[1].keys())
    if len(names) < MIN_SENTENCES:
        return None
    (base_wall, base_audio), (wall, audio) = (
        np.asarray([by_name[name] for name in names], dtype=np.float64).T for by_name in sums
    )
    shares = [part / part.sum() for part in (base_wall, base_audio, wall, audio)]
    deviations = shares[0] - shares[1] - shares[2] + shares[3]
    log_ratio = math.log(base_wall.sum() / base_audio.sum()) - math.log(wall.sum() / audio.sum())
    half = t_quantile(len(names), ONE_SIDED_ERROR) * math.sqrt(
        len(names) / (len(names) - 1) * float(deviations @ deviations)
    )
    return math.exp(log_ratio - half), math.exp(log_ratio + half)


def _by_sentence(trials: Sequence[Trial]) -> Mapping[str, tuple[float, float]]:
    """Sentence -> (wall seconds, audio seconds), summed over its trials."""
    sums: dict[str, tuple[float, float]] = {}
    for trial in trials:
        wall_s, audio_s = sums.get(trial.utterance_id, (0.0, 0.0))
        sums[trial.utterance_id] = (wall_s + trial.wall_s, audio_s + trial.audio_s)
    return sums
