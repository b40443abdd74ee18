"""Guidance on part of the interval, scaled guidance, steps by length: rows really saved, formulas exact, counted."""

import numpy as np
import pytest
import torch

from engine.contract import UnsupportedEngine
from engine.solver.guidance import evaluate, projection
from engine.solver.methods import solver_spec
from engine.solver.plan import Evaluation
from experiments.settings.compose import compose_cells
from experiments.settings.reference import is_reference
from tests.engines import config, engine, request

TEXT = "That was close."


def spec(*overrides: str):
    return solver_spec(config(*overrides)["solver"])


def test_outside_the_interval_one_row_is_planned() -> None:
    plan = spec("solver=euler_7", "solver.guidance_interval=[0.05,0.3]").plan()
    assert [point.guided for point in plan] == [False, False, False, False, True, True, False]
    assert spec("solver=heun_nfe6", "solver.guidance_interval=[0,1]").plan()[-1].guided, "t = 1 belongs to [0, 1]"


def test_a_schedule_gives_shares_of_the_strength() -> None:
    plan = spec("solver=guidance_halved_7", "solver.cfg_strength=3").plan()
    assert [point.strength for point in plan] == [3.0] * 5 + [1.5] * 2


def test_plain_solvers_have_no_options_and_others_say_what_they_do() -> None:
    assert spec("solver=euler_7").options() == {}
    assert spec("solver=heun_nfe8", "solver.cfg_strength=0").options() == {}
    assert spec("solver=guided_to_20_7").options()["guidance"]["pieces"] == ((0.0, 2.0), (0.2, 0.0))
    assert set(spec("solver=adaptive").options()) == {"rule"}


def test_the_whole_interval_is_plain_guidance_bit_by_bit() -> None:
    with engine() as plain, engine("solver.guidance_interval=[0,1]") as whole:
        assert whole.facts.solver_options == {}
        assert np.array_equal(plain.synthesize([request(TEXT)])[0].mel_ND, whole.synthesize([request(TEXT)])[0].mel_ND)


def test_unguided_evaluations_run_with_half_the_rows() -> None:
    with engine("solver=guided_to_20_7") as ours:
        rows = []
        ours._parts.speaker.sampler._denoiser._step.register_forward_pre_hook(
            lambda module, args: rows.append((len(args[0].x), len(args[0].projected)))
        )
        result = ours.synthesize([request(TEXT)])[0]
        proof = ours.facts.proof
    assert rows == [(1, 2)] * 5 + [(1, 1)] * 2
    assert (result.num_evals, proof["guided_evals"], proof["unguided_evals"]) == (7, 5, 2)


def test_strength_zero_evaluates_no_unconditional_row() -> None:
    with engine("solver.cfg_strength=0") as ours:
        ours.synthesize([request(TEXT)])
        assert (ours.facts.proof["guided_evals"], ours.facts.proof["unguided_evals"]) == (0, 7)


def test_cfg_zero_star_is_the_papers_formula() -> None:
    chance = torch.Generator().manual_seed(0)
    cond, null = torch.randn(2, 2, 5, 3, generator=chance, dtype=torch.float64).unbind(0)
    point = Evaluation(index=0, t=0.0, strength=2.0, action="evaluate")
    got = evaluate(lambda x, i, guided: torch.cat((cond, null)), "cfg_zero_star", (5, 5), cond, point)
    for item in range(2):
        s = float((cond[item] * null[item]).sum() / null[item].square().sum())
        w = 3.0  # the paper's (1 - w) s null + w cond
        assert torch.allclose(got[item], (1 - w) * s * null[item] + w * cond[item], atol=1e-6)


def test_the_projection_ignores_padding() -> None:
    cond, null = torch.randn(2, 1, 6, 3, generator=torch.Generator().manual_seed(1)).unbind(0)
    own = projection(cond[:, :4], null[:, :4], (4,))
    padded = projection(torch.cat((cond, cond)), torch.cat((null, null)), (4, 6))
    assert torch.allclose(padded[0], own[0])
    assert torch.allclose(padded[1], projection(cond, null, (6,))[0])


@pytest.mark.parametrize("solver", ["cfg_zero_star_7", "guided_to_20_7", "teacache_32"])
def test_company_in_a_batch_changes_nothing_but_rounding(solver: str) -> None:
    asks = [request(text, utterance_id=text[:4]) for text in (TEXT, "Turn left at the bridge.")]
    with engine(f"solver={solver}", "+engine.max_padding_frac=0.9") as ours, engine(f"solver={solver}") as alone:
        for together, ask in zip(ours.synthesize(asks), asks, strict=True):
            assert np.abs(together.mel_ND - alone.synthesize([ask])[0].mel_ND).max() < 2e-4


def test_zero_init_leaves_the_noise_alone_and_saves_the_evaluation() -> None:
    with engine("solver=cfg_zero_star_init_7") as ours:
        assert ours.synthesize([request(TEXT)])[0].num_evals == 6
        assert (ours.facts.proof["zeroed_evals"], ours.facts.proof["guided_evals"]) == (1, 6)


ADAPTIVE = ("solver=adaptive", "solver.rule={max_chars: [[15, 12], [25, 6], [null, 5]]}")


def test_each_chunk_is_solved_on_the_grid_its_length_asks_for() -> None:
    short, longer = request(TEXT, utterance_id="a"), request("Turn left at the bridge.", utterance_id="b")
    with engine(*ADAPTIVE) as ours, engine("solver=euler_12") as twelve, engine("solver=euler_6") as six:
        assert (ours.facts.steps, len(ours.facts.time_grid)) == (12, 13)
        results = ours.synthesize([short, longer])
        assert [result.num_evals for result in results] == [12, 6]
        # Tables of several grids are one matrix product, so the last bits differ
        assert np.abs(results[0].mel_ND - twelve.synthesize([short])[0].mel_ND).max() < 1e-4
        assert np.abs(results[1].mel_ND - six.synthesize([longer])[0].mel_ND).max() < 1e-4
        grids = ours.facts.proof["grids"]
    assert [(g["max_chars"], g["steps"], g["solves"]) for g in grids] == [(15, 12, 1), (25, 6, 1), (None, 5, 0)]
    assert [len(g["time_grid"]) for g in grids] == [13, 7, 6]


@pytest.mark.parametrize("solver", ["adaptive", "guided_to_20_7", "cfg_zero_star_7", "teacache_32", "smoothcache_32"])
def test_upstream_refuses_what_it_does_not_have(solver: str) -> None:
    with pytest.raises(UnsupportedEngine, match="upstream has no"):
        engine("engine=upstream", f"solver={solver}")


@pytest.mark.parametrize("preset", ["waterfall", "class_b"])
def test_the_presets_hold_the_reference_first_and_every_cell_can_be_checked(preset: str) -> None:
    cells = compose_cells([f"experiment={preset}"])
    assert is_reference(cells[0].config)
    for cell in cells:
        solver_spec(cell.config["solver"])
