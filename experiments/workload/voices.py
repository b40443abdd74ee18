"""The voices of the `reference` group: clips prepared once for every engine, what was done to them, what is wrong."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.contract import ConfigError, InvalidRequest
from engine.paths import find_file, missing
from engine.settings import PrepareSettings, ReferenceSettings
from engine.voice.clip import Clip, Prepare, load_clip, prepare_settings
from engine.voice.recording import GOOD, check_reference
from engine.voice.resampling import resampler_of
from experiments.common.plain import Config
from experiments.common.written import NotWritten, checked_text, refuse_unwritten
from experiments.workload.synthetic import RATE_HZ, is_synthetic, seconds_of, synthetic_clip, synthetic_text
from metrics.fidelity.prompt import level_warnings, silence_warnings, transcript_warnings
from metrics.parts.spoken import VoiceEntry

USABLE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
NOT_USABLE = "cannot be a file name"
USE_INSTEAD = "use at most 100 letters, digits, _ . -"
NEEDED_KEYS = ("id", "audio", "text")
VOICE_KEYS = (*NEEDED_KEYS, "cut_text")
STYLE_KEYS = ("id", "style")
NOT_PREPARED: PrepareSettings = {
    "audio": "none",
    "text": "none",
}  # what records say that were made before there was a choice


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Voice:
    """A reference clip as every engine gets it: mono float32 (S,) at rate_hz, its transcript. style: the name of one of
    the model's own voices, which has neither.

    file_sha256: of the file's bytes. content_sha256: of what is spoken from: the file where nothing was done to it,
    else the prepared samples. file_s: seconds of the file. frontend_s: what reading and preparing it took.
    """

    voice_id: str
    audio_S: np.ndarray
    rate_hz: int
    text: str
    file_sha256: str
    content_sha256: str
    file_s: float
    frontend_s: float = 0.0
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    style: str = ""

    @property
    def duration_s(self) -> float:
        return len(self.audio_S) / self.rate_hz

    @property
    def prompt_sha256(self) -> str:
        """Of clip and transcript: what must be equal before two utterances may be paired."""
        return hashlib.sha256(f"{self.content_sha256}\0{self.text}".encode()).hexdigest()

    def describe(self, prepare: Mapping[str, object], model_rate_hz: int) -> VoiceEntry:
        """For RunRecord.workload: reference_s is of the clip as the engines get it."""
        return {
            "id": self.voice_id,
            "file_s": self.file_s,
            "reference_s": self.duration_s,
            "rate_hz": self.rate_hz,
            "resampler": resampler_of(self.rate_hz, model_rate_hz),
            "prepare": dict(prepare),
            "frontend_s": self.frontend_s,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenVoice:
    """An entry of `reference.voices` as it is written. text: None for a made-up clip, which has its own. style: of a
    model's own voice, which has no clip."""

    voice_id: str
    audio: str
    text: str | None
    cut_text: str | None
    style: str | None = None


def written_voices(reference: ReferenceSettings) -> list[WrittenVoice]:
    """The entries of `reference.voices`. Raises ConfigError for what was taken for something else than text."""
    entries = reference["voices"]
    if not isinstance(entries, list) or not entries:
        raise ConfigError("reference.voices", entries, "at least one voice is needed", "give id, audio and text of one")
    return [_written_voice(f"reference.voices[{i}]", entry) for i, entry in enumerate(entries)]


def _written_voice(where: str, entry: Any) -> WrittenVoice:
    if isinstance(entry, Mapping) and "style" in entry:
        return _written_style(where, entry)
    example = """write '{id: me, audio: "my file.wav", text: "The words, as spoken."}'"""
    unknown = [key for key in entry if key not in VOICE_KEYS] if isinstance(entry, Mapping) else []
    if unknown:
        raise ConfigError(
            f"reference.voices.{unknown[0]}", entry[unknown[0]], "no such key", f"use {', '.join(VOICE_KEYS)}"
        )
    if not isinstance(entry, Mapping) or not set(NEEDED_KEYS) <= set(entry):
        allowed = "a voice has id, audio and text, may have cut_text, and nothing else"
        if isinstance(entry, Mapping) and entry:
            absent = " and ".join(key for key in NEEDED_KEYS if key not in entry)
            raise ConfigError(where, as_written(entry), f"{absent} is missing: {allowed}", example)
        raise ConfigError(where, entry, allowed, example)
    made_up = isinstance(entry["audio"], str) and is_synthetic(entry["audio"])
    texts: dict[str, str] = {}
    for key in (
        ("id", "audio") if made_up else [key for key in VOICE_KEYS if entry.get(key) is not None or key in NEEDED_KEYS]
    ):
        try:
            texts[key] = checked_text(entry[key], "it")
        except NotWritten as error:
            raise refuse_unwritten(f"{where}.{key}", entry[key], error) from error
    return WrittenVoice(
        voice_id=texts["id"], audio=texts["audio"], text=texts.get("text"), cut_text=texts.get("cut_text")
    )


def as_written(entry: Mapping[str, object]) -> str:
    """{id: me, audio: me.wav}: as a person writes it."""
    return f"{{{', '.join(f'{key}: {value}' for key, value in entry.items())}}}"


def _written_style(where: str, entry: Mapping[str, object]) -> WrittenVoice:
    if set(entry) != set(STYLE_KEYS):
        raise ConfigError(where, as_written(entry), "a model's own voice has id and style alone", "leave out the rest")
    texts = {}
    for key in STYLE_KEYS:
        try:
            texts[key] = checked_text(entry[key], "it")
        except NotWritten as error:
            raise refuse_unwritten(f"{where}.{key}", entry[key], error) from error
    return WrittenVoice(voice_id=texts["id"], audio="", text="", cut_text=None, style=texts["style"])


def load_voices(reference: ReferenceSettings) -> list[Voice]:
    """The clips of the `reference` group. Raises ConfigError or InvalidRequest for what cannot be a voice."""
    settings = prepare_settings(reference["prepare"])
    written = enumerate(written_voices(reference))
    voices = [_voice(f"reference.voices[{i}]", entry, settings) for i, entry in written]
    _check_ids([voice.voice_id for voice in voices])
    return voices


def load_voices_of_record(config: Config) -> list[Voice]:
    """Of a stored run, which may be older than the preparation."""
    return load_voices({"prepare": NOT_PREPARED, **config["reference"]})


def _voice(where: str, entry: WrittenVoice, settings: Prepare) -> Voice:
    voice_id, text = entry.voice_id, entry.text
    if entry.style is not None:
        return _own_voice(voice_id, entry.style)
    if text is None:
        return _synthetic_voice(voice_id, entry.audio)
    if not text.strip():
        raise ConfigError(
            f"{where}.text", repr(text), f"the transcript of voice {voice_id} is empty", "write what the clip says"
        )
    clip = _clip(f"{where}.audio", entry.audio, text, entry.cut_text, settings)
    return Voice(
        voice_id=voice_id,
        audio_S=clip.audio_S,
        rate_hz=clip.rate_hz,
        text=clip.text,
        file_sha256=clip.file_sha256,
        content_sha256=clip.file_sha256 if settings.audio == "none" else clip.sha256,
        file_s=clip.file_s,
        frontend_s=clip.frontend_s,
        notes=clip.notes,
        warnings=_warnings(voice_id, clip),
    )


def _clip(key: str, audio: str, text: str, cut_text: str | None, settings: Prepare) -> Clip:
    """As engine.voice reads it. Raises InvalidRequest that names the key and the file as they were written."""
    path = find_file(audio)
    if not os.path.lexists(path):
        raise InvalidRequest(key, audio, missing(audio), GOOD)
    try:
        return load_clip(path, text, cut_text, settings)
    except InvalidRequest as error:
        raise InvalidRequest(key, audio, error.allowed, error.remedy) from error


def _warnings(voice_id: str, clip: Clip) -> tuple[str, ...]:
    found = [
        *level_warnings(clip.file_audio_SC),
        *silence_warnings(clip.audio_S, clip.rate_hz),
        *transcript_warnings(clip.audio_S, clip.rate_hz, clip.text),
    ]
    return tuple(f"voice {voice_id}: {text}" for text in found)


def _check_ids(ids: list[str]) -> None:
    """Ids key files and scores, and on some disks a capital letter makes no other file."""
    seen: dict[str, str] = {}
    for voice_id in ids:
        if not USABLE_ID.fullmatch(voice_id):
            raise ConfigError("reference.voices", voice_id, f"an id that {NOT_USABLE}", USE_INSTEAD)
        if voice_id.lower() in seen:
            same = f"two voices are called {seen[voice_id.lower()]}"
            raise ConfigError("reference.voices", voice_id, same, "give each voice an id of its own")
        seen[voice_id.lower()] = voice_id


def _own_voice(voice_id: str, style: str) -> Voice:
    """Of the model: no clip. Its name is all that the workload knows; the engine hashes what it stands for."""
    digest = hashlib.sha256(f"style {style}".encode()).hexdigest()
    return Voice(
        voice_id=voice_id, audio_S=np.zeros(0, dtype=np.float32), rate_hz=RATE_HZ, text="", file_sha256=digest,
        content_sha256=digest, file_s=0.0, notes=("the model's own voice: no clip",), style=style,
    )  # fmt: skip


def _synthetic_voice(voice_id: str, audio: str) -> Voice:
    """Made as it has to be, so nothing is prepared."""
    seconds = seconds_of(audio)
    audio_S = synthetic_clip(seconds)
    check_reference(audio_S, RATE_HZ, audio)
    digest = hashlib.sha256(audio_S.tobytes()).hexdigest()
    return Voice(
        voice_id=voice_id, audio_S=audio_S, rate_hz=RATE_HZ, text=synthetic_text(seconds), file_sha256=digest,
        content_sha256=digest, file_s=len(audio_S) / RATE_HZ, notes=("made up: not prepared",),
    )  # fmt: skip
