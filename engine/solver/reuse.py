"""Step caching: at many steps neighbouring velocities are alike, and an earlier one can stand for the next.

Everything here sees whole velocities, since a backend shows nothing of its inside. What is and is not like the papers:

schedule  SmoothCache (arXiv 2411.10510) calibrates, per kind of layer, the mean relative L1 change of that layer's
          output over steps, and reuses a layer's output while its change stays under alpha. Alike: the relative L1
          change, its calibration on a few utterances, the static schedule it gives. Not alike: one decision for the
          whole network instead of one per kind of layer.
threshold TeaCache (arXiv 2411.19108) accumulates the relative L1 change of the first block's time-modulated input,
          rescaled by a fitted polynomial, and evaluates when the sum passes a threshold; until then it adds the cached
          residual of the blocks. Alike: the accumulation, the polynomial, the first and last evaluation always made.
          Not alike: the change is that of the solver's state x, not of the modulated input, and the guided velocity is
          reused, not the residual. Every utterance of a batch decides for itself; the batch is evaluated when one of
          them is due.
probe     evaluates everything and keeps the changes of velocity and state: what both are calibrated from
          (`python -m experiments.solvers.calibrate_reuse`).

Reused velocities are counted apart; `num_evals` counts real evaluations only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from engine.solver.guidance import own_frames
from engine.solver.methods import Velocity
from engine.solver.plan import Reuse

MAX_DISTANCE = 8  # how many steps apart the probe compares velocities


def relative_change(now_BND: torch.Tensor, before_BND: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """|now - before|_1 / |before|_1 per utterance over its own frames: (B,)."""
    moved = ((now_BND - before_BND).abs() * own).sum((1, 2))
    return moved / ((before_BND.abs() * own).sum((1, 2)) + 1e-12)


def with_threshold(
    velocity: Velocity, reuse: Reuse, lengths: Sequence[int], last: int, reused: Callable[[], None]
) -> Velocity:
    """TeaCache-like. last: the place of the solve's last evaluation, always made; reused: called for each one saved."""
    before: torch.Tensor | None = None
    kept: torch.Tensor | None = None
    total_B: torch.Tensor | None = None
    in_a_row_B: torch.Tensor | None = None

    def accumulated(x: torch.Tensor, place: int) -> torch.Tensor:
        nonlocal before, kept, total_B, in_a_row_B
        if before is None or kept is None or total_B is None or in_a_row_B is None:
            before, kept, total_B = x, velocity(x, place), torch.zeros(len(x), device=x.device)
            in_a_row_B = torch.zeros(len(x), dtype=torch.int64, device=x.device)
            return kept
        change_B = relative_change(x, before, own_frames(lengths, x))
        before = x
        total_B = total_B + sum(c * change_B**p for p, c in enumerate(reversed(reuse.rescale)))
        due_B = (total_B >= reuse.threshold) | (in_a_row_B >= reuse.max_in_a_row)
        if place == last:
            due_B = torch.ones_like(due_B)
        in_a_row_B = torch.where(due_B, 0, in_a_row_B + 1)
        if not bool(due_B.any()):
            reused()
            return kept
        kept = torch.where(due_B[:, None, None], velocity(x, place), kept)
        total_B = torch.where(due_B, torch.zeros_like(total_B), total_B)
        return kept

    return accumulated


class Probe:
    """Mean relative changes over all solves, by place: of velocities 1 to MAX_DISTANCE apart, and of the state."""

    def __init__(self, num_evals: int):
        self._velocity = torch.zeros(MAX_DISTANCE, num_evals, dtype=torch.float64)
        self._state = torch.zeros(num_evals, dtype=torch.float64)
        self._solved = 0

    def around(self, velocity: Velocity, lengths: Sequence[int]) -> Velocity:
        kept: list[torch.Tensor] = []
        states: list[torch.Tensor] = []
        self._solved += len(lengths)

        def watched(x: torch.Tensor, place: int) -> torch.Tensor:
            own, now = own_frames(lengths, x), velocity(x, place)
            for distance, earlier in enumerate(reversed(kept[-MAX_DISTANCE:])):
                self._velocity[distance, place] += relative_change(now, earlier, own).sum().item()
            if states:
                self._state[place] += relative_change(x, states[-1], own).sum().item()
            kept.append(now)
            states.append(x)
            return now

        return watched

    def proof(self) -> dict[str, list[list[float]] | list[float]]:
        """velocity_change[d][i]: of evaluation i against the one d + 1 before it; state_change[i]: since i - 1."""
        num = max(self._solved, 1)
        return {"velocity_change": (self._velocity / num).tolist(), "state_change": (self._state / num).tolist()}


def schedule_of(velocity_change: Sequence[Sequence[float]], alpha: float) -> list[int]:
    """The evaluations that are made when one is left out while its velocity differs by less than alpha from the kept
    one; the first and the last are always made."""
    num_evals = len(velocity_change[0])
    evaluated = [0]
    for i in range(1, num_evals - 1):
        distance = i - evaluated[-1]
        if distance > len(velocity_change) or velocity_change[distance - 1][i] >= alpha:
            evaluated.append(i)
    return [*evaluated, num_evals - 1] if num_evals > 1 else evaluated
