"""Kokoro-82M as a family of models (engine.families.family): voices of its own, no solver, no vocoder, no noise."""

from __future__ import annotations

from collections.abc import Callable

from engine.clock import Clock
from engine.contract import ConfigError
from engine.kokoro.build import NOT_APPLICABLE, KokoroContext
from engine.kokoro.weights import WHEELS, style_names, voices_sha256, weights_sha256
from engine.settings import EngineConfig, ModelSettings
from engine.weights.checkpoint import locate

NAME = "Kokoro"
MODELS = "use model=kokoro with it"
REFERENCE = ("model=kokoro", "engine=kokoro_fp32")
UNREAD = ("reference.target_rms", "reference.cross_fade_s", "reference.cross_fade")
RATE_HZ = 24000
LANGUAGES = ("en-us", "en-gb", "es", "fr-fr", "it", "pt-br", "hi")  # espeak-ng's names of those it was trained on


def validate(config: EngineConfig) -> None:
    """Raises ConfigError for a solver or a vocoder, for voices that are clips, for files that are not there."""
    from engine.text.chunks import chunk_bound
    from engine.text.streaming import stream_rule

    for group in ("solver", "vocoder"):
        if config[group] != {"name": NOT_APPLICABLE}:
            raise ConfigError(group, config[group].get("name"), f"{NAME} has no {group}", f"leave {group}= out with it")
    if chunk_bound(config) is not None:
        raise ConfigError("text.max_chunk_s", chunk_bound(config), f"{NAME} cuts by phonemes", "use null")
    stream_rule(config["stream"])
    model = config["model"]
    for key in ("checkpoint", "voices"):
        source = str(model.get(key))
        if source != WHEELS:
            locate(f"model.{key}", source)
    if (model["sample_rate_hz"], model["hop_samples"]) != (RATE_HZ, 1):
        raise ConfigError("model.sample_rate_hz", model["sample_rate_hz"], f"{NAME} speaks at {RATE_HZ}", "leave it")
    if model["language"] not in LANGUAGES:
        raise ConfigError("model.language", model["language"], f"must be one of {', '.join(LANGUAGES)}", "use en-us")
    _check_voices(config)


def _check_voices(config: EngineConfig) -> None:
    known = style_names(config["model"])
    for entry in config["reference"]["voices"]:
        style = entry.get("style")
        if style is None:
            raise ConfigError(
                "reference.voices", entry.get("id"), f"{NAME} clones no clip: a voice names one of its own by style",
                "use reference=kokoro_voices",
            )  # fmt: skip
        if style not in known:
            raise ConfigError(
                "reference.voices.style", style, f"must be one of {', '.join(known)}", "or give model.voices=FILE"
            )


def use_threads(number: int) -> None:
    """Its sessions take device.threads themselves."""


def context(config: EngineConfig, clock: Clock) -> KokoroContext:
    return KokoroContext(config, clock)


def files(config: EngineConfig) -> dict[str, str]:
    model = config["model"]
    return {"model.checkpoint": weights_sha256(model), "model.voices": voices_sha256(model)}


def check_weights(model: ModelSettings) -> None:
    """ONNX Runtime refuses what is no graph of Kokoro's when the engine is built."""


def text_check(model: ModelSettings) -> Callable[[str, str], None]:
    def check(key: str, text: str) -> None:
        if not text.strip():
            raise ConfigError(key, repr(text), "is empty", "write a sentence")

    return check


def num_evals(config: EngineConfig) -> int:
    return 1


def asked(config: EngineConfig) -> dict[str, tuple[str, object]]:
    return {}
