"""What a student is taught on: sentences with a reference, endless, and the paths from noise to speech through them.

Nothing is recorded for it. The teacher walks from noise to speech and the student learns its velocity on the way, on
every state that it or the student passes (on-policy distillation): the states at which a solver will ask for it.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

from engine.contract import ConfigError, SynthesisRequest
from engine.frontend import FrontEnd
from experiments.students.network import Given
from experiments.students.settings import Recipe

MOST_DRAWN = 1000  # in a row that do not fit, until the search is given up


class Sentences:
    """Endless sentences, each after a reference that is drawn. voices: requests whose clip and transcript are used."""

    def __init__(
        self,
        frontend: FrontEnd,
        voices: Sequence[SynthesisRequest],
        texts: Iterator[str],
        recipe: Recipe,
        target_rms: float,
        device: str,
    ):
        self._frontend, self._voices, self._texts = frontend, voices, texts
        self._recipe, self._target_rms, self._device = recipe, target_rms, device

    def draw(self, rng: random.Random) -> Given:
        """The next one that is a single chunk and not too long. Raises ConfigError where there seems to be none."""
        for _ in range(MOST_DRAWN):
            voice, text = rng.choice(self._voices), next(self._texts)
            found = self.given(voice, text)
            if found is not None and found.num_frames <= self._recipe.longest_frames:
                return found
        raise ConfigError(
            "recipe.longest_frames", self._recipe.longest_frames,
            f"of {MOST_DRAWN} sentences none fits with its reference in one chunk",
            "raise it, or give shorter clips or texts",
        )  # fmt: skip

    def given(self, voice: SynthesisRequest, text: str) -> Given | None:
        """None for a text of several chunks. Raises InvalidRequest for one that the model cannot speak."""
        request = SynthesisRequest(
            utterance_id=text, text=text, ref_audio_S=voice.ref_audio_S, ref_sample_rate_hz=voice.ref_sample_rate_hz,
            ref_text=voice.ref_text, seed=0, speed_ratio=voice.speed_ratio,
        )  # fmt: skip
        prepared = self._frontend.prepare(request, self._target_rms)
        if len(prepared.chunks) != 1:
            return None
        chunk, mel_ND = prepared.chunks[0], prepared.reference.mel_ND
        weight = torch.ones(1, chunk.num_frames, 1)
        weight[:, : chunk.ref_frames] = self._recipe.reference_weight
        return Given(
            text=torch.tensor([chunk.token_ids]).to(self._device),
            cond=F.pad(mel_ND, (0, 0, 0, chunk.num_frames - len(mel_ND)))[None].to(self._device),
            weight=(weight / weight.mean()).to(self._device),
            label=text,
        )


def swayed(share: float) -> float:
    """Upstream's sway sampling at its default of -1 (F5-TTS, arXiv 2410.06885): half of all steps before t = 0.29."""
    return 1 - math.cos(math.pi / 2 * share)


def times_of(recipe: Recipe, rng: random.Random) -> tuple[float, ...]:
    """Of a path, from 0 to 1."""
    steps = rng.randint(*recipe.steps)
    shares = [(i + (rng.uniform(-0.5, 0.5) if recipe.grid == "random" else 0.0)) / steps for i in range(1, steps)]
    return (0.0, *(swayed(share) for share in shares), 1.0)


@dataclass(eq=False, slots=True)
class Path:
    """One sentence on its way: the state x (1, N, D) at times[place]."""

    given: Given
    x: torch.Tensor
    times: tuple[float, ...]
    by_student: bool
    place: int = 0

    @property
    def t(self) -> float:
        return self.times[self.place]

    @property
    def step(self) -> float:
        return self.times[self.place + 1] - self.times[self.place]

    @property
    def is_done(self) -> bool:
        return self.place == len(self.times) - 1


Teacher = Callable[[Given, torch.Tensor, float], torch.Tensor]
"""(sentence, x (1, N, D), t) -> its velocity."""


def inner_times(start: float, end: float, steps: int) -> list[float]:
    """The teacher's times inside one step of the student, evenly in shares of the sway."""
    first, last = (math.acos(1 - t) / (math.pi / 2) for t in (start, end))
    return [start, *(swayed(first + (last - first) * i / steps) for i in range(1, steps)), end]


@torch.no_grad()
def taught_velocity(teacher: Teacher, path: Path, steps: int) -> torch.Tensor:
    """What the student is to answer: the mean velocity of the teacher's own steps over the student's one. (1, N, D)"""
    if steps == 1:
        return teacher(path.given, path.x, path.t)
    x, times = path.x, inner_times(path.t, path.t + path.step, steps)
    for start, end in itertools.pairwise(times):
        x = x + (end - start) * teacher(path.given, x, start)
    return (x - path.x) / path.step


def noise_of(given: Given, noise: torch.Generator) -> torch.Tensor:
    """Drawn on the CPU, so that a seed gives the same on every device: (1, N, D)."""
    return torch.randn(given.cond.shape, generator=noise).to(given.cond.device)


@dataclass(eq=False, slots=True)
class Group:
    """Paths under way. All of it is in a checkpoint."""

    paths: list[Path] = field(default_factory=list)

    def fill(self, sentences: Sentences, rng: random.Random, recipe: Recipe, noise: torch.Generator) -> None:
        """New sentences in the place of those that were spoken to their end."""
        self.paths = [path for path in self.paths if not path.is_done]
        while len(self.paths) < recipe.paths:
            given = sentences.draw(rng)
            x = noise_of(given, noise)
            self.paths.append(Path(given, x, times_of(recipe, rng), rng.random() < recipe.student_walks))

    def advance(self, taught: Sequence[torch.Tensor], answered: Sequence[torch.Tensor]) -> None:
        for path, target, answer in zip(self.paths, taught, answered, strict=True):
            path.x = path.x + path.step * (answer.detach() if path.by_student else target)
            path.place += 1


def weighted_error(given: Given, answer: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean square over frames and bins, the reference's frames by their weight."""
    return (given.weight * (answer - target).square()).mean()


def plain(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Paths as a checkpoint holds them."""
    return [
        {"text": p.given.text, "cond": p.given.cond, "weight": p.given.weight, "label": p.given.label, "x": p.x,
         "times": list(p.times), "by_student": p.by_student, "place": p.place}
        for p in paths
    ]  # fmt: skip


def unplain(kept: Sequence[dict[str, Any]]) -> list[Path]:
    return [
        Path(
            Given(text=one["text"], cond=one["cond"], weight=one["weight"], label=one["label"]), one["x"],
            tuple(one["times"]), one["by_student"], one["place"],
        )
        for one in kept
    ]  # fmt: skip
