"""Blocks left out by measured influence: the one whose absence changes the velocity least goes first, then of the rest
the next, so that what two blocks do for one another is seen (greedy, as in arXiv 2403.03853 but by the output, not by
the similarity of a block's input and output)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from experiments.students.lessons import weighted_error
from experiments.students.network import velocity
from experiments.students.teaching import HeldOut

if TYPE_CHECKING:
    from f5_tts.model import DiT

Say = Callable[[str], None]


def keep(net: DiT, blocks: Sequence[nn.Module]) -> None:
    """The network with these of its blocks alone."""
    net.transformer_blocks = nn.ModuleList(blocks)
    net.depth = len(blocks)


@torch.no_grad()
def drop_blocks(net: DiT, states: Sequence[HeldOut], number: int, say: Say) -> tuple[int, ...]:
    """Leaves `number` blocks in the network; returns which, counted from 0."""
    whole = list(net.transformer_blocks)
    wanted = [velocity(net, one.given, one.x, one.t) for one in states]

    def change(kept: Sequence[int]) -> float:
        keep(net, [whole[i] for i in kept])
        errors = [
            weighted_error(one.given, velocity(net, one.given, one.x, one.t), own)
            for one, own in zip(states, wanted, strict=True)
        ]
        return float(torch.stack(errors).mean())

    kept = list(range(len(whole)))
    while len(kept) > number:
        changes = {i: change([j for j in kept if j != i]) for i in kept}
        least = min(changes, key=lambda i: changes[i])
        say(f"block {least} goes: {changes[least]:.3f}; of the others " + ", ".join(
            f"{i}: {changes[i]:.3f}" for i in kept if i != least))  # fmt: skip
        kept.remove(least)
    keep(net, [whole[i] for i in kept])
    return tuple(kept)
