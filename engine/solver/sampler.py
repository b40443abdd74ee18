"""From constants and noise to mel: the ODE solve of one batch. A backend either is a denoiser, evaluated step by step
by `StepSampler`, or fuses the whole solve behind the same `Sampler`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from engine.contract import Proof
from engine.solver.guidance import Rows, evaluate
from engine.solver.methods import SolverSpec, Velocity
from engine.solver.reuse import Probe, with_threshold
from engine.step.conditioner import Conditioning


class Denoiser(Protocol):
    """Binds the constants of a batch to a function of (x, evaluation index, guided); counts its evaluations.

    A guided pair counts as one evaluation. `proof` names what shows that the backend ran as named; counters that must
    not move once the engine is warm stand in its `steady_counters`.
    """

    @property
    def num_evals(self) -> int: ...

    def bind(self, conditioning: Conditioning) -> Rows: ...

    def proof(self) -> Proof: ...


class Sampler(Protocol):
    """One method of work: x0 (B, N, D) float32 on the device -> mel (B, N, D) float32.

    which: the grid of `SolverSpec.grids` that the solver's length rule chose for this batch.
    """

    @property
    def num_evals(self) -> int: ...

    def sample(self, conditioning: Conditioning, x0: torch.Tensor, which: int = 0) -> torch.Tensor: ...

    def proof(self) -> Proof: ...


def planned_velocity(
    rows: Rows, solver: SolverSpec, which: int, lengths: Sequence[int], counts: Counter[str]
) -> Velocity:
    """The velocity by place in `solver.plan(which)`: guided or single rows, planned reuse, zeros. What a loop that is
    captured as a whole runs, too; `counts` gains guided, unguided, reused and zeroed."""
    plan, kind = solver.plan(which), solver.guidance.kind
    kept: list[torch.Tensor] = []

    def velocity(x: torch.Tensor, place: int) -> torch.Tensor:
        point = plan[place]
        if point.action == "zero":
            counts["zeroed"] += 1
            return torch.zeros_like(x)
        if point.action == "reuse":
            counts["reused"] += 1
            return kept[0]
        counts["guided" if point.guided else "unguided"] += 1
        kept[:] = [evaluate(rows, kind, lengths, x, point)]
        return kept[0]

    return velocity


class StepSampler:
    """The solver's loop around a denoiser."""

    def __init__(self, denoiser: Denoiser, solver: SolverSpec):
        self._denoiser, self._solver = denoiser, solver
        self._counts: Counter[str] = Counter()
        self._solves = [0] * len(solver.grids)
        is_probe = solver.reuse is not None and solver.reuse.kind == "probe"
        self._probe = Probe(len(solver.plan())) if is_probe else None

    @property
    def num_evals(self) -> int:
        return self._denoiser.num_evals

    def sample(self, conditioning: Conditioning, x0: torch.Tensor, which: int = 0) -> torch.Tensor:
        solver, lengths = self._solver, conditioning.lengths
        self._solves[which] += 1
        velocity = planned_velocity(self._denoiser.bind(conditioning), solver, which, lengths, self._counts)
        if solver.reuse is not None and solver.reuse.kind == "threshold":
            last = len(solver.plan(which)) - 1
            velocity = with_threshold(velocity, solver.reuse, lengths, last, self._count_reused)
        if self._probe is not None:
            velocity = self._probe.around(velocity, lengths)
        return solver.solve(velocity, x0, which)

    def tap(self, wrap: Callable[[Denoiser], Denoiser]) -> None:
        """Put something around the denoiser, to look at every evaluation."""
        self._denoiser = wrap(self._denoiser)

    def _count_reused(self) -> None:
        self._counts["reused"] += 1

    def proof(self) -> Proof:
        """The denoiser's, and what the solves really did: evaluations by kind, solves by grid where a rule chose."""
        own: dict[str, Any] = {f"{kind}_evals": self._counts[kind] for kind in ("guided", "unguided")}
        own |= {f"{kind}_evals": self._counts[kind] for kind in ("reused", "zeroed") if self._counts[kind]}
        if self._solver.rule is not None:
            own["grids"] = [
                {"max_chars": bound, "steps": steps, "solves": solves, "time_grid": list(grid)}
                for bound, steps, solves, grid in zip(
                    self._solver.rule.bounds, self._solver.rule.steps, self._solves, self._solver.grids, strict=True
                )
            ]
        if self._probe is not None:
            own |= self._probe.proof()
        return {**self._denoiser.proof(), **own}
