"""Grids and solvers: exact values, measured convergence orders, counted evaluations, refused settings."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import ConfigError
from engine.solver.grid import EPSS_KEPT, epss, explicit, sway, time_grid, uniform
from engine.solver.methods import METHODS, solver_spec

BASE = {
    "name": "x",
    "method": "euler",
    "steps": 7,
    "num_evals": None,
    "grid": "epss",
    "sway": -1.0,
    "cfg_strength": 2.0,
}


def solve_linear(method: str, steps: int) -> tuple[float, int]:
    """dx/dt = cos(t) x, x(0) = 1, whose solution at 1 is exp(sin 1). Returns (error, evaluations)."""
    return solve_on({"method": method, "steps": steps, "grid": "uniform", "sway": 0.0})


def solve_on(settings: dict) -> tuple[float, int]:
    spec = solver_spec({**BASE, **settings})
    times, calls = spec.evaluation_times, []

    def velocity(x: torch.Tensor, index: int) -> torch.Tensor:
        calls.append(index)
        return math.cos(times[index]) * x

    x = spec.solve(velocity, torch.ones(1, dtype=torch.float64))
    assert calls == list(range(len(times)))
    return abs(x.item() - math.exp(math.sin(1))), len(calls)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
def test_convergence_order_is_the_textbooks(method: str, order: int) -> None:
    coarse, _ = solve_linear(method, 20)
    fine, _ = solve_linear(method, 40)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


def halved(grid: list[float]) -> list[float]:
    return sorted({*grid, *((a + b) / 2 for a, b in itertools.pairwise(grid))})


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
@pytest.mark.parametrize("kind", [*(("epss", steps) for steps in sorted(EPSS_KEPT)), ("epss8_style", 8)], ids=str)
def test_convergence_order_holds_on_every_preset_grid(kind: tuple[str, int], method: str, order: int) -> None:
    """An uneven grid keeps its shape when every interval is halved, so the order is that of the method."""
    coarse = halved(halved(halved([*time_grid(*kind, -1.0)[:-1], 1.0])))
    error, finer = (
        solve_on({"method": method, "steps": None, "grid": coarse})[0],
        solve_on({"method": method, "steps": None, "grid": halved(coarse)}),
    )
    assert math.log2(error / finer[0]) == pytest.approx(order, abs=0.25)


def test_the_grid_of_eight_is_ours_and_keeps_every_point_of_epss_7() -> None:
    from engine.solver.grid import epss8_style

    assert [round(32 * t) for t in epss8_style(8)] == [0, 2, 4, 6, 8, 12, 16, 24, 32]
    assert set(epss(7)) < set(epss8_style(8))
    with pytest.raises(ConfigError, match="has 8 steps, not 7"):
        epss8_style(7)


@pytest.mark.parametrize(("method", "per_step"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
def test_evaluations_are_steps_times_the_methods_own_count(method: str, per_step: int) -> None:
    assert solve_linear(method, 7)[1] == 7 * per_step


def test_straight_lines_are_solved_exactly_by_every_method() -> None:
    for method in METHODS:
        spec = solver_spec({**BASE, "method": method})
        end = spec.solve(lambda x, i: torch.full_like(x, 3.0), torch.zeros(2, dtype=torch.float64))
        assert torch.allclose(end, torch.full((2,), 3.0, dtype=torch.float64), atol=1e-12)


def test_epss_7_after_sway_is_the_published_grid() -> None:
    grid = time_grid("epss", 7, -1.0)
    assert grid == pytest.approx([0, 0.0048, 0.0192, 0.0431, 0.0761, 0.2929, 0.6173, 1], abs=5e-5)


@pytest.mark.parametrize("steps", sorted(EPSS_KEPT))
def test_epss_equals_upstreams_table(steps: int) -> None:
    from f5_tts.model.utils import get_epss_timesteps

    assert epss(steps) == get_epss_timesteps(steps, "cpu", torch.float64).tolist()


@given(steps=st.integers(1, 64), coefficient=st.floats(-1, 1.75))
def test_a_swayed_grid_always_increases_from_0_to_1(steps: int, coefficient: float) -> None:
    grid = sway(uniform(steps), coefficient)
    assert all(a < b for a, b in itertools.pairwise(grid))
    assert grid[0] == pytest.approx(0, abs=1e-12)
    assert grid[-1] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sway": -1.1}, "solver.sway=-1.1"),
        ({"sway": 1.8}, "[-1, 1.75]"),
        ({"steps": 8}, "EPSS is defined for 5, 6, 7, 10, 12, 16"),
        ({"method": "midpoint", "steps": None, "num_evals": 7}, "use 6 or 8"),
        ({"method": "rk4", "steps": None, "num_evals": 6, "grid": "uniform"}, "use 4 or 8"),
        ({"steps": None}, "exactly one of steps and num_evals"),
        ({"num_evals": 7}, "exactly one of steps and num_evals"),
        ({"steps": 0}, "solver.steps=0"),
        ({"steps": 2.5}, "whole number"),
        ({"method": "dopri5"}, "euler, midpoint, heun, rk4"),
        ({"grid": [0.0, 0.5, 0.4, 1.0]}, "increase strictly"),
        ({"grid": [0.0]}, "a list must begin with 0, end with 1"),
        (
            {"grid": [0.0, 0.5, 1.0]},
            "solver.steps=7: solver.grid is a list of 2 steps, 2 evaluations; set solver.steps=null",
        ),
        ({"grid": [0.0, 1.0], "steps": None, "num_evals": 3, "method": "midpoint"}, "solver.num_evals=null or 2,"),
        ({"grid": "cosine"}, "epss, epss8_style, uniform or a list"),
        ({"guidance": "apg"}, "cfg, cfg_zero_star"),
        ({"guidance_interval": [0.3, 0.1]}, "0 <= from < to <= 1"),
        ({"guidance_interval": [0, 0.3], "guidance_schedule": [[0, 1]]}, "cannot stand beside"),
        ({"guidance_schedule": [[0.1, 1]]}, "the first from 0"),
        ({"guidance_schedule": "early"}, "the first from 0"),
        ({"zero_init_steps": 1}, "without cfg_zero_star"),
        ({"guidance": "cfg_zero_star", "zero_init_steps": 7}, "fewer than the 7 steps"),
        ({"reuse": {"kind": "layers"}}, "schedule, threshold, probe"),
        ({"reuse": {"kind": "schedule", "evaluated": [0, 7]}}, "at most 6"),
        ({"reuse": {"kind": "schedule", "evaluated": [1, 2]}}, "increasing numbers from 0"),
        ({"reuse": {"kind": "threshold", "threshold": 0}}, "above 0"),
        ({"reuse": {"kind": "threshold", "threshold": 0.1, "alpha": 1}}, "no key of kind threshold"),
        ({"reuse": {"kind": "threshold", "threshold": 0.1}, "method": "heun", "steps": 5}, "euler"),
        ({"rule": {"max_chars": [[None, 7]]}}, "the rule decides the steps"),
        ({"steps": None, "rule": {"max_chars": [[40, 7]]}}, "the last with null"),
        ({"steps": None, "rule": {"max_chars": [[40, 7], [30, 6], [None, 5]]}}, "increasing"),
        ({"steps": None, "rule": {"max_chars": [[40, 7], [None, 8]]}}, "EPSS is defined for"),
        ({"cfg_strength": -1}, "solver.cfg_strength"),
    ],
)
def test_settings_that_cannot_be_run_are_refused_with_key_and_remedy(change: dict, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        solver_spec({**BASE, **change})
    assert says in str(refused.value)


def test_an_explicit_grid_is_taken_as_it_is() -> None:
    for number in ({"steps": None}, {"steps": 2}, {"steps": None, "num_evals": 2}):
        spec = solver_spec({**BASE, **number, "grid": [0.0, 0.25, 1.0]})
        assert spec.grid == (0.0, 0.25, 1.0)
        assert (spec.steps, spec.sway) == (2, 0.0), "what is reported is what was done"
    assert explicit([0, 1]) == [0.0, 1.0]


def test_a_budget_of_evaluations_gives_half_as_many_midpoint_steps() -> None:
    spec = solver_spec({**BASE, "method": "midpoint", "steps": None, "num_evals": 6, "grid": "uniform"})
    assert (spec.steps, len(spec.evaluation_times)) == (3, 6)
