"""How many sentences, clips or votes a question needs, before any of them is made.

One-sided test of a margin: n = ((z_alpha + z_power) sd / margin)^2 as tables print it, and by the noncentral t, which
is what a small sample really has. Rates by exact binomials; their power rises in a saw tooth, so the last n that falls
short decides.
"""

from __future__ import annotations

import math

import numpy as np
import scipy

from baselines.refused import SettingRefused

MOST = 2_000_000


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low < value < high:
        raise SettingRefused(name, value, f"must lie between {low:g} and {high:g}", "see --help")


def pairs_for_margin(margin: float, sd: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Paired values for non-inferiority at `margin` where nothing was lost; sd of one difference. Normal figure."""
    _check("margin", margin, 0, math.inf)
    _check("sd", sd, 0, math.inf)
    _check("power", power, 0, 1)
    _check("alpha", alpha, 0, 1)
    z = float(scipy.special.ndtri(power) - scipy.special.ndtri(alpha))
    return max(2, math.ceil((z * sd / margin) ** 2))


def pairs_for_margin_t(margin: float, sd: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """The same by the noncentral t: a little more than the normal figure where that is small."""
    from scipy import stats  # takes a second to import

    num = pairs_for_margin(margin, sd, power, alpha)
    while num < MOST:
        effect = margin / sd * math.sqrt(num)
        if float(stats.nct.sf(stats.t.isf(alpha, num - 1), num - 1, effect)) >= power:
            return num
        num += 1
    raise SettingRefused("margin", margin, f"takes over {MOST} pairs at sd={sd}", "see --help")


def clips_for_rate(limit: float, true_rate: float = 0.0, power: float = 0.8, alpha: float = 0.05) -> int:
    """Clips from which on a true rate of `true_rate` is shown to lie under `limit`, exactly: 299 for none and 1 %."""
    _check("limit", limit, 0, 1)
    if not 0 <= true_rate < limit:
        raise SettingRefused("true_rate", true_rate, f"must lie from 0 to under the limit {limit:g}", "see --help")
    reach = 64
    while reach <= MOST:
        num_N = np.arange(1, reach + 1)
        most_N = _most_events(num_N, limit, alpha)
        power_N = np.where(most_N >= 0, scipy.special.bdtr(np.maximum(most_N, 0), num_N, true_rate), 0.0)
        short_N = num_N[power_N < power]
        last = int(short_N[-1]) if short_N.size else 0
        if last < reach // 2:
            return last + 1
        reach *= 2
    raise SettingRefused(
        "true_rate", true_rate, f"takes over {MOST} clips, it lies too near the limit {limit:g}", "see --help"
    )


def _most_events(num_N: np.ndarray, limit: float, alpha: float) -> np.ndarray:
    """Largest k with P(Binomial(n, limit) <= k) <= alpha; -1 where there is none."""
    from scipy import stats  # takes a second to import

    k_N = stats.binom.ppf(alpha, num_N, limit)
    return np.where(scipy.special.bdtr(k_N, num_N, limit) <= alpha, k_N, k_N - 1)
