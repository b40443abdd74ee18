"""Time grids as explicit lists, computed in float64 on the host.

EPSS (Empirically Pruned Step Sampling, arXiv 2505.19931) keeps a subset of the uniform 1/32 grid; sway warps a grid
towards t = 0 (F5-TTS, arXiv 2410.06885, eq. 7).
"""

import itertools
import math
from collections.abc import Sequence

from engine.contract import ConfigError

EPSS_KEPT = {
    5: (0, 2, 4, 8, 16, 32),
    6: (0, 2, 4, 6, 8, 16, 32),
    7: (0, 2, 4, 6, 8, 16, 24, 32),
    10: (0, 2, 4, 6, 8, 12, 16, 20, 24, 28, 32),
    12: (0, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32),
    16: (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32),
}
# Ours, by EPSS' pattern: dense below 8/32, then 12/32 and steps of 8/32. Neither in the paper nor in upstream
EPSS8_STYLE = (0, 2, 4, 6, 8, 12, 16, 24, 32)
SWAY_MIN = -1.0
SWAY_MAX = 1.75  # beyond 2 / (pi - 2) = 1.7519 the warped grid leaves [0, 1] and stops increasing


def uniform(steps: int) -> list[float]:
    """steps + 1 equally spaced values from 0 to 1."""
    return [i / steps for i in range(steps + 1)]


def epss(steps: int) -> list[float]:
    """Raises ConfigError where EPSS is not defined; upstream silently takes the uniform grid there."""
    if steps not in EPSS_KEPT:
        raise ConfigError(
            "solver.grid", "epss", f"EPSS is defined for {', '.join(map(str, EPSS_KEPT))} steps, not {steps}",
            "use solver.grid=uniform (what upstream silently does) or another number of steps",
        )  # fmt: skip
    return [i / 32 for i in EPSS_KEPT[steps]]


def epss8_style(steps: int) -> list[float]:
    """Eight steps by the pattern of EPSS, which has no grid of eight. Raises ConfigError for other numbers."""
    if steps != len(EPSS8_STYLE) - 1:
        raise ConfigError("solver.grid", "epss8_style", f"has 8 steps, not {steps}", "use solver.grid=epss or uniform")
    return [i / 32 for i in EPSS8_STYLE]


GRIDS = {"epss": epss, "epss8_style": epss8_style, "uniform": uniform}


def sway(grid: Sequence[float], coefficient: float) -> list[float]:
    """t + s (cos(pi t / 2) - 1 + t). Raises ConfigError outside [-1, 1.75], where t stops increasing."""
    if not SWAY_MIN <= coefficient <= SWAY_MAX:
        raise ConfigError(
            "solver.sway", coefficient, f"must lie in [{SWAY_MIN:g}, {SWAY_MAX:g}]: outside it t does not increase",
            "use -1 (upstream's default) or 0 (no warp)",
        )  # fmt: skip
    return [t + coefficient * (math.cos(math.pi / 2 * t) - 1 + t) for t in grid]


def explicit(values: Sequence[float]) -> list[float]:
    """A grid given as a list: from 0 to 1, strictly increasing."""
    are_numbers = isinstance(values, (list, tuple)) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in values
    )
    if not are_numbers:
        raise ConfigError("solver.grid", values, "must be a name or a list of numbers", "use solver.grid=uniform")
    grid = [float(value) for value in values]
    increasing = all(a < b for a, b in itertools.pairwise(grid))
    if len(grid) < 2 or grid[0] != 0.0 or grid[-1] != 1.0 or not increasing:
        raise ConfigError(
            "solver.grid", list(values), "a list must begin with 0, end with 1 and increase strictly",
            "correct the list, or use solver.grid=uniform",
        )  # fmt: skip
    return grid


def time_grid(kind: str | Sequence[float], steps: int, sway_coefficient: float) -> list[float]:
    """The explicit grid of a solver configuration; an explicit list is taken as it is, without sway."""
    if not isinstance(kind, str):
        return explicit(kind)
    if kind not in GRIDS:
        raise ConfigError(
            "solver.grid", kind, "must be epss, epss8_style, uniform or a list of t", "use solver.grid=uniform"
        )
    return sway(GRIDS[kind](steps), sway_coefficient)
