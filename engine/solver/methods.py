"""Fixed-grid ODE solvers as pure functions of (velocity, x0, grid), dx/dt = v(x, t).

The velocity is addressed by the index of its evaluation point, because everything that depends on t only is a table
(engine.step.dit). `evaluation_times` lists those points; a solver evaluates them in exactly that order.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from engine.contract import ConfigError
from engine.settings import SolverSettings
from engine.solver.fitted import FITTED, Fitted, fitted_of
from engine.solver.grid import explicit, time_grid
from engine.solver.plan import (
    UNGUIDED_BELOW,
    Action,
    Evaluation,
    Guidance,
    LengthRule,
    Reuse,
    guidance_of,
    reuse_of,
    rule_of,
)

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


def offsets_of(method: str) -> tuple[float, ...]:
    """Where inside a step the method evaluates, in shares of the step."""
    return (0.0,) if method == FITTED else METHODS[method][1]


@dataclass(frozen=True, kw_only=True, slots=True)
class SolverSpec:
    """A checked solver configuration. `grids`: explicit lists of t; more than one only with a length rule, which
    chooses among them by the text of each chunk."""

    name: str
    method: str
    grids: tuple[tuple[float, ...], ...]
    grid_kind: str
    sway: float
    cfg_strength: float
    guidance: Guidance
    reuse: Reuse | None = None
    rule: LengthRule | None = None
    fitted: Fitted | None = None

    @property
    def grid(self) -> tuple[float, ...]:
        """The grid of the most steps."""
        return max(self.grids, key=len)

    @property
    def steps(self) -> int:
        """Intervals of the grid; the most where a rule chooses."""
        return len(self.grid) - 1

    @property
    def evals_per_step(self) -> int:
        return len(offsets_of(self.method))

    @property
    def evaluation_times(self) -> tuple[float, ...]:
        """t of every velocity evaluation, in the order the solver makes them; grid after grid."""
        return tuple(t for grid in self.grids for t in self._times(grid))

    @property
    def guided(self) -> bool:
        """Whether any evaluation takes the unconditional row, too."""
        return any(strength >= UNGUIDED_BELOW for _, strength in self.guidance.pieces)

    @property
    def is_static(self) -> bool:
        """Whether `plan` is all there is to know: nothing is decided by the data while the solver runs."""
        return self.reuse is None or self.reuse.kind == "schedule"

    def choose(self, text: str) -> int:
        """Which of `grids` a chunk of this text is solved on."""
        return self.rule.choose(len(text.strip())) if self.rule else 0

    def plan(self, which: int = 0) -> tuple[Evaluation, ...]:
        """The evaluations of a grid, in order. With `reuse.kind=threshold` an "evaluate" may become a reuse."""
        offset = sum(len(self._times(grid)) for grid in self.grids[:which])
        return tuple(
            Evaluation(index=offset + i, t=t, strength=self.guidance.strength_at(t), action=self._action(i))
            for i, t in enumerate(self._times(self.grids[which]))
        )

    def options(self) -> dict[str, Any]:
        """What is done beyond one guided evaluation at every point of one grid; empty for a plain solver."""
        guidance, found = self.guidance, {}
        if guidance.kind != "cfg" or len(guidance.pieces) > 1 or guidance.pieces[0][1] != self.cfg_strength:
            found["guidance"] = asdict(guidance)
        if self.reuse is not None:
            found["reuse"] = asdict(self.reuse)
        if self.rule is not None:
            found["rule"] = {**asdict(self.rule), "grids": self.grids}
        if self.fitted is not None:
            found["fitted"] = asdict(self.fitted)
        return found

    def solve(self, velocity: Velocity, x0: torch.Tensor, which: int = 0) -> torch.Tensor:
        """velocity is addressed by the place in `plan(which)`."""
        if self.fitted is not None:
            return self.fitted.solve(velocity, x0)
        return METHODS[self.method][0](velocity, x0, self.grids[which])

    def _times(self, grid: Sequence[float]) -> tuple[float, ...]:
        offsets = offsets_of(self.method)
        return tuple(a + (b - a) * offset for a, b in itertools.pairwise(grid) for offset in offsets)

    def _action(self, place: int) -> Action:
        if place < self.guidance.zero_init_steps * self.evals_per_step:
            return "zero"
        if self.reuse is not None and self.reuse.kind == "schedule" and place not in self.reuse.evaluated:
            return "reuse"
        return "evaluate"


KEYS = (
    "name", "method", "steps", "num_evals", "grid", "sway", "cfg_strength", "guidance", "guidance_interval",
    "guidance_schedule", "zero_init_steps", "reuse", "rule", "fitted",
)  # fmt: skip


def solver_spec(config: SolverSettings) -> SolverSpec:
    """The `solver` group -> SolverSpec. Raises ConfigError for what cannot be run as asked."""
    if set(config) <= {"name"}:
        raise ConfigError("solver", config.get("name"), "is no solver", "use a model that has one: model=pocket")
    for key, value in config.items():
        if key not in KEYS:
            allowed = f"is not a key of a solver ({', '.join(KEYS)})"
            raise ConfigError(f"solver.{key}", value, allowed, "correct the spelling")
    method = config["method"]
    if method not in (*METHODS, FITTED):
        known = ", ".join((*METHODS, FITTED))
        raise ConfigError("solver.method", method, f"must be one of {known}", "use solver.method=euler")
    kind = config["grid"]
    kind = kind if isinstance(kind, str) else explicit(kind)
    per_step = len(offsets_of(method))
    rule = rule_of(config)
    if rule is not None and not isinstance(kind, str):
        raise ConfigError("solver.grid", kind, "a rule needs a kind of grid, not a list", "use solver.grid=epss")
    if rule is not None:
        all_steps = rule.steps
    else:
        all_steps = (num_steps(config, per_step) if isinstance(kind, str) else listed_steps(config, kind, per_step),)
    cfg_strength = config["cfg_strength"]
    if not (isinstance(cfg_strength, int | float) and 0 <= cfg_strength <= 10):
        raise ConfigError(
            "solver.cfg_strength", cfg_strength, "must be a number from 0 to 10", "upstream's default is 2"
        )
    guidance = guidance_of(config, float(cfg_strength))
    check_zero_init(guidance, min(all_steps))
    return SolverSpec(
        name=config["name"],
        method=method,
        grids=tuple(tuple(time_grid(kind, steps, float(config["sway"]))) for steps in all_steps),
        grid_kind=kind if isinstance(kind, str) else "explicit",
        sway=float(config["sway"]) if isinstance(kind, str) else 0.0,  # a list is taken as it is
        cfg_strength=float(cfg_strength),
        guidance=guidance,
        reuse=checked_reuse(config, rule, all_steps[0] * per_step, guidance),
        rule=rule,
        fitted=fitted_of(config, all_steps[0]),
    )


def check_zero_init(guidance: Guidance, steps: int) -> None:
    if guidance.zero_init_steps >= steps:
        raise ConfigError(
            "solver.zero_init_steps", guidance.zero_init_steps, f"must be fewer than the {steps} steps", "use 1"
        )


def checked_reuse(config: SolverSettings, rule: LengthRule | None, num_evals: int, guidance: Guidance) -> Reuse | None:
    """Reuse belongs to one grid, and begins at an evaluation that was made."""
    reuse = reuse_of(config, num_evals)
    if reuse is not None and (rule is not None or guidance.zero_init_steps):
        raise ConfigError(
            "solver.reuse", reuse.kind, "is built for one grid without zero_init_steps", "set the other one to null"
        )
    return reuse


def listed_steps(config: SolverSettings, grid: Sequence[float], evals_per_step: int) -> int:
    """Steps of an explicit grid. Raises ConfigError where `steps` or `num_evals` says another number."""
    steps = len(explicit(grid)) - 1
    for key, value, listed in (
        ("steps", config["steps"], steps), ("num_evals", config.get("num_evals"), steps * evals_per_step),
    ):  # fmt: skip
        if value is not None and value != listed and config["method"] != FITTED:  # which says it in its own words
            raise ConfigError(
                f"solver.{key}", value, f"solver.grid is a list of {steps} steps, {steps * evals_per_step} evaluations",
                f"set solver.{key}=null or {listed}, and solver.name to what it is",
            )  # fmt: skip
    return steps


def num_steps(config: SolverSettings, evals_per_step: int) -> int:
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
