"""The loop that teaches: updates, the moving average, checkpoints from which the same weights come out as without a
stop, the held-out loss, and the end at a number that is none.

Two groups of paths take turns: while the student learns from one, a second thread asks the teacher about the other. A
group's states depend on nothing of the other's, so the order in which threads finish changes nothing.
"""

from __future__ import annotations

import copy
import io
import math
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

import torch
from torch import nn

from engine.contract import ConfigError
from experiments.students.lessons import (
    Group,
    Path,
    Sentences,
    Teacher,
    noise_of,
    plain,
    taught_velocity,
    unplain,
    weighted_error,
)
from experiments.students.network import Given, velocity
from experiments.students.settings import Recipe
from metrics.record import write_bytes_atomically

CHECKPOINT = "checkpoint.pt"
CLIP = 1.0  # of the gradient's norm


class NotANumber(Exception):
    """The loss is no number any more."""


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class HeldOut:
    """A state on the teacher's path of a sentence that is never trained on, and what the teacher answers there."""

    given: Given
    x: torch.Tensor
    t: float
    target: torch.Tensor


def learning_rate(recipe: Recipe, update: int) -> float:
    """Linear to the peak, a cosine from there to nothing at the last update."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(update / recipe.updates, 1.0)))
    return recipe.lr * min(1.0, (update + 1) / recipe.warmup_updates) * cosine


class Pupil:
    """A student that is being taught, and all that a checkpoint holds.

    made_of: by key, everything beside the recipe that decides the weights, files by their hash.
    """

    def __init__(self, student: nn.Module, recipe: Recipe, seed: int, made_of: Mapping[str, str]):
        self.student, self.recipe, self.made_of = student.train(), recipe, dict(made_of)
        self.average = copy.deepcopy(student).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(student.parameters(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.01)
        self.rng, self.noise = random.Random(seed), torch.Generator().manual_seed(seed)
        self.groups = [Group(), Group()]
        self.update = 0

    def learn(self, paths: Sequence[Path], taught: Sequence[torch.Tensor]) -> tuple[float, list[torch.Tensor]]:
        """One update. Returns the loss and the student's answers. Raises NotANumber."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.update)
        self.optimizer.zero_grad()
        losses, answers = [], []
        for path, target in zip(paths, taught, strict=True):
            answers.append(velocity(self.student, path.given, path.x, path.t))
            loss = weighted_error(path.given, answers[-1], target)
            if not math.isfinite(loss.item()):
                where = f"on {path.given.label!r} at t = {path.t:.3f}"
                raise NotANumber(f"update {self.update}: the loss is {loss.item()} {where}")
            (loss / len(paths)).backward()
            losses.append(loss.item())
        norm = float(torch.nn.utils.clip_grad_norm_(self.student.parameters(), CLIP))
        if not math.isfinite(norm):
            raise NotANumber(f"update {self.update}: the gradient's norm is {norm} on {paths[0].given.label!r}")
        self.optimizer.step()
        self._average()
        self.update += 1
        return sum(losses) / len(losses), answers

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.recipe.ema_decay, (self.update + 1) / (self.update + 10))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.student.parameters()), 1 - decay)

    def save(self, path: File) -> None:
        """Atomically. Raises OSError for a disk that is full."""
        held = io.BytesIO()
        torch.save(
            {
                "student": self.student.state_dict(), "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(), "rng": self.rng.getstate(),
                "noise": self.noise.get_state(), "groups": [plain(group.paths) for group in self.groups],
                "update": self.update, "recipe": self.recipe.model_dump(), "made_of": self.made_of,
            },
            held,
        )  # fmt: skip
        write_bytes_atomically(path, held.getvalue())

    def load(self, path: File) -> None:
        """Raises ConfigError for a checkpoint of another recipe, or of another teacher, guidance, seed or material."""
        device = next(self.student.parameters()).device
        kept: dict[str, Any] = torch.load(path, weights_only=True, map_location=device)
        recipe = {f"recipe.{key}": value for key, value in self.recipe.model_dump().items()}
        begun = {f"recipe.{key}": value for key, value in kept["recipe"].items()} | kept.get("made_of", {})
        for key, value in {**recipe, **self.made_of}.items():
            if begun.get(key) != value:
                raise ConfigError(
                    key, value, f"{path} was begun with {begun.get(key)}",
                    "go on with the same command, or choose another out=",
                )  # fmt: skip
        self.student.load_state_dict(kept["student"])
        self.average.load_state_dict(kept["average"])
        self.optimizer.load_state_dict(kept["optimizer"])
        version, internal, gauss = kept["rng"]
        self.rng.setstate((version, tuple(internal), gauss))
        self.noise.set_state(kept["noise"].cpu())
        self.groups = [Group(unplain(paths)) for paths in kept["groups"]]
        self.update = kept["update"]


@torch.inference_mode()
def held_out_loss(student: nn.Module, held: Sequence[HeldOut]) -> float:
    """Mean over the states of the weighted mean square of the velocity's error."""
    found = [weighted_error(one.given, velocity(student, one.given, one.x, one.t), one.target) for one in held]
    return float(torch.stack(found).mean())


@torch.no_grad()
def held_out_states(teacher: Teacher, sentences: Sequence[Given], times: Sequence[float], steps: int) -> list[HeldOut]:
    """The teacher's own states at `times` of every sentence."""
    noise, found = torch.Generator().manual_seed(0), []
    for given in sentences:
        path = Path(given, noise_of(given, noise), tuple(times), False)
        while not path.is_done:
            target = taught_velocity(teacher, path, steps)
            found.append(HeldOut(given=given, x=path.x, t=path.t, target=target))
            path.x = path.x + path.step * target
            path.place += 1
    return found


Say = Callable[[Pupil, float], None]


def teach(pupil: Pupil, teacher: Teacher, sentences: Sentences, say: Say) -> None:
    """All updates that are left. say: told after each, with its loss; it keeps the checkpoints. Raises NotANumber."""
    recipe, threads = pupil.recipe, torch.get_num_threads()

    def ask(group: Group) -> list[torch.Tensor]:
        return [taught_velocity(teacher, path, recipe.teacher_steps) for path in group.paths]

    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,)) as second:
        turn = pupil.update % 2
        for group in pupil.groups:
            group.fill(sentences, pupil.rng, recipe, pupil.noise)
        asked = second.submit(ask, pupil.groups[turn])
        while pupil.update < recipe.updates:
            group, other = pupil.groups[turn], pupil.groups[1 - turn]
            taught = asked.result()
            asked = second.submit(ask, other)
            loss, answers = pupil.learn(group.paths, taught)
            group.advance(taught, answers)
            asked.result()  # paths of both groups stand still while a checkpoint is made
            group.fill(sentences, pupil.rng, recipe, pupil.noise)
            turn = 1 - turn
            say(pupil, loss)
