"""Step caching: exact on fields where reuse costs nothing, counted where it saves, calibrated as it says."""

from collections import Counter

import numpy as np
import torch

from engine.solver.methods import solver_spec
from engine.solver.plan import Reuse
from engine.solver.reuse import Probe, relative_change, schedule_of, with_threshold
from engine.solver.sampler import planned_velocity
from tests.engines import config, engine, request

TEXT = "That was close."


def test_a_schedule_evaluates_where_it_says_and_repeats_in_between() -> None:
    spec = solver_spec(
        {**config("solver=euler_6")["solver"], "cfg_strength": 0.0, "reuse": {"kind": "schedule", "evaluated": [0, 2]}}
    )
    asked, counts = [], Counter()

    def rows(x: torch.Tensor, index: int, guided: bool) -> torch.Tensor:
        asked.append((index, guided))
        return torch.full_like(x, float(index))

    velocity = planned_velocity(rows, spec, 0, (4,), counts)
    x = torch.zeros(1, 4, 2)
    assert [velocity(x, place).max().item() for place in range(6)] == [0, 0, 2, 2, 2, 2]
    assert asked == [(0, False), (2, False)]
    assert counts == {"unguided": 2, "reused": 4}


def run_threshold(reuse: Reuse, states: list[torch.Tensor], lengths: tuple[int, ...]) -> tuple[list, list[int], int]:
    """(velocities, places really evaluated, saved)."""
    asked, saved = [], []

    def velocity(x: torch.Tensor, place: int) -> torch.Tensor:
        asked.append(place)
        return torch.full_like(x, float(place))

    wrapped = with_threshold(velocity, reuse, lengths, len(states) - 1, lambda: saved.append(1))
    return [wrapped(x, place)[:, 0, 0].tolist() for place, x in enumerate(states)], asked, len(saved)


def test_changes_add_up_until_the_threshold_and_the_last_is_always_made() -> None:
    states = [
        torch.full((1, 2, 2), value) for value in (1.0, 1.2, 1.44, 1.728, 1.728, 1.728)
    ]  # 0.2 relative each, then none
    got, asked, saved = run_threshold(Reuse(kind="threshold", threshold=0.39, max_in_a_row=9), states, (2,))
    assert asked == [0, 2, 5]
    assert got == [[0], [0], [2], [2], [2], [5]]
    assert saved == 3


def test_no_more_than_max_in_a_row_are_reused() -> None:
    still = [torch.ones(1, 2, 2)] * 7
    assert run_threshold(Reuse(kind="threshold", threshold=1.0, max_in_a_row=2), still, (2,))[1] == [0, 3, 6]


def test_the_polynomial_rescales_the_change() -> None:
    states = [torch.full((1, 2, 2), value) for value in (1.0, 1.2, 1.44, 1.728)]
    doubled = Reuse(kind="threshold", threshold=0.39, rescale=(2.0, 0.0), max_in_a_row=9)
    assert run_threshold(doubled, states, (2,))[1] == [0, 1, 2, 3]
    squared = Reuse(kind="threshold", threshold=0.07, rescale=(1.0, 0.0, 0.0), max_in_a_row=9)  # 0.04 each
    assert run_threshold(squared, states, (2,))[1] == [0, 2, 3]


def test_each_utterance_of_a_batch_decides_for_itself() -> None:
    moving, still = [1.0, 2.0, 4.0, 8.0], [1.0, 1.0, 1.0, 1.0]
    states = [torch.stack((torch.full((2, 2), a), torch.full((2, 2), b))) for a, b in zip(moving, still, strict=True)]
    got, _, _ = run_threshold(Reuse(kind="threshold", threshold=0.5, max_in_a_row=9), states, (2, 2))
    assert [pair[0] for pair in got] == [0, 1, 2, 3]
    assert [pair[1] for pair in got] == [0, 0, 0, 3]


def test_a_companion_neither_postpones_nor_hastens_a_forced_evaluation() -> None:
    """The first moves at places 1 and 4 only, so that it is due when the still one is not."""
    moving, still = [1.0, 2.0, 2.0, 2.0, 4.0, 4.0, 4.0, 4.0], [1.0] * 8
    reuse = Reuse(kind="threshold", threshold=0.5, max_in_a_row=2)

    def states(*rows: list[float]) -> list[torch.Tensor]:
        return [torch.stack([torch.full((2, 2), value) for value in values]) for values in zip(*rows, strict=True)]

    alone = [run_threshold(reuse, states(row), (2,))[0] for row in (moving, still)]
    together, _, _ = run_threshold(reuse, states(moving, still), (2, 2))
    assert alone[1] == [[0], [0], [0], [3], [3], [3], [6], [7]]
    assert [[pair[0]] for pair in together] == alone[0]
    assert [[pair[1]] for pair in together] == alone[1]


def test_relative_change_leaves_padding_out() -> None:
    before = torch.tensor([[[1.0], [1.0], [5.0]]])
    now = torch.tensor([[[1.5], [1.0], [99.0]]])
    own = torch.tensor([[[1.0], [1.0], [0.0]]])
    assert relative_change(now, before, own).item() == 0.25


def test_the_calibrated_schedule_compares_with_the_last_evaluation_made() -> None:
    # change from d + 1 evaluations before: grows by 0.1 a step
    changes = [[0.1] * 6, [0.2] * 6, [0.3] * 6]
    assert schedule_of(changes, 0.05) == [0, 1, 2, 3, 4, 5]
    assert schedule_of(changes, 0.15) == [0, 2, 4, 5]
    assert schedule_of(changes, 9.0) == [0, 4, 5], "no further back than was calibrated"


def test_the_probe_measures_the_changes_of_a_known_field() -> None:
    spec = solver_spec({**config("solver=euler_8")["solver"], "sway": 0.0, "grid": "uniform"})
    probe = Probe(8)
    # dx/dt = x: velocity and state grow by 1/8 of themselves at every step
    spec.solve(probe.around(lambda x, place: x, (3,)), torch.ones(1, 3, 2, dtype=torch.float64))
    proof = probe.proof()
    np.testing.assert_allclose(proof["state_change"], [0] + [1 / 8] * 7, atol=1e-9)
    np.testing.assert_allclose(proof["velocity_change"][1][2:], [(9 / 8) ** 2 - 1] * 6, atol=1e-9)


def test_reused_evaluations_are_counted_apart_and_every_point_is_accounted_for() -> None:
    for solver in ("teacache_32", "smoothcache_32"):
        with engine(f"solver={solver}") as ours:
            result, proof = ours.synthesize([request(TEXT)])[0], ours.facts.proof
        assert 0 < proof["reused_evals"] < 32
        assert result.num_evals == proof["guided_evals"] == proof["num_evals"]
        assert proof["guided_evals"] + proof["reused_evals"] == 32
