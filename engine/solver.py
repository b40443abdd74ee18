"""Fixed-grid ODE solvers as pure functions of (velocity, x0, grid), dx/dt = v(x, t).

The velocity is addressed by the index of its evaluation point, because everything that depends on t only is a table
(engine.step). `evaluation_times` lists those points; a solver evaluates them in exactly that order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from engine.contract import ConfigError
from engine.grid import time_grid

Velocity = Callable[[torch.Tensor, int], torch.Tensor]


def euler(velocity: Velocity, x: torch.Tensor, grid: Sequence[float]) -> torch.Tensor:
    for i in range(len(grid) - 1):
        x = x + (grid[i + 1] - grid[i]) * velocity(x, i)
    return x


def midpoint(velocity: Velocity, x: torch.Tensor, grid: Sequence[float]) -> torch.Tensor:
    for i in range(len(grid) - 1):
        h = grid[i + 1] - grid[i]
        half = x + h / 2 * velocity(x, 2 * i)
        x = x + h * velocity(half, 2 * i + 1)
    return x


def heun(velocity: Velocity, x: torch.Tensor, grid: Sequence[float]) -> torch.Tensor:
    """Heun's second-order method (explicit trapezoid); the end of a step is evaluated again by the next one."""
    for i in range(len(grid) - 1):
        h = grid[i + 1] - grid[i]
        k1 = velocity(x, 2 * i)
        k2 = velocity(x + h * k1, 2 * i + 1)
        x = x + h / 2 * (k1 + k2)
    return x


def rk4(velocity: Velocity, x: torch.Tensor, grid: Sequence[float]) -> torch.Tensor:
    """The classical fourth-order method."""
    for i in range(len(grid) - 1):
        h = grid[i + 1] - grid[i]
        k1 = velocity(x, 4 * i)
        k2 = velocity(x + h / 2 * k1, 4 * i + 1)
        k3 = velocity(x + h / 2 * k2, 4 * i + 2)
        k4 = velocity(x + h * k3, 4 * i + 3)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


# method -> (function, where inside a step it evaluates)
METHODS: Mapping[str, tuple[Callable[[Velocity, torch.Tensor, Sequence[float]], torch.Tensor], tuple[float, ...]]] = {
    "euler": (euler, (0.0,)),
    "midpoint": (midpoint, (0.0, 0.5)),
    "heun": (heun, (0.0, 1.0)),
    "rk4": (rk4, (0.0, 0.5, 0.5, 1.0)),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SolverSpec:
    """A checked solver configuration. `grid` is the explicit list of t; steps = intervals of it."""

    name: str
    method: str
    grid: tuple[float, ...]
    grid_kind: str
    sway: float
    cfg_strength: float

    @property
    def steps(self) -> int:
        return len(self.grid) - 1

    @property
    def evals_per_step(self) -> int:
        return len(METHODS[self.method][1])

    @property
    def evaluation_times(self) -> tuple[float, ...]:
        """t of every velocity evaluation, in the order the solver makes them."""
        offsets = METHODS[self.method][1]
        pairs = zip(self.grid, self.grid[1:], strict=False)
        return tuple(a + (b - a) * offset for a, b in pairs for offset in offsets)

    def solve(self, velocity: Velocity, x0: torch.Tensor) -> torch.Tensor:
        return METHODS[self.method][0](velocity, x0, self.grid)


def solver_spec(config: Mapping[str, Any]) -> SolverSpec:
    """The `solver` group -> SolverSpec. Raises ConfigError for what cannot be run as asked."""
    method = config["method"]
    if method not in METHODS:
        raise ConfigError("solver.method", method, f"must be one of {', '.join(METHODS)}", "use solver.method=euler")
    kind = config["grid"]
    kind = kind if isinstance(kind, str) else list(kind)
    steps = len(kind) - 1 if not isinstance(kind, str) else num_steps(config, len(METHODS[method][1]))
    cfg_strength = config["cfg_strength"]
    if not (isinstance(cfg_strength, int | float) and 0 <= cfg_strength <= 10):
        raise ConfigError(
            "solver.cfg_strength", cfg_strength, "must be a number from 0 to 10", "upstream's default is 2"
        )
    return SolverSpec(
        name=config["name"],
        method=method,
        grid=tuple(time_grid(kind, steps, float(config["sway"]))),
        grid_kind=kind if isinstance(kind, str) else "explicit",
        sway=float(config["sway"]),
        cfg_strength=float(cfg_strength),
    )


def num_steps(config: Mapping[str, Any], evals_per_step: int) -> int:
    """Steps from `steps`, or from `num_evals` where an evaluation budget is given instead."""
    steps, num_evals = config["steps"], config.get("num_evals")
    if (steps is None) == (num_evals is None):
        raise ConfigError(
            "solver.steps", steps, f"give exactly one of steps and num_evals (now {num_evals})",
            "set the other one to null",
        )  # fmt: skip
    key, value = ("solver.steps", steps) if num_evals is None else ("solver.num_evals", num_evals)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1000:
        raise ConfigError(key, value, "must be a whole number from 1 to 1000", "use solver=euler_7")
    if num_evals is None:
        return value
    if value % evals_per_step:
        above = value + evals_per_step - value % evals_per_step
        below = above - evals_per_step or above + evals_per_step
        raise ConfigError(
            key, value, f"{config['method']} evaluates {evals_per_step} times a step: give a multiple of that",
            f"use {min(above, below)} or {max(above, below)}",
        )  # fmt: skip
    return value // evals_per_step
