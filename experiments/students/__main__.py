"""Teach a student what its teacher does with more work: `python -m experiments.students recipe=guidance`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.common.cli import EXIT_JOB_FAILED, EXIT_OK, complain, note, run_verb
from experiments.common.plain import Config
from experiments.common.presets import with_presets
from experiments.measuring.running import default_out
from experiments.measuring.validate import one_cell, validate_out
from experiments.settings.keys import refuse_unread
from experiments.students.settings import RECIPE, Recipe, refuse_teacher
from metrics.record import write_atomically

if TYPE_CHECKING:
    from experiments.students.course import Course
    from experiments.students.teaching import HeldOut, Pupil

HELP = """Teach a student: a model that gives its teacher's answer with less work. It needs no recordings and no labels.

  recipe=guidance   one row an evaluation instead of two: the teacher's guided velocity, at solver.cfg_strength
  recipe=depth      the blocks of least influence left out, the rest taught the guided velocity
  recipe=steps      few steps, each of which ends where several of the teacher's end
  model=, solver=   the teacher and its guidance; reference= its voices; workload= sentences that are never taught
  Everything else is an override, as in experiments.run.

examples:
  python -m experiments.students recipe=guidance out=outputs/guided
  python -m experiments.students recipe=guidance recipe.updates=20 out=outputs/first_look
  python -m experiments.students recipe=depth recipe.init=outputs/guided/guided.safetensors out=outputs/small

Leaves checkpoint.pt (the same command goes on from there), teaching.jsonl, NAME.safetensors and model/NAME.yaml in
out=DIR; the student is then `--config-dir DIR model=NAME`.
exit codes: 0 done, 2 usage or configuration, 14 the loss was no number or the teacher cannot teach, 130 interrupted
"""
UNREAD = ("gate", "measure", "quality", "stream", "tracking", "sweep", "engine", "enhance")
FIRST = ("solver=euler_32", "workload=en_all")
LOG = "teaching.jsonl"


@with_presets
def main(argv: Sequence[str]) -> int:
    mine, rest = RECIPE.split([word for word in argv if not word.startswith("-")])
    if RECIPE.answered(argv, HELP):
        return EXIT_OK
    recipe = RECIPE.made(mine)
    refuse_unread(rest, UNREAD, "a student")
    given = {word.partition("=")[0] for word in rest}
    config = one_cell([*(word for word in FIRST if word.partition("=")[0] not in given), *rest]).config
    refuse_teacher(config)
    out = Path(config["out"] or default_out(f"distill-{recipe.name}"))
    validate_out(out, 1, 1)
    return taught(config, recipe, out)


def taught(config: Config, recipe: Recipe, out: Path) -> int:
    """The student, from where an earlier run of the same command stopped."""
    from experiments.students.course import Course
    from experiments.students.teaching import CHECKPOINT, NotANumber, teach

    course = Course(config, recipe)
    note(course.cost())
    pupil = course.pupil(out / CHECKPOINT)
    held = course.held_out()
    try:
        teach(pupil, course.teacher, course.sentences(pupil), Diary(recipe, out, pupil, held).write)
    except NotANumber as error:
        complain(f"{error}; lower recipe.lr (now {recipe.lr:g}) and begin again")
        return EXIT_JOB_FAILED
    left(course, pupil, out)
    return EXIT_OK


class Diary:
    """A line every recipe.every updates: loss, held-out loss, time; with each a checkpoint."""

    def __init__(self, recipe: Recipe, out: Path, pupil: Pupil, held: Sequence[HeldOut]):
        from experiments.students.teaching import held_out_loss

        self._recipe, self._out, self._held, self._loss = recipe, out, held, held_out_loss
        log = out / LOG  # not there where the last run ended between its checkpoint and its line
        self._lines = log.read_text(encoding="utf-8").splitlines() if pupil.update and log.exists() else []
        self._mean: float | None = None
        self._started, self._begun = time.monotonic(), pupil.update
        before = held_out_loss(pupil.average, held)
        note(f"held out: {before:.4f} at update {pupil.update} of {recipe.updates}, on {len(held)} states")

    def write(self, pupil: Pupil, loss: float) -> None:
        from experiments.students.teaching import CHECKPOINT

        self._mean = loss if self._mean is None else 0.98 * self._mean + 0.02 * loss
        if pupil.update % self._recipe.every and pupil.update != self._recipe.updates:
            return
        spent_s = time.monotonic() - self._started
        line = {
            "update": pupil.update, "loss": round(self._mean, 5),
            "held_out": round(self._loss(pupil.average, self._held), 5),
            "update_s": round(spent_s / (pupil.update - self._begun), 3),
        }  # fmt: skip
        self._lines.append(json.dumps(line))
        note(f"update {line['update']} of {self._recipe.updates}: loss {line['loss']}, held out {line['held_out']}, "
             f"{line['update_s']} s an update")  # fmt: skip
        pupil.save(self._out / CHECKPOINT)
        write_atomically(self._out / LOG, "\n".join(self._lines) + "\n")


def left(course: Course, pupil: Pupil, out: Path) -> None:
    """The student's files, and how to speak with it."""
    from engine.weights.checkpoint import content_sha256

    weights, preset = course.write(pupil, out)
    note(f"weights {weights} ({weights.stat().st_size / 1e6:.1f} MB, sha256 {content_sha256(weights)})")
    note(f"preset {preset}: use --config-dir {out} model={preset.stem}")


if __name__ == "__main__":
    sys.exit(run_verb(main))
