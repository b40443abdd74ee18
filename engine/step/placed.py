"""A solve's constants where a backend reads them.

Shape letters as in engine.step.inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine.step.conditioner import Conditioning
from engine.step.inputs import StepInputs, padding_masks


@dataclass(frozen=True, eq=False, slots=True)
class Placed:
    """A batch's constants on the device in the step's dtype: `StepInputs` less what changes with the evaluation."""

    batch: int
    projected: torch.Tensor
    convolved: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor
    frames: torch.Tensor | None
    keys: torch.Tensor | None

    @staticmethod
    def of(
        conditioning: Conditioning, rope: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype, masked: bool = False
    ) -> Placed:
        """rope: cos and sin of the length, on the device and in the dtype. masked: with masks also where nothing is
        padded."""
        device, rows = rope[0].device, len(conditioning.projected)
        frames = keys = None
        if masked or conditioning.padded:
            found = padding_masks(conditioning.lengths, rows, conditioning.num_frames, dtype)
            frames, keys = (mask.to(device) for mask in found)
        projected, convolved = (
            constant.to(device, dtype).contiguous() for constant in (conditioning.projected, conditioning.convolved)
        )
        return Placed(len(conditioning.lengths), projected, convolved, *rope, frames, keys)

    @staticmethod
    def masked(
        projected: torch.Tensor, convolved: torch.Tensor, own: torch.Tensor, rope: tuple[torch.Tensor, torch.Tensor]
    ) -> Placed:
        """Of constants that lie on the device already, in the dtype of rope; own (B, N), 1 for a row's own frames. The
        same masks as `of` makes on the host, so that a graph can hold the making."""
        dtype, batch = rope[0].dtype, len(own)
        rows = own.repeat(len(projected) // batch, 1)
        keys = torch.zeros_like(rows).masked_fill(rows == 0, -torch.inf).to(dtype)
        frames = rows[:, :, None].to(dtype)
        return Placed(
            batch, projected.to(dtype), convolved.to(dtype).contiguous(), *rope, frames, keys[:, None, None, :]
        )

    @property
    def padded(self) -> bool:
        return self.frames is not None

    def own(self) -> dict[str, torch.Tensor]:
        """By name, what belongs to these utterances and not to the length alone."""
        masks = {"frames": self.frames, "keys": self.keys}
        present = {name: mask for name, mask in masks.items() if mask is not None}
        return {"projected": self.projected, "convolved": self.convolved, **present}

    def at(self, x: torch.Tensor, modulation: torch.Tensor, final: torch.Tensor, guided: bool) -> StepInputs:
        """The inputs of one evaluation, all rows or the conditional ones alone; x (B, N, D)."""
        used = slice(None) if guided else slice(self.batch)
        frames = None if self.frames is None else self.frames[used]
        keys = None if self.keys is None else self.keys[used]
        return StepInputs(
            x, self.projected[used], self.convolved[used], self.cos, self.sin, modulation, final, frames, keys
        )
