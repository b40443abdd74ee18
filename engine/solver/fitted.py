"""A solver whose coefficients were fitted to one model instead of derived: a non-stationary multistep method,

    x_{i+1} = x_0 + sum_{j <= i} w_ij v_j,

with its own times, guidance strengths and weights ("bespoke non-stationary solvers", Shaul et al., arXiv 2403.01329).
Euler is the case w_ij = t_{j+1} - t_j. `python -m experiments.solvers.fit workload=seeds_en` makes one; another model
needs its own.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from engine.contract import ConfigError, UnsupportedEngine
from engine.settings import SolverSettings

FITTED = "fitted"
REMEDY = "write a preset with `python -m experiments.solvers.fit workload=seeds_en workload.limit=14`"


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """model: the `model.name` it was fitted to. weights: one row a step, the i-th with i + 1 numbers."""

    model: str
    weights: tuple[tuple[float, ...], ...]

    def solve(self, velocity: Callable[[torch.Tensor, int], torch.Tensor], x0: torch.Tensor) -> torch.Tensor:
        velocities: list[torch.Tensor] = []
        x = x0
        for i, row in enumerate(self.weights):
            velocities.append(velocity(x, i))
            x = x0
            for weight, v in zip(row, velocities, strict=True):
                x = torch.add(x, v, alpha=weight)
        return x

    def check_model(self, name: str) -> None:
        """By name; what else changed is for the quality gate. Raises UnsupportedEngine for another model."""
        if name != self.model:
            raise UnsupportedEngine(
                f"this solver was fitted to model={self.model}, and this is {name}",
                f"`python -m experiments.solvers.fit {shlex.quote(f'model={name}')} workload=seeds_en` makes one",
            )


def fitted_of(config: SolverSettings, steps: int) -> Fitted | None:
    """`fitted` of the `solver` group, which goes with method=fitted and an explicit grid of `steps` intervals."""
    given = config.get("fitted")
    if config["method"] != FITTED:
        if given is not None:
            raise ConfigError(
                "solver.fitted", given, f"belongs to method=fitted, not {config['method']}", "set solver.fitted=null"
            )
        return None
    if isinstance(config["grid"], str):
        raise ConfigError("solver.grid", config["grid"], "method=fitted has its own list of t", REMEDY)
    for key in ("steps", "num_evals"):
        if config.get(key) is not None:
            raise ConfigError(
                f"solver.{key}", config[key], f"this solver was fitted with {steps} steps",
                "set it to null, or fit another: python -m experiments.solvers.fit steps=3 workload=seeds_en",
            )  # fmt: skip
    if not isinstance(given, Mapping) or set(given) != {"model", "weights"} or not isinstance(given["model"], str):
        raise ConfigError("solver.fitted", given, "method=fitted needs {model: NAME, weights: [[...], ...]}", REMEDY)
    rows = given["weights"]
    if not (isinstance(rows, Sequence) and len(rows) == steps and all(map(_is_row, rows, range(1, steps + 1)))):
        raise ConfigError(
            "solver.fitted.weights", rows, f"must be {steps} rows of 1 to {steps} numbers, a row a step", REMEDY
        )
    return Fitted(model=given["model"], weights=tuple(tuple(map(float, row)) for row in rows))


def _is_row(row: Any, length: int) -> bool:
    numbers = isinstance(row, Sequence) and not isinstance(row, str) and len(row) == length
    return numbers and all(isinstance(w, int | float) and not isinstance(w, bool) and abs(w) < 1e6 for w in row)
