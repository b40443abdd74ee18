"""Upstream's DiT as a module that can be taught: built from a `model` group, asked for its velocity, saved.

Shape letters: N mel frames, D mel bins, T text tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from engine.settings import ModelSettings
from engine.weights.checkpoint import LoadedModel

if TYPE_CHECKING:
    from f5_tts.model import DiT

NO_TRAINING = ("attn_backend", "attn_mask_enabled", "checkpoint_activations")


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Given:
    """What a sentence's velocity is conditioned on: text (1, T) indices, cond (1, N, D) the reference's mel and zeros.

    weight: (1, N, 1) of each frame in the loss, its mean over the frames 1. label: the sentence, for a message."""

    text: torch.Tensor
    cond: torch.Tensor
    weight: torch.Tensor
    label: str

    @property
    def num_frames(self) -> int:
        return self.cond.shape[1]


def network(model: ModelSettings, loaded: LoadedModel) -> DiT:
    """Upstream's module with these weights, without dropout. Sentences go through it one by one: nothing is padded."""
    from f5_tts.model import DiT

    arch = {key: value for key, value in model["arch"].items() if key not in (*NO_TRAINING, "dropout")}
    built = DiT(**arch, dropout=0.0, text_num_embeds=len(loaded.vocabulary), mel_dim=model["mel_bins"])
    missing, unexpected = built.load_state_dict(dict(loaded.state), strict=False)
    if unexpected or set(missing) - {"rotary_embed.inv_freq"}:
        raise AssertionError((missing, unexpected))  # load_model has compared names and shapes
    return built


def velocity(net: nn.Module, given: Given, x: torch.Tensor, t: float) -> torch.Tensor:
    """One row: (1, N, D) at time t of the state x (1, N, D)."""
    return net(x=x, cond=given.cond, text=given.text, time=torch.tensor([t], device=x.device))


@torch.no_grad()
def guided_velocity(net: nn.Module, given: Given, x: torch.Tensor, t: float, strength: float) -> torch.Tensor:
    """Classifier-free guidance as the sampler's: v_c + strength (v_c - v_u); one row where the strength is 0."""
    if strength == 0:
        return velocity(net, given, x, t)
    time = torch.tensor([t], device=x.device)
    both = net(x=x, cond=given.cond, text=given.text, time=time, cfg_infer=True)
    conditional, unconditional = both.chunk(2)
    return torch.lerp(unconditional, conditional, 1 + strength)


def full_state(net: nn.Module) -> dict[str, torch.Tensor]:
    """Weights by upstream's names in a CFM's state, as checkpoints have them."""
    return {f"transformer.{name}": value.detach().clone() for name, value in net.state_dict().items()}


def num_parameters(state: Mapping[str, torch.Tensor]) -> int:
    return sum(value.numel() for value in state.values())
