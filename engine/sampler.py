"""From constants and noise to mel: the ODE solve of one batch. A backend either is a denoiser, evaluated step by step
by `StepSampler`, or fuses the whole solve behind the same `Sampler`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch

from engine.conditioner import Conditioning
from engine.guidance import Rows, guided_velocity
from engine.solver import SolverSpec


class Denoiser(Protocol):
    """Binds the constants of a batch to a function of (x, evaluation index, guided); counts its evaluations.

    A guided pair counts as one evaluation. `proof` names what shows that the backend ran as named; counters that must
    not move once the engine is warm stand in its `steady_counters`.
    """

    num_evals: int

    def bind(self, conditioning: Conditioning) -> Rows: ...

    def proof(self) -> Mapping[str, Any]: ...


class Sampler(Protocol):
    """One method of work: x0 (B, N, D) float32 on the device -> mel (B, N, D) float32."""

    @property
    def num_evals(self) -> int: ...

    def sample(self, conditioning: Conditioning, x0: torch.Tensor) -> torch.Tensor: ...

    def proof(self) -> Mapping[str, Any]: ...


class StepSampler:
    """The solver's loop around a denoiser."""

    def __init__(self, denoiser: Denoiser, solver: SolverSpec):
        self._denoiser, self._solver = denoiser, solver

    @property
    def num_evals(self) -> int:
        return self._denoiser.num_evals

    def sample(self, conditioning: Conditioning, x0: torch.Tensor) -> torch.Tensor:
        rows = self._denoiser.bind(conditioning)
        return self._solver.solve(guided_velocity(rows, self._solver.cfg_strength), x0)

    def proof(self) -> Mapping[str, Any]:
        return self._denoiser.proof()
