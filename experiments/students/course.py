"""A composed experiment and a recipe -> teacher, student, sentences: everything that is taught with, and what is left
of it: the student's weights and its preset."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save

from engine.clock import make_clock
from engine.contract import ConfigError, SynthesisRequest
from engine.frontend import FrontEnd
from engine.mel import mel_transform
from engine.paths import find_file
from engine.settings import ModelSettings
from engine.solver.methods import solver_spec
from engine.weights.checkpoint import content_sha256, load_model
from engine.weights.compact import compact
from experiments.common.cli import note
from experiments.common.environment import num_threads
from experiments.common.estimate import product_flop_per_s
from experiments.common.plain import Config
from experiments.measuring.engines import build_by_name
from experiments.pocket.text import words_of
from experiments.students.depth import drop_blocks, keep
from experiments.students.lessons import Sentences, swayed
from experiments.students.material import texts_of, voices_of
from experiments.students.network import Given, full_state, guided_velocity, network, num_parameters
from experiments.students.settings import Recipe
from experiments.students.teaching import HeldOut, Pupil, held_out_states
from experiments.workload.requests import load_workload
from metrics.record import to_json, write_atomically, write_bytes_atomically
from metrics.speed.roofline import Dit, rows_of

PROMPT_WORDS = range(4, 8)
LOOKED_AT = 10_000  # texts, until a short one is given up
HELD_OUT_TIMES = (*(swayed(i / 6) for i in range(6)), 1.0)
INFLUENCE_SENTENCES = 4
# Bytes a weight: the teacher's; the student's, its gradient, both moments of AdamW, the moving average
TEACHER_BYTES, STUDENT_BYTES = 4, 5 * 4
BACKWARD = 3  # forward and backward of the student, in forwards
KEPT_PER_BLOCK = 30  # activations that upstream's block keeps for its gradient, in widths of a frame: counted


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one update, predicted. s is None on a GPU, whose rate nothing here knows."""

    num_bytes: float
    s: float | None

    def __str__(self) -> str:
        time = "a time that only this GPU knows" if self.s is None else f"about {self.s:.2f} s"
        return f"an update takes {time} on a quiet machine and {self.num_bytes / 2**30:.2f} GiB"


class Course:
    """Raises ConfigError or UnsupportedEngine for a teacher that cannot teach."""

    def __init__(self, config: Config, recipe: Recipe):
        self._config, self._recipe, self._device = config, recipe, str(config["device"]["kind"])
        torch.set_num_threads(max(1, num_threads(config["device"]) // 2))  # the student's and the teacher's thread
        self._model, self._loaded = config["model"], load_model(config["model"])
        self._teacher = network(self._model, self._loaded).eval().requires_grad_(False).to(self._device)
        self._strength = solver_spec(config["solver"]).cfg_strength
        self._frontend = FrontEnd(
            self._loaded.vocabulary, mel_transform(self._model), self._model["sample_rate_hz"],
            self._model["hop_samples"],
        )  # fmt: skip
        self._requests = load_workload(config).requests
        self._voices = voices_of(config, recipe)
        self._student_model: ModelSettings = self._model
        if recipe.blocks is not None:
            self._student_model = {**self._model, "arch": {**self._model["arch"], "depth": recipe.blocks}}

    def teacher(self, given: Given, x: torch.Tensor, t: float) -> torch.Tensor:
        return guided_velocity(self._teacher, given, x, t, self._strength)

    def pupil(self, checkpoint: Path) -> Pupil:
        """The student as the checkpoint has it; where there is none, before its first update: with the teacher's
        weights, or recipe.init's, blocks left out."""
        recipe, loaded = self._recipe, self._loaded
        if recipe.init is not None:
            loaded = load_model({**self._model, "checkpoint": recipe.init})
        student, seed = network(self._model, loaded).to(self._device), self._config["seed"]
        depth = self._model["arch"]["depth"]
        if recipe.blocks is not None and recipe.blocks >= depth:
            raise ConfigError("recipe.blocks", recipe.blocks, f"the teacher has {depth} blocks", "keep fewer")
        made_of = self._made_of()
        if checkpoint.exists():
            keep(student, list(student.transformer_blocks)[: recipe.blocks])  # whichever: their weights are read
            pupil = Pupil(student, recipe, seed, made_of)
            pupil.load(checkpoint)
            return pupil
        if recipe.blocks is not None:
            kept = drop_blocks(student, self._influence_states(seed), recipe.blocks, note)
            note(f"kept: blocks {', '.join(map(str, kept))} of {depth}")
        return Pupil(student, recipe, seed, made_of)

    def _made_of(self) -> dict[str, str]:
        """What decides the weights beside the recipe's own numbers."""
        recipe = self._recipe
        files = {"recipe.init": recipe.init, "recipe.texts": recipe.texts, "recipe.data": recipe.data}
        return {
            "model.checkpoint": self._loaded.sha256, "model.arch": to_json(self._model["arch"]),
            "solver.cfg_strength": f"{self._strength:g}", "seed": str(self._config["seed"]),
            "workload": load_workload(self._config).identity_sha256,
            **{f"content of {key}": _content(path) for key, path in files.items() if path is not None},
        }  # fmt: skip

    def cost(self) -> Cost:
        """Of one update, from counted arithmetic and this machine's products."""
        recipe, frames = self._recipe, self._mean_frames()
        rows = rows_of(self._strength)
        teacher, student = Dit.of(self._model), Dit.of(self._student_model)
        asked = recipe.teacher_steps * teacher.evaluation_flop(frames, rows)
        flop = recipe.paths * (asked + BACKWARD * student.evaluation_flop(frames, 1))
        weights = num_parameters(self._loaded.state)
        own = weights * (student.depth * student.block_weights) / (teacher.depth * teacher.block_weights)
        kept = 4 * frames * student.dim * KEPT_PER_BLOCK * student.depth
        on_cpu = self._device == "cpu"
        return Cost(
            TEACHER_BYTES * weights + STUDENT_BYTES * own + kept, flop / product_flop_per_s() if on_cpu else None
        )

    def _mean_frames(self) -> int:
        lengths = [given.num_frames for given in self._held_out_sentences()]
        return round(sum(lengths) / len(lengths))

    def sentences(self, pupil: Pupil) -> Sentences:
        voices = self._voices * max(1, self._recipe.prompts)  # as often as what was spoken with them
        return self._sentences([*voices, *self._prompts()], self._texts(pupil.rng))

    def held_out(self) -> list[HeldOut]:
        """States on the paths of sentences of the workload."""
        return held_out_states(
            self.teacher, self._held_out_sentences(), HELD_OUT_TIMES, self._recipe.teacher_steps
        )  # fmt: skip

    def _held_out_sentences(self) -> list[Given]:
        """Evenly drawn from the workload."""
        number = min(self._recipe.held_out, len(self._requests))
        chosen = [self._requests[i * len(self._requests) // number] for i in range(number)]
        found = [self._sentences([], iter(())).given(request, request.text) for request in chosen]
        usable = [given for given in found if given is not None]
        if not usable:
            raise ConfigError("workload", len(found), "sentences are all cut into chunks", "choose shorter ones")
        return usable

    def _influence_states(self, seed: int) -> list[HeldOut]:
        """Of sentences that are trained on: the held-out ones decide nothing."""
        rng = random.Random(seed)
        source = self._sentences(self._voices, self._texts(rng))
        drawn = [source.draw(rng) for _ in range(INFLUENCE_SENTENCES)]
        return held_out_states(self.teacher, drawn, HELD_OUT_TIMES, 1)

    def _sentences(self, voices: Sequence[SynthesisRequest], texts: Iterator[str]) -> Sentences:
        target_rms = self._config["reference"]["target_rms"]
        return Sentences(self._frontend, voices, texts, self._recipe, target_rms, self._device)

    def _texts(self, rng: random.Random) -> Iterator[str]:
        return texts_of(self._recipe, [request.text for request in self._requests], rng)

    def _prompts(self) -> list[SynthesisRequest]:
        """Short sentences in the teacher's own voice, so that references differ in what they say."""
        if self._recipe.prompts == 0:
            return []
        texts = self._texts(random.Random(self._config["seed"]))
        short = itertools.cycle(
            text for text in itertools.islice(texts, LOOKED_AT) if len(words_of(text)) in PROMPT_WORDS
        )
        note(f"the teacher speaks {self._recipe.prompts} references a voice")
        found: list[SynthesisRequest] = []
        with build_by_name(self._config, make_clock(self._device)) as engine:
            for voice in self._voices:
                for text in itertools.islice(short, self._recipe.prompts):
                    spoken = engine.synthesize([replace(voice, utterance_id=text, text=text)])[0]
                    rate_hz = spoken.sample_rate_hz
                    found.append(replace(voice, ref_audio_S=spoken.audio_S, ref_sample_rate_hz=rate_hz, ref_text=text))
        if not found:
            raise ConfigError(
                "recipe.prompts",
                self._recipe.prompts,
                f"of {LOOKED_AT} texts none has 4 to 7 words",
                "use recipe.prompts=0",
            )
        return found

    def write(self, pupil: Pupil, out: Path) -> tuple[Path, Path]:
        """The moving average, a byte a weight, and the preset of conf/model that names it."""
        name = self._recipe.name
        weights = out / f"{name}.safetensors"
        state = {key: value.cpu() for key, value in full_state(pupil.average).items() if not key.endswith("inv_freq")}
        write_bytes_atomically(weights, save(compact(state)))
        before = self._model.get("student")
        taught = self._strength or (before["taught_cfg_strength"] if before else 0.0)
        student = {
            "teacher": self._model["name"], "teacher_sha256": self._loaded.sha256, "recipe": self._recipe.kind,
            "taught_cfg_strength": taught, "cfg_strength": 0.0,
        }  # fmt: skip
        content: dict[str, Any] = {
            **self._student_model, "name": name, "vocab": _lasting(self._model["vocab"]),
            "checkpoint": str(weights.resolve()), "student": student,
        }  # fmt: skip
        preset = out / "model" / f"{name}.yaml"
        write_atomically(preset, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        return weights, preset


def _content(source: str) -> str:
    """Of a file, or of a folder's list of clips."""
    path = find_file(source)
    return content_sha256(path / "metadata.csv" if path.is_dir() else path)


def _lasting(source: str) -> str:
    """A source that is found from everywhere."""
    return source if source.startswith(("hub:", "f5_tts:", "random:")) else str(find_file(source).resolve())
