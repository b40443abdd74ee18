"""Where a score lies between "nothing changed" (0) and "another seed" (1), and which margins can be tested at all."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from metrics.fidelity.catalog import by_name
from metrics.record import Floor, Score

_ENERGY_DB = ("snr", "si_sdr")  # on a scale where identical is finite: the share of noise, 10^(-dB/10)


def position(metric: str, value: float, floor: Floor) -> float | None:
    """(value - identical) / (another seed - identical): 0 is identical, 1 no closer than another seed would be.

    None where the metric has no value for identical audio, or the seeds do not differ in it.
    """
    known = by_name().get(metric)
    if known is None or known.identical is None or floor.other_seed is None:
        return None
    value, identical, other = (_scaled(known.key, x) for x in (value, known.identical, floor.other_seed))
    return None if math.isclose(other, identical, abs_tol=1e-9) else (value - identical) / (other - identical)


def _scaled(key: str, value: float) -> float:
    return 10 ** (-value / 10) if key in _ENERGY_DB else value


def not_testable(margin: float, floor: Floor | None) -> str | None:
    """Why a margin cannot be tested: it is under what the metric says when the same run is made twice; None: it can."""
    known = by_name().get(floor.metric) if floor is not None else None
    if floor is None or floor.repeat is None or known is None or known.identical is None:
        return None
    own = abs(floor.repeat - known.identical)
    if known.key == "pesq" and own < 1e-3:  # the best PESQ is 4.6439, printed as 4.644
        own = 0.0
    if margin >= own:
        return None
    return f"not testable: the margin {margin:g} is under the metric's own floor {own:.3g} (the same run twice)"


def floors_from(repeat: Sequence[Score], base: Sequence[Score], seeds: Mapping[int, Sequence[Score]]) -> list[Floor]:
    """One floor per metric. repeat: the same seed again against the base; seeds: other seeds against the base."""
    names = sorted({score.metric for scores in (base, *seeds.values()) for score in scores} & by_name().keys())
    return [_floor(name, repeat, base, seeds) for name in names]


def _floor(metric: str, repeat: Sequence[Score], base: Sequence[Score], seeds: Mapping[int, Sequence[Score]]) -> Floor:
    paired = bool(by_name()[metric].towards)
    others = [value for scores in seeds.values() for value in _values(metric, scores).values()]
    again = list(_values(metric, repeat).values())
    runs = [_values(metric, scores) for scores in seeds.values()] + ([] if paired else [_values(metric, base)])
    spread = [
        statistics.stdev(found)
        for name in sorted({name for run in runs for name in run})
        if len(found := [run[name] for run in runs if name in run]) > 1
    ]
    return Floor(
        metric=metric,
        repeat=statistics.fmean(again) if again and paired else None,
        other_seed=statistics.fmean(others) if others and paired else None,
        other_seed_sd=statistics.fmean(spread) if spread else None,
        num_seeds=len(seeds) + 1,
        num_pairs=len(others),
    )


def _values(metric: str, scores: Sequence[Score]) -> dict[str, float]:
    return {s.utterance_id: s.value for s in scores if s.metric == metric and s.utterance_id and s.value is not None}
