"""Fitted solvers: what the method computes, what is refused, and that fitting finds what is known to be there."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from engine.build import build_engine
from engine.clock import HostClock
from engine.contract import ConfigError, UnsupportedEngine
from engine.solver.fitted import Fitted
from engine.solver.methods import SolverSpec, solver_spec
from experiments.common.cli import EXIT_OK, EXIT_USAGE, run_verb
from experiments.solvers.fit import main as fit_solver
from experiments.solvers.fitting import Candidate, Fit, Utterance, fine_times, teacher_path
from experiments.workload.requests import load_workload
from tests.engines import config, engine

PLAIN = {
    "name": "x", "method": "euler", "steps": 8, "num_evals": None, "grid": "uniform", "sway": -1.0, "cfg_strength": 2.0,
}  # fmt: skip
GRID = [0.0, 0.25, 0.7, 1.0]
WEIGHTS = [[0.25], [0.25, 0.45], [0.25, 0.45, 0.3]]


def fitted(**changes: object) -> dict:
    return {
        **PLAIN, "method": "fitted", "steps": None, "grid": GRID, "fitted": {"model": "pocket", "weights": WEIGHTS},
        **changes,
    }  # fmt: skip


def test_euler_is_the_case_of_equal_weights_in_every_row() -> None:
    def velocity(x: torch.Tensor, place: int) -> torch.Tensor:
        return (GRID[place] - 2) * x

    x0 = torch.linspace(-1, 1, 7, dtype=torch.float64)
    euler = solver_spec({**PLAIN, "steps": None, "grid": GRID}).solve(velocity, x0)
    assert torch.allclose(solver_spec(fitted()).solve(velocity, x0), euler, rtol=0, atol=1e-14)


def test_every_row_weighs_all_velocities_so_far_from_the_noise_on() -> None:
    solver = Fitted(model="pocket", weights=((0.5,), (-1.0, 2.0)))
    seen = []

    def velocity(x: torch.Tensor, place: int) -> torch.Tensor:
        seen.append((place, x.item()))
        return torch.full_like(x, 10.0 if place == 0 else 100.0)

    assert solver.solve(velocity, torch.tensor([3.0])).item() == 3 - 10 + 200
    assert seen == [(0, 3.0), (1, 8.0)]


def test_the_plan_has_a_guided_evaluation_at_each_time_with_its_own_strength() -> None:
    spec = solver_spec(fitted(guidance_schedule=[[0.0, 0.5], [0.25, 1.0], [0.7, 1.25]]))
    assert [(point.t, point.strength) for point in spec.plan()] == [(0.0, 1.0), (0.25, 2.0), (0.7, 2.5)]
    assert spec.options()["fitted"] == {"model": "pocket", "weights": tuple(map(tuple, WEIGHTS))}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (fitted(grid="epss8_style", steps=None, num_evals=8), "has its own list of t"),
        (fitted(fitted=None), "needs {model: NAME"),
        (fitted(fitted={"model": "pocket"}), "needs {model: NAME"),
        (fitted(fitted={"model": "pocket", "weights": WEIGHTS[:2]}), "3 rows of 1 to 3 numbers"),
        (fitted(fitted={"model": "pocket", "weights": [[1.0], [1.0, 0.0], [1.0]]}), "3 rows of 1 to 3 numbers"),
        (fitted(fitted={"model": "pocket", "weights": [[1.0], [1.0, "a"], [1.0] * 3]}), "3 rows of 1 to 3 numbers"),
        (fitted(fitted={"model": "pocket", "weights": [[1.0], [1.0, float("nan")], [1.0] * 3]}), "3 rows"),
        (fitted(method="euler"), "belongs to method=fitted, not euler; set solver.fitted=null"),
        (fitted(steps=5), "solver.steps=5: this solver was fitted with 3 steps"),
        (fitted(reuse={"kind": "threshold", "threshold": 0.1}), "is built for euler"),
    ],
)
def test_settings_that_are_no_fitted_solver_are_refused(settings: dict, says: str) -> None:
    with pytest.raises(ConfigError, match="solver") as error:
        solver_spec(settings)
    assert says in str(error.value)


def test_a_solver_of_another_model_is_refused_with_the_command_that_fits_one() -> None:
    with pytest.raises(UnsupportedEngine, match=r"experiments.solvers.fit model=mine"):
        engine("solver=fitted_3", "model.name=mine")


def test_drawn_weights_run_on_any_solver_because_they_have_a_speed_only() -> None:
    with engine("solver=fitted_3", "model.name=mine", "model.checkpoint=random:0", "model.arch.depth=1") as built:
        assert built.facts.random_weights


def utterance_of(teacher: SolverSpec, direction: torch.Tensor, size: list[float]) -> Utterance:
    """A field that points one way and whose size depends on t; guidance changes nothing."""

    def rows(x: torch.Tensor, index: int, guided: bool) -> torch.Tensor:
        return (size[index] * direction)[None].repeat(1 + guided, 1, 1)

    bare = Utterance(rows=rows, lengths=(6,), x0=torch.zeros(1, 6, 2), ref_frames=2, path=torch.empty(0))
    return Utterance(rows=rows, lengths=(6,), x0=bare.x0, ref_frames=2, path=teacher_path(bare, teacher))


def test_least_squares_finds_the_weights_of_a_field_that_is_known() -> None:
    """The teacher moves by the sum of its steps times 1 + t, so one velocity of size 1 must weigh just that."""
    teacher = solver_spec(PLAIN)
    times = fine_times(teacher)
    direction = torch.linspace(1, 2, 12).view(6, 2)
    own = utterance_of(teacher, direction, [1 + t for t in times])
    moved = sum((b - a) * (1 + a) for a, b in zip(teacher.grid, teacher.grid[1:], strict=False))
    found = Fit(teacher, "pocket").candidate([own], [0.0], [2.0])
    assert found.weights[0][0] == pytest.approx(moved, rel=1e-4)
    assert found.error == pytest.approx(0, abs=1e-5)
    assert torch.allclose(own.path[-1], (moved * direction)[2:], rtol=1e-5)


def test_a_candidates_error_is_the_same_when_its_weights_are_used_again() -> None:
    teacher = solver_spec(PLAIN)
    torch.manual_seed(0)
    pulls = [torch.randn(6, 2) for _ in fine_times(teacher)]

    def rows(x: torch.Tensor, index: int, guided: bool) -> torch.Tensor:
        return torch.cat((pulls[index] - x, 0.5 * pulls[index] - x))[: 1 + guided]

    bare = Utterance(rows=rows, lengths=(6,), x0=torch.randn(1, 6, 2), ref_frames=2, path=torch.empty(0))
    own = Utterance(rows=rows, lengths=(6,), x0=bare.x0, ref_frames=2, path=teacher_path(bare, teacher))
    fit = Fit(teacher, "pocket")
    tried: list[Candidate] = []
    found = fit.search([own], 2, 12, lambda number, candidate: tried.append(candidate))
    assert fit.error([own], found) == pytest.approx(found.error, rel=1e-4)
    errors = [candidate.error for candidate in tried]
    assert errors == sorted(errors, reverse=True)
    assert found == tried[-1]
    assert all(t in fine_times(teacher) for t in found.times)


SHORT = ["workload=smoke", "workload.select=[en02,en04,en06]", "solver=euler_8"]


def held_out_mel(solver: dict) -> np.ndarray:
    """The third sentence of SHORT, (G, D)."""
    composed = config(*SHORT)
    with build_engine({**composed, "solver": {**composed["solver"], **solver}}, HostClock()) as built:
        return built.synthesize([load_workload(composed).requests[2]])[0].mel_ND


def test_the_verb_writes_a_preset_that_speaks_as_close_as_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run_verb(fit_solver, ["steps=2", "tries=6", "name=two", *SHORT, f"out={tmp_path}"]) == EXIT_OK
    text = (tmp_path / "two.yaml").read_text()
    assert capsys.readouterr().out == text
    preset = yaml.safe_load(text)
    assert preset.pop("defaults") == ["base/plain@_here_"]
    assert preset["name"] == "two"
    assert len(preset["grid"]) == 3

    teacher = held_out_mel({})
    error = float(np.abs(held_out_mel({**preset, "steps": None}) - teacher).mean())
    written = float(re.search(r"nats, ([0-9.]+) on 1 held out", text)[1])  # type: ignore[index]
    # The engine overwrites the first generated frame with the reference's, as upstream does: one of about a hundred,
    # one in which few steps err more than in the others
    assert error == pytest.approx(written, rel=0.03)
    assert error < 0.9 * float(np.abs(held_out_mel({"steps": 2}) - teacher).mean())


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["steps=1"], "steps=1: must be a whole number from 2 to 8"),
        (["tries=many"], "tries=many"),
        (["name=a/b"], "letters, digits and underscores"),
        (["steps=8"], "more than 8 steps"),
        (["solver=midpoint_7"], "a plain euler"),
        (["solver=guided_to_20_7"], "a plain euler"),
        (["solver.cfg_strength=0.5"], "must be guided"),
        (["workload.select=[en02,en04]"], "3 are needed"),
        (["engine=upstream"], "upstream is built for the times of one solver"),
        (["engine=onnx_int8"], "onnx_int8 is built for the times of one solver"),
        (["model.checkpoint=random:0"], "no speech to fit to"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_one_line(
    asked: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run_verb(fit_solver, [*SHORT, *asked, f"out={tmp_path}"]) != EXIT_OK
    assert says in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.yaml"))


def test_sentences_must_be_named_and_a_preset_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run_verb(fit_solver, ["steps=2", f"out={tmp_path}"]) == EXIT_USAGE
    assert "other than those that will judge" in capsys.readouterr().err
    (tmp_path / "fitted_2.yaml").write_text("mine")
    assert run_verb(fit_solver, ["steps=2", *SHORT, f"out={tmp_path}"]) == EXIT_USAGE
    assert "already holds fitted_2.yaml" in capsys.readouterr().err
    assert (tmp_path / "fitted_2.yaml").read_text() == "mine"


def test_times_that_lie_too_close_for_a_grid_are_refused() -> None:
    teacher = solver_spec({**PLAIN, "steps": None, "grid": [0.0, 1e-4, 1.0]})
    own = utterance_of(teacher, torch.ones(6, 2), [1.0 for _ in fine_times(teacher)])
    with pytest.raises(ConfigError, match="too close"):
        Fit(teacher, "pocket").search([own], 8, 5, lambda number, candidate: None)
