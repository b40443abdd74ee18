"""Fitting a multistep solver to a model: few evaluations that end where a teacher's many end.

For given times and guidance strengths the weights follow by least squares, step after step: the state at t_{i+1} is to
be the teacher's, and is a sum of the velocities evaluated so far (engine.solver.fitted). Times and strengths are
searched by Nelder-Mead for the smallest mean absolute difference of the final mel. Greedy: no weight is changed again
after its step. Shape letters: N frames, G generated frames, D mel bins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize

from engine.contract import ConfigError, Proof, SynthesisRequest
from engine.pipeline import F5Engine
from engine.solver.fitted import Fitted
from engine.solver.guidance import Rows, evaluate
from engine.solver.methods import SolverSpec
from engine.solver.plan import Evaluation
from engine.solver.sampler import Denoiser
from engine.step.conditioner import Conditioning

FINE = 400  # candidate times lie on a grid of this many intervals: each needs a row in the engine's tables
STRENGTHS = (0.1, 8.0)
RIDGE = 1e-6  # of the mean square of the velocities: two equal velocities have no weights of their own


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Utterance:
    """One chunk to be solved: its velocities, its noise x0 (1, N, D), the teacher's states (E + 1, G, D)."""

    rows: Rows
    lengths: tuple[int, ...]
    x0: torch.Tensor
    ref_frames: int
    path: torch.Tensor

    def velocity(self, x: torch.Tensor, point: Evaluation, kind: str) -> torch.Tensor:
        return evaluate(self.rows, kind, self.lengths, x, point)

    def generated(self, x: torch.Tensor) -> torch.Tensor:
        return x[0, self.ref_frames :]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """error: mean absolute difference of the final mel from the teacher's, nats."""

    times: tuple[float, ...]
    strengths: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    error: float


def fine_times(teacher: SolverSpec) -> tuple[float, ...]:
    """What the engine's tables are built for: the teacher's times and the candidates'."""
    return tuple(sorted({*teacher.grid, *(i / FINE for i in range(FINE + 1))}))


class _Kept:
    """An engine.solver.sampler.Denoiser that keeps what it is bound to and the noise, and evaluates nothing."""

    def __init__(self, inner: Denoiser):
        self._inner = inner
        self.bound: list[tuple[Conditioning, Rows, torch.Tensor]] = []

    @property
    def num_evals(self) -> int:
        return self._inner.num_evals

    def bind(self, conditioning: Conditioning) -> Rows:
        rows = self._inner.bind(conditioning)

        def nothing(x: torch.Tensor, index: int, guided: bool) -> torch.Tensor:
            if index == 0:
                self.bound.append((conditioning, rows, x.clone()))
            return torch.zeros_like(x).repeat(1 + guided, 1, 1)

        return nothing

    def proof(self) -> Proof:
        return self._inner.proof()


@torch.inference_mode()
def utterances_of(engine: F5Engine, requests: Sequence[SynthesisRequest], teacher: SolverSpec) -> list[Utterance]:
    """Every request with the teacher's states. The engine's solver is euler on `fine_times(teacher)`.

    Raises ConfigError for a text that the front end cuts into chunks, UnsupportedEngine as `F5Engine.tap`."""
    kept: list[_Kept] = []

    def keep(denoiser: Denoiser) -> Denoiser:
        kept.append(_Kept(denoiser))
        return kept[0]

    engine.tap(keep)
    found = []
    for request in requests:
        before = len(kept[0].bound)
        silence = engine.synthesize([request])[0]
        if silence.num_chunks != 1:
            raise ConfigError("workload", request.utterance_id, "is cut into chunks", "fit on shorter sentences")
        conditioning, rows, x0 = kept[0].bound[before]
        ref_frames, empty = conditioning.num_frames - len(silence.mel_ND), torch.empty(0)
        bare = Utterance(rows=rows, lengths=conditioning.lengths, x0=x0, ref_frames=ref_frames, path=empty)
        found.append(replace(bare, path=teacher_path(bare, teacher)))
    return found


def teacher_path(utterance: Utterance, teacher: SolverSpec) -> torch.Tensor:
    """The generated frames at every time of the teacher's grid, euler: (E + 1, G, D)."""
    places = {t: i for i, t in enumerate(fine_times(teacher))}
    x, states = utterance.x0, [utterance.generated(utterance.x0)]
    for point, end in zip(teacher.plan(), teacher.grid[1:], strict=True):
        own = replace(point, index=places[point.t])
        x = x + (end - point.t) * utterance.velocity(x, own, teacher.guidance.kind)
        states.append(utterance.generated(x))
    return torch.stack(states)


class Fit:
    """The search for a solver of `steps` evaluations that ends where `teacher` ends."""

    def __init__(self, teacher: SolverSpec, model: str):
        self._teacher, self._model = teacher, model
        self._times = np.array(fine_times(teacher))

    @torch.inference_mode()
    def candidate(
        self, utterances: Sequence[Utterance], times: Sequence[float], strengths: Sequence[float]
    ) -> Candidate:
        """The weights that follow from times and strengths, and the error on the same utterances."""
        points = [self._point(t, s) for t, s in zip(times, strengths, strict=True)]
        ends = [point.t for point in points[1:]] + [1.0]
        states = [utterance.x0 for utterance in utterances]
        velocities: list[list[torch.Tensor]] = [[] for _ in utterances]
        weights = []
        for point, end in zip(points, ends, strict=True):
            for utterance, own, x in zip(utterances, velocities, states, strict=True):
                own.append(utterance.velocity(x, point, self._teacher.guidance.kind))
            row = self._least_squares(utterances, velocities, end)
            weights.append(row)
            states = [
                utterance.x0 + sum(weight * v for weight, v in zip(row, own, strict=True))
                for utterance, own in zip(utterances, velocities, strict=True)
            ]
        return Candidate(
            times=tuple(point.t for point in points), strengths=tuple(strengths), weights=tuple(weights),
            error=mean_error(utterances, states),
        )  # fmt: skip

    @torch.inference_mode()
    def error(self, utterances: Sequence[Utterance], found: Candidate) -> float:
        """What a finished candidate gives on these utterances, nats."""
        points = [self._point(t, s) for t, s in zip(found.times, found.strengths, strict=True)]
        solver = Fitted(model=self._model, weights=found.weights)
        kind = self._teacher.guidance.kind
        ends = [
            solver.solve(lambda x, i, own=utterance: own.velocity(x, points[i], kind), utterance.x0)  # type: ignore[misc]
            for utterance in utterances
        ]
        return mean_error(utterances, ends)

    def search(
        self, utterances: Sequence[Utterance], steps: int, tries: int, say: Callable[[int, Candidate], None]
    ) -> Candidate:
        """Nelder-Mead from equal shares of the teacher's grid. say: gets (try, candidate) for each better one.

        Raises ConfigError for a model that gives no finite velocities."""
        tried: list[Candidate] = []

        def error(point: np.ndarray) -> float:
            times, strengths = self._unpacked(point, steps)
            places = [self._point(t, 1.0).t for t in times]
            if len({*places, 1.0}) <= steps:
                return math.inf  # two evaluations at one time, or one at the end: no grid
            tried.append(self.candidate(utterances, times, strengths))
            if not math.isfinite(tried[-1].error):
                raise ConfigError("model", self._model, "its velocities are not finite", "use engine=fp32")
            if tried[-1].error <= min(c.error for c in tried):
                say(len(tried), tried[-1])
            return tried[-1].error

        start = self._start(steps)
        corners = [start + (0.5 if i < steps else 0.25) * row for i, row in enumerate(np.eye(len(start)))]
        minimize(
            error, start, method="Nelder-Mead",
            options={"maxfev": tries, "initial_simplex": np.array([start, *corners]), "adaptive": True},
        )  # fmt: skip
        if not tried:
            raise ConfigError("solver", self._teacher.name, f"its times lie too close for {steps} steps", "use fewer")
        return min(tried, key=lambda c: c.error)

    def _start(self, steps: int) -> np.ndarray:
        """log of each interval's length, then log of each guidance strength over its default, where there is one."""
        spread = np.interp(np.linspace(0, 1, steps + 1), np.linspace(0, 1, self._teacher.steps + 1), self._teacher.grid)
        return np.concatenate([np.log(np.diff(spread)), np.zeros(steps if self._teacher.guided else 0)])

    def _unpacked(self, point: np.ndarray, steps: int) -> tuple[list[float], list[float]]:
        shares = np.exp(point[:steps] - point[:steps].max())
        times = np.concatenate([[0.0], np.cumsum(shares / shares.sum())[:-1]])
        if not self._teacher.guided:
            return times.tolist(), [0.0] * steps
        strengths = np.clip(self._teacher.cfg_strength * np.exp(point[steps:]), *STRENGTHS)
        return times.tolist(), [float(f"{s:.4g}") for s in strengths]

    def _point(self, t: float, strength: float) -> Evaluation:
        index = int(np.abs(self._times - t).argmin())
        return Evaluation(index=index, t=float(self._times[index]), strength=strength, action="evaluate")

    def _least_squares(
        self, utterances: Sequence[Utterance], velocities: Sequence[Sequence[torch.Tensor]], end: float
    ) -> tuple[float, ...]:
        num = len(velocities[0])
        normal, right = np.zeros((num, num)), np.zeros(num)
        for utterance, own in zip(utterances, velocities, strict=True):
            known = torch.stack([utterance.generated(v).flatten() for v in own]).double()
            wanted = (self._teacher_at(utterance, end) - utterance.generated(utterance.x0)).flatten().double()
            normal += (known @ known.T).cpu().numpy()
            right += (known @ wanted).cpu().numpy()
        normal += RIDGE * np.mean(np.diag(normal)) * np.eye(num)
        return tuple(float(f"{w:.6g}") for w in np.linalg.solve(normal, right))

    def _teacher_at(self, utterance: Utterance, t: float) -> torch.Tensor:
        """The teacher's state between its own times, on the straight line that euler took."""
        grid = np.array(self._teacher.grid)
        i = min(int(np.searchsorted(grid, t, side="right")) - 1, len(grid) - 2)
        share = float((t - grid[i]) / (grid[i + 1] - grid[i]))
        return torch.lerp(utterance.path[i], utterance.path[i + 1], share)


def mean_error(utterances: Sequence[Utterance], ends: Sequence[torch.Tensor]) -> float:
    """Mean over utterances of the mean absolute difference of the generated mel from the teacher's, nats."""
    return float(
        np.mean([float((u.generated(x) - u.path[-1]).abs().mean()) for u, x in zip(utterances, ends, strict=True)])
    )
