"""What one evaluation of the model reads, as one thing: the same for every backend, in memory and in a graph.

Shape letters: B utterances, G guidance rows, R = G B rows (conditional rows first, then unconditional ones), N frames,
D mel bins, C model width, H heads, L blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

Feeds = dict[str, torch.Tensor]
"""`StepInputs` by name as an exported graph takes them: rows as (G, B, ...), and no masks where there are none."""


class StepInputs(NamedTuple):
    """The inputs of a step; their names are those of an exported graph's inputs, too. A tuple, because compilers and
    exporters take tuples apart by themselves.

    x (B, N, D); projected (R, N, C) and convolved (R, C, N) from `Conditioner`; cos, sin (N, 1 or H, dim_head);
    modulation (L, 6, C) and final (2, C) of the evaluation's time, for a UNetT (C,) and (0,); where utterances are
    padded frames (R, N, 1) and keys (R, 1, 1, N), see `padding_masks`.
    """

    x: torch.Tensor
    projected: torch.Tensor
    convolved: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor
    modulation: torch.Tensor
    final: torch.Tensor
    frames: torch.Tensor | None = None
    keys: torch.Tensor | None = None

    def flat(self) -> StepInputs:
        """(G, B, ...) -> rows (R, ...), as a step reads them."""
        return self._with_rows(lambda rows: rows.flatten(0, 1))

    def grouped(self) -> StepInputs:
        """Rows (R, ...) -> guidance rows and utterances as axes of their own (G, B, ...), as a graph reads them."""
        batch = len(self.x)
        return self._with_rows(lambda rows: rows.unflatten(0, (-1, batch)))

    def feeds(self) -> Feeds:
        return {name: tensor for name, tensor in self._asdict().items() if tensor is not None}

    def _with_rows(self, changed: Callable[[torch.Tensor], torch.Tensor]) -> StepInputs:
        return self._replace(
            projected=changed(self.projected),
            convolved=changed(self.convolved),
            frames=None if self.frames is None else changed(self.frames),
            keys=None if self.keys is None else changed(self.keys),
        )


CHANGING = ("x", "modulation", "final")  # from one evaluation of a solve to the next


def padding_masks(
    lengths: Sequence[int], num_rows: int, num_frames: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """What keeps padding out of its utterance: frames (R, N, 1), 1 where there is speech, for the convolutions; keys
    (R, 1, 1, N), 0 or -inf, added to the attention scores. With both, each row equals its own unpadded run."""
    speech = torch.arange(num_frames)[None, :] < torch.tensor(lengths)[:, None]
    speech = speech.repeat(num_rows // len(lengths), 1)
    keys = torch.zeros(speech.shape).masked_fill(~speech, -torch.inf)
    return speech[:, :, None].to(dtype), keys[:, None, None, :].to(dtype)


def mask_feeds(lengths: Sequence[int], groups: int, num_frames: int) -> Feeds:
    """`padding_masks` in float32 as a graph's inputs."""
    frames, keys = padding_masks(lengths, groups * len(lengths), num_frames, torch.float32)
    shape = (groups, len(lengths))
    return {"frames": frames.unflatten(0, shape), "keys": keys.unflatten(0, shape)}
