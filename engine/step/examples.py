"""Inputs of a step that are drawn, and the step's own answer to them: what an exported graph or a plan is held against.

Shape letters as in engine.step.inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.step.dit import DiTStep, rope_table
from engine.step.inputs import Feeds, StepInputs, mask_feeds


def example_feeds(step: DiTStep, groups: int, lengths: Sequence[int], masked: bool, seed: int = 0) -> Feeds:
    """Normal noise in every input but RoPE and masks, in the step's dtype: enough to tell two graphs apart."""
    generator = torch.Generator().manual_seed(seed)
    weight = step.x_proj.weight
    batch, frames, (dim, mel_bins) = len(lengths), max(lengths), weight.shape

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    inputs = StepInputs(
        drawn(batch, frames, mel_bins), drawn(groups, batch, frames, dim), drawn(groups, batch, dim, frames),
        *rope_table(frames, step.arch), drawn(step.arch.depth, 6, dim), drawn(2, dim),
    )  # fmt: skip
    feeds = inputs.feeds() | (mask_feeds(lengths, groups, frames) if masked else {})
    return {name: value.to(weight.dtype) for name, value in feeds.items()}


@torch.inference_mode()
def run_step(step: DiTStep, feeds: Feeds) -> torch.Tensor:
    """The PyTorch module on a graph's inputs: velocity (G, B, N, D)."""
    velocity: torch.Tensor = step(StepInputs(**feeds).flat())
    return velocity.unflatten(0, feeds["projected"].shape[:2])
