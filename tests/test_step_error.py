"""experiments.checks.step_error on the pocket model: where a fault was put is where it is found."""

from collections.abc import Mapping
from typing import Any

import torch

from engine.solver.guidance import Rows
from engine.solver.sampler import Denoiser
from engine.step.conditioner import Conditioning
from experiments.checks.step_error import step_errors
from tests.engines import engine, request


class Faulty:
    """Scales the velocity of one evaluation by 1.1."""

    def __init__(self, inner: Denoiser, place: int):
        self._inner, self._place = inner, place

    @property
    def num_evals(self) -> int:
        return self._inner.num_evals

    def bind(self, conditioning: Conditioning) -> Rows:
        rows = self._inner.bind(conditioning)
        return lambda x, index, guided: rows(x, index, guided) * (1.1 if index == self._place else 1.0)

    def proof(self) -> Mapping[str, Any]:
        return self._inner.proof()


def test_a_fault_of_the_denoiser_is_in_its_own_evaluation_and_one_of_the_vocoder_in_none() -> None:
    asked = [request("We leave.", num_frames=120)]
    with engine() as oracle, engine() as same, engine() as faulty, engine() as deaf:
        (nothing,) = step_errors(same, oracle, asked)
        faulty.tap(lambda denoiser: Faulty(denoiser, 2))  # type: ignore[attr-defined]
        (denoiser,) = step_errors(faulty, oracle, asked)
        vocoder = deaf._parts.speaker.vocoder.module  # type: ignore[attr-defined]
        with torch.no_grad():
            next(iter(vocoder.parameters())).mul_(0.8)
        (sound,) = step_errors(deaf, oracle, asked)
    assert nothing.evaluations == (0.0,) * 7
    assert (nothing.log_mel_mae, nothing.si_sdr_db) == (0.0, 120.0)
    assert [error > 0.05 for error in denoiser.evaluations] == [False, False, True, False, False, False, False]
    assert denoiser.evaluations[2] == torch.tensor(denoiser.evaluations[2]).clamp(0.09, 0.11).item()
    assert denoiser.log_mel_mae > 0.001
    assert (sound.evaluations, sound.log_mel_mae) == ((0.0,) * 7, 0.0)
    assert sound.si_sdr_db < 60
