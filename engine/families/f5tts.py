"""F5-TTS and E2-TTS as a family of models: a solver, a vocoder, a clip that is cloned (engine.families.family)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.clock import Clock
from engine.context import Context, fade_of
from engine.contract import ConfigError
from engine.frontend import unknown_tokens
from engine.mel import check_vocoder
from engine.settings import EngineConfig, ModelSettings
from engine.weights.checkpoint import check_backbone, check_header, content_sha256, is_random, locate, random_seed
from engine.weights.releases import check_release
from engine.weights.vocabulary import read_vocabulary

if TYPE_CHECKING:
    from engine.solver.methods import SolverSpec

NAME = "F5-TTS"
MODELS = "use model=pocket, or another model of F5-TTS, with it"
REFERENCE = ("engine=fp32", "solver=euler_32")
UNREAD: tuple[str, ...] = ()


def validate(config: EngineConfig) -> None:
    """Everything about solver, model, vocoder and reference that can be refused before anything is built."""
    from engine.solver.methods import solver_spec
    from engine.text.chunks import chunk_bound
    from engine.text.streaming import stream_rule

    chunk_bound(config)
    for group in ("solver", "vocoder"):
        if set(config[group]) <= {"name"}:
            raise ConfigError(
                group, config[group].get("name"), f"{NAME} needs one", f"leave {group}= out with this model"
            )
    check_student(config["model"], solver_spec(config["solver"]))
    stream_rule(config["stream"])
    fade_of(config["reference"], config["model"]["sample_rate_hz"])
    _refuse_styles(config)
    model = config["model"]
    check_backbone(model)
    check_vocoder(config["vocoder"], model)
    locate("model.vocab", model["vocab"])
    for key, source in (
        ("model.checkpoint", model["checkpoint"]),
        ("vocoder.checkpoint", config["vocoder"]["checkpoint"]),
    ):
        if is_random(source):
            random_seed(key, source)
        else:
            locate(key, source)
    check_release(model, None if is_random(model["checkpoint"]) else locate("model.checkpoint", model["checkpoint"]))


def check_student(model: ModelSettings, solver: SolverSpec) -> None:
    """Raises ConfigError for guidance of a student that has it in its one row: it would be guided twice."""
    student = model.get("student")
    if student and student["taught_cfg_strength"] > 0 and solver.guided:
        raise ConfigError(
            "solver.cfg_strength", solver.cfg_strength,
            f"model={model['name']} has its teacher's guidance of {student['taught_cfg_strength']:g} in its one row",
            "use solver.cfg_strength=0, which is its default, and a solver that sets none",
        )  # fmt: skip


def _refuse_styles(config: EngineConfig) -> None:
    voices = config["reference"].get("voices")
    named = [entry for entry in voices or () if isinstance(entry, dict) and "style" in entry]
    if named:
        raise ConfigError(
            "reference.voices.style", named[0]["style"], f"{NAME} clones a clip and has no voices of its own",
            "give audio and text of a voice",
        )  # fmt: skip


def use_threads(number: int) -> None:
    import torch

    torch.set_num_threads(number)


def context(config: EngineConfig, clock: Clock) -> Context:
    from engine.solver.methods import solver_spec

    made = Context(config, solver_spec(config["solver"]), clock)
    _prepare_device(made.device)
    fitted, model = made.solver.fitted, config["model"]
    if fitted is not None and not is_random(model["checkpoint"]):  # drawn weights have a speed only
        fitted.check_model(str(model["name"]))
    return made


def _prepare_device(device: str) -> None:
    """What holds for the whole process before an engine is built in it."""
    import torch

    # float32 means float32: convolutions are allowed TF32 by default, and the oracle is made of them
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    if device != "cpu":  # TensorRT and ONNX Runtime take the current device where torch is told one
        torch.cuda.set_device(int(device.partition(":")[2] or 0))


def files(config: EngineConfig) -> dict[str, str]:
    sources = {
        "model.checkpoint": config["model"]["checkpoint"],
        "model.vocab": config["model"]["vocab"],
        "vocoder.checkpoint": config["vocoder"]["checkpoint"],
    }
    return {
        key: source if is_random(source) else content_sha256(locate(key, source)) for key, source in sources.items()
    }


def check_weights(model: ModelSettings) -> None:
    check_header(model)


def text_check(model: ModelSettings) -> Callable[[str, str], None]:
    vocabulary = read_vocabulary(locate("model.vocab", model["vocab"]))

    def check(key: str, text: str) -> None:
        shown = repr(text if len(text) <= 60 else text[:57] + "...")
        if not text.strip():
            raise ConfigError(key, shown, "is empty", "write a sentence")
        unknown = unknown_tokens(text, vocabulary)
        if unknown:
            raise ConfigError(
                key, shown, f"the model's vocabulary lacks {' '.join(map(repr, unknown))}",
                "write it in characters of the vocabulary (numbers as words) or use a model that has them",
            )  # fmt: skip

    return check


def num_evals(config: EngineConfig) -> int:
    from engine.solver.methods import solver_spec

    solver = solver_spec(config["solver"])
    return solver.steps * solver.evals_per_step


def asked(config: EngineConfig) -> dict[str, tuple[str, object]]:
    from engine.solver.methods import solver_spec

    spec = solver_spec(config["solver"])
    return {
        "solver": ("solver", spec.name), "solver.steps": ("steps", spec.steps), "solver.grid": ("time_grid", spec.grid),
        "solver.cfg_strength": ("cfg_strength", spec.cfg_strength),
    }  # fmt: skip
