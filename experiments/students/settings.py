"""The group of `f5bench distill`: what a student is, and how it is taught."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from engine.contract import ConfigError, UnsupportedEngine
from experiments.common.plain import Config
from experiments.settings.own import Own
from experiments.settings.typed import Group, Text


class Recipe(Group):
    """`recipe`: conf/recipe has one file a kind of student."""

    kind: Literal["guidance", "steps", "depth"] = Field("guidance", description="what the student saves")
    name: Text = Field("guided", description="of the student's files")
    updates: int = Field(1300, ge=1, le=1_000_000, description="of the weights")
    lr: float = Field(5.0e-4, gt=0, le=1, description="peak of the learning rate; a cosine from there to nothing")
    warmup_updates: int = Field(60, ge=1, description="updates until the peak")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="of the moving average, which is what is kept")
    paths: int = Field(2, ge=1, le=64, description="sentences under way at once in each of two groups")
    steps: list[int] = Field([6, 16], description="fewest and most steps of a path from noise to speech")
    grid: Literal["random", "swayed"] = Field("random", description="times of a path; swayed: upstream's at sway -1")
    teacher_steps: int = Field(1, ge=1, le=64, description="of the teacher inside one step of the student")
    student_walks: float = Field(0.5, ge=0, le=1, description="share of the paths that the student itself walks on")
    reference_weight: float = Field(0.2, ge=0, le=1, description="of the reference's frames in the loss")
    blocks: int | None = Field(None, ge=1, description="that are kept, by their influence; null: all")
    prompts: int = Field(8, ge=0, le=1000, description="clips that each voice speaks first, as further references")
    data: Text | None = Field(None, description="a folder of metadata.csv and clips, upstream's form; null: see texts")
    texts: Text | None = Field(None, description="a file of one sentence a line; null: the pocket model's grammar")
    longest_frames: int = Field(900, ge=50, description="of reference and sentence together; longer ones are left out")
    held_out: int = Field(5, ge=1, le=1000, description="sentences of the workload that the held-out loss is made on")
    every: int = Field(50, ge=1, description="updates between two checkpoints, each with its held-out loss")
    init: Text | None = Field(None, description="weights to begin with; null: the teacher's")

    @model_validator(mode="after")
    def _steps_ascend(self) -> Self:
        if len(self.steps) != 2 or not 1 <= self.steps[0] <= self.steps[1] <= 1000:
            raise ConfigError("recipe.steps", self.steps, "must be the fewest and the most", "use recipe.steps=[6,16]")
        return self


RECIPE = Own("recipe", Recipe, "guidance")


def refuse_teacher(config: Config) -> None:
    """Raises UnsupportedEngine for a teacher that is no DiT, ConfigError for one whose guidance is no plain one."""
    model, solver = config["model"], config["solver"]
    if model["backbone"] != "DiT":
        raise UnsupportedEngine(
            f"a student is a DiT, and the teacher model={model['name']} is a {model['backbone']}",
            "use model=pocket or model=f5tts_v1_base",
        )
    for key, plain in (("guidance", "cfg"), ("guidance_interval", None), ("guidance_schedule", None)):
        if solver.get(key, plain) != plain:
            raise ConfigError(
                f"solver.{key}", solver.get(key), "a student is taught one guidance at all times", "use solver=euler_32"
            )
