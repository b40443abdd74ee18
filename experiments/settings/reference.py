"""Which run quality is compared with, as a function of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import cast

from engine.contract import ConfigError
from engine.enhance.stages import enhancement
from engine.families.family import family_of
from engine.settings import ModelSettings, VocoderSettings
from engine.weights.checkpoint import is_random
from experiments.common.plain import Config, as_plain
from experiments.common.presets import presets as options
from experiments.settings.compose import compose_config, names_of
from metrics.fidelity.catalog import PAIR_FAMILIES
from metrics.record import to_json

SHARED_KEYS = ("model", "vocoder", "workload", "reference", "seed", "text")


OWN = "own"


VOCODER_RUNTIME = ("runtime", "precision", "inductor")


@lru_cache(maxsize=8)
def _composed(overrides: tuple[str, ...]) -> Config:
    return compose_config(overrides)


def reference_config(config: Config) -> Config:
    """What the reference of a configuration is made with: its guidance strength, but the engine and solver of its
    family (of F5-TTS fp32 and 32 euler steps), the reference model, the vocoder without a runtime or a precision of its
    own, and nothing done to the sound after it."""
    wanted = _composed(family_of(config["model"]).REFERENCE)
    engine, solver, vocoder = wanted["engine"], wanted["solver"], config["vocoder"]
    strength = reference_strength(config)
    if strength is not None:
        solver = {**solver, "cfg_strength": strength}
    if any(key in vocoder for key in VOCODER_RUNTIME):
        plain = {key: value for key, value in vocoder.items() if key not in VOCODER_RUNTIME}
        vocoder = cast(VocoderSettings, {**plain, "name": vocoder["kind"]})
    found: Config = {
        **config, "engine": dict(engine), "solver": solver,
        "model": reference_model(config), "vocoder": vocoder,
    }  # fmt: skip
    found.pop("enhance", None)
    return found


def reference_label(config: Config) -> str:
    """ENGINE-SOLVER of the reference; ENGINE alone where there is no solver."""
    return "-".join(names_of(reference_config(config)))


def reference_strength(config: Config) -> float | None:
    """The variant's own guidance, or the one that a student was taught where its reference is no student; None where
    there is no solver."""
    own, student = config["solver"].get("cfg_strength"), config["model"].get("student")
    return own if not student or reference_model(config).get("student") else student["taught_cfg_strength"]


def reference_model(config: Config) -> ModelSettings:
    """The `model` group that quality is compared with, see quality.reference_model. Raises ConfigError."""
    stated = config["quality"].get("reference_model")
    if stated is None or stated == OWN:
        return config["model"]
    if isinstance(stated, Mapping):
        return cast(ModelSettings, stated)
    if stated not in options("model"):
        raise ConfigError(
            "quality.reference_model", stated, f"must be {OWN}, null or one of {', '.join(options('model'))}",
            "name a file of conf/model",
        )  # fmt: skip
    return compose_config([f"model={stated}"])["model"]


def is_own_model(config: Config) -> bool:
    """Whether quality is compared with the very model that speaks."""
    return reference_model(config) == config["model"]


def is_reference(config: Config) -> bool:
    """Whether a configuration is its own reference."""
    if config["quality"]["reference_dir"] is not None:
        return False
    ours, wanted = as_plain(config), as_plain(reference_config(config))
    same = all(ours[group] == wanted[group] for group in ("engine", "solver", "model", "vocoder"))
    return same and enhancement(config) is None


def needs_reference(config: Config) -> bool:
    """Random weights and disabled scores have nothing to compare."""
    models = config["model"], reference_model(config), config["vocoder"]
    sources = [str(part.get("checkpoint")) for part in models]
    wanted = [family for family in config["quality"]["metrics"] if family in (*PAIR_FAMILIES, "speaker")]
    return bool(config["quality"]["enabled"] and wanted and not any(map(is_random, sources)))


def reference_key(config: Config) -> str:
    """Equal for configurations that one reference serves."""
    wanted = as_plain(reference_config(config))
    content = {key: wanted.get(key) for key in SHARED_KEYS}
    strength, device = reference_strength(config), config["device"]["kind"]
    return to_json([content, strength, device, config["quality"]["reference_dir"]])
