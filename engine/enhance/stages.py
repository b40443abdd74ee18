"""The `enhance` group -> its forms, in the order of their work; and what of it is refused before anything is built.

A configuration without the group, as older records are, does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.contract import ConfigError, UnsupportedEngine
from engine.settings import EngineConfig, EnhanceSettings

if TYPE_CHECKING:
    from engine.enhance.flow import Stage

NONE = "none"
# In the order of the work: noise first, or it fills the silences; sibilants last, of what is kept
FORMS = ("denoise", "upstream_silence", "adaptive_silence", "deess")
CUTTING = ("upstream_silence", "adaptive_silence")
LEAST_RATE_HZ = 11_025  # below it pydub's empty segment, to which upstream joins its pieces, changes the rate
WHOLE = {
    "denoise": "the noise of an utterance is measured over all of it",
    "upstream_silence": "upstream removes silence from the finished file",
}


def enhancement(config: EngineConfig) -> EnhanceSettings | None:
    """The group where it does something. Raises ConfigError for one that is called none and does, or the reverse."""
    settings = config.get("enhance")
    if settings is None:
        return None
    forms = forms_of(settings)
    if settings["name"] == NONE and not forms:
        return None
    if settings["name"] == NONE or not forms:
        wanted = "needs another name: it has forms" if forms else f"has none of {', '.join(FORMS)}"
        raise ConfigError("enhance.name", settings["name"], wanted, "see conf/enhance")
    return settings


def forms_of(settings: EnhanceSettings) -> list[str]:
    return [form for form in FORMS if settings.get(form)]


def cutting(config: EngineConfig) -> list[str]:
    """The forms that may leave samples out; where there are any, audio is no longer as long as its frames say."""
    settings = enhancement(config)
    return [] if settings is None else [form for form in forms_of(settings) if form in CUTTING]


def check_enhancement(config: EngineConfig) -> None:
    """Raises ConfigError for forms that cannot work at the model's rate."""
    settings, rate_hz = enhancement(config), int(config["model"]["sample_rate_hz"])
    if settings is None:
        return
    if settings.get("upstream_silence") and rate_hz < LEAST_RATE_HZ:
        raise ConfigError(
            "enhance", settings["name"],
            f"upstream's remove_silence brings audio under {LEAST_RATE_HZ} Hz to another rate, and the model has "
            f"{rate_hz}", "use enhance=adaptive_silence",
        )  # fmt: skip
    for key in ("from_hz", "shelf_hz"):
        value = settings.get("deess", {}).get(key)
        if isinstance(value, int | float) and value >= rate_hz / 2:
            raise ConfigError(
                f"enhance.deess.{key}", value, f"must be under half of the model's {rate_hz} Hz",
                f"use enhance.deess.{key}={rate_hz // 4}",
            )  # fmt: skip


def check_streamed(config: EngineConfig) -> None:
    """Raises UnsupportedEngine for a form that a stream cannot have."""
    settings = enhancement(config)
    for form in [] if settings is None else forms_of(settings):
        if form in WHOLE:
            raise cannot_stream(form)


def cannot_stream(form: str) -> UnsupportedEngine:
    return UnsupportedEngine(
        f"{form} cannot be streamed: {WHOLE[form]}", "stream with enhance=adaptive_silence, deess or none"
    )


def stages_of(settings: EnhanceSettings, rate_hz: int) -> tuple[Stage, ...]:
    """At the rate of the audio."""
    return tuple(_stage(form, settings, rate_hz) for form in forms_of(settings))


def _stage(form: str, settings: EnhanceSettings, rate_hz: int) -> Stage:
    """Each form is imported where it is built: who only asks what there is needs none of them."""
    from engine.enhance.flow import Stage, Whole

    if form == "denoise":
        from engine.enhance.denoise import Denoiser

        denoiser = Denoiser(rate_hz, **settings["denoise"])
        return Stage(form, lambda: Whole(denoiser))
    if form == "upstream_silence":
        from engine.enhance.upstream_silence import remove_silence

        return Stage(form, lambda: Whole(lambda audio_S: remove_silence(audio_S, rate_hz)))
    if form == "adaptive_silence":
        from engine.enhance.adaptive_silence import AdaptiveSilence

        pause = settings["adaptive_silence"]
        return Stage(form, lambda: AdaptiveSilence(rate_hz, pause["longest_pause_s"], pause["edge_s"]))
    from engine.enhance.deess import Deess, DeessRule, Filters

    filters = Filters(rate_hz, DeessRule(**settings["deess"]))
    return Stage(form, lambda: Deess(filters))


def facts_of_enhancement(settings: EnhanceSettings) -> Mapping[str, object]:
    """Name, and the forms with their keys in the order of the work."""
    found: Mapping[str, object] = settings
    return {"name": settings["name"], **{form: found[form] for form in forms_of(settings)}}
