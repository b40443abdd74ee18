"""Which run quality is compared with, as a function of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import cast

from engine.contract import ConfigError
from engine.settings import ModelSettings, SolverSettings, VocoderSettings
from engine.weights.checkpoint import is_random
from experiments.common.plain import Config, as_plain
from experiments.settings.compose import compose_config, options
from metrics.fidelity.catalog import PAIR_FAMILIES
from metrics.record import to_json

ENGINE, SOLVER = "fp32", "euler_32"


LABEL = f"{ENGINE}-{SOLVER}"


SHARED_KEYS = ("model", "vocoder", "workload", "reference", "seed", "text")


OWN = "own"


VOCODER_RUNTIME = ("runtime", "precision", "inductor")


@lru_cache(maxsize=1)
def _groups() -> tuple[Mapping[str, object], SolverSettings]:
    config = compose_config([f"engine={ENGINE}", f"solver={SOLVER}"])
    return config["engine"], config["solver"]


def reference_config(config: Config) -> Config:
    """What the reference of a configuration is made with: its guidance strength, but fp32, 32 euler steps, the
    reference model, and the vocoder without a runtime or a precision of its own."""
    engine, solver = _groups()
    vocoder = config["vocoder"]
    if any(key in vocoder for key in VOCODER_RUNTIME):
        plain = {key: value for key, value in vocoder.items() if key not in VOCODER_RUNTIME}
        vocoder = cast(VocoderSettings, {**plain, "name": vocoder["kind"]})
    return {
        **config, "engine": dict(engine), "solver": {**solver, "cfg_strength": reference_strength(config)},
        "model": reference_model(config), "vocoder": vocoder,
    }  # fmt: skip


def reference_strength(config: Config) -> float:
    """The variant's own guidance, or the one that a student was taught where its reference is no student."""
    own, student = config["solver"]["cfg_strength"], config["model"].get("student")
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
    return all(ours[group] == wanted[group] for group in ("engine", "solver", "model", "vocoder"))


def needs_reference(config: Config) -> bool:
    """Random weights and disabled scores have nothing to compare."""
    models = config["model"], reference_model(config), config["vocoder"]
    sources = [str(part["checkpoint"]) for part in models]
    wanted = [family for family in config["quality"]["metrics"] if family in (*PAIR_FAMILIES, "speaker")]
    return bool(config["quality"]["enabled"] and wanted and not any(map(is_random, sources)))


def reference_key(config: Config) -> str:
    """Equal for configurations that one reference serves."""
    wanted = as_plain(reference_config(config))
    content = {key: wanted.get(key) for key in SHARED_KEYS}
    strength, device = reference_strength(config), config["device"]["kind"]
    return to_json([content, strength, device, config["quality"]["reference_dir"]])
