"""The Pareto front: what no other point beats in every figure at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Direction = Literal["minimize", "maximize"]


def pareto_front(points: Sequence[Sequence[float]], directions: Sequence[Direction]) -> list[int]:
    """Indices of the points that no other one dominates (as good in all figures, better in one); twins all stay.

    points: one sequence of figures each, in the order of `directions`. Raises ValueError for another number of them.
    """
    signs = [1.0 if direction == "minimize" else -1.0 for direction in directions]
    if any(len(point) != len(signs) for point in points):
        raise ValueError(f"every point needs {len(signs)} figures")
    costs = [tuple(sign * value for sign, value in zip(signs, point, strict=True)) for point in points]
    return [index for index, cost in enumerate(costs) if not any(_dominates(other, cost) for other in costs)]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
