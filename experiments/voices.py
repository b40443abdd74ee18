"""The voices of the `reference` group: clips prepared once for every engine, what was done to them, what is wrong."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.contract import ConfigError
from engine.voice.clip import Clip, Prepare, load_clip, prepare_settings
from engine.voice.recording import check_reference
from engine.voice.resampling import resampler_of
from experiments.compose import ROOT
from experiments.synthetic import RATE_HZ, is_synthetic, seconds_of, synthetic_clip, synthetic_text
from metrics.prompt import level_warnings, silence_warnings, transcript_warnings

USABLE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
NOT_USABLE = "cannot be a file name"
USE_INSTEAD = "use at most 100 letters, digits, _ . -"
VOICE_KEYS = ("id", "audio", "text", "cut_text")
NOT_PREPARED = {"audio": "none", "text": "none"}  # what records say that were made before there was a choice


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Voice:
    """A reference clip as every engine gets it: mono float32 (S,) at rate_hz, its transcript.

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

    @property
    def duration_s(self) -> float:
        return len(self.audio_S) / self.rate_hz

    @property
    def prompt_sha256(self) -> str:
        """Of clip and transcript: what must be equal before two utterances may be paired."""
        return hashlib.sha256(f"{self.content_sha256}\0{self.text}".encode()).hexdigest()

    def describe(self, prepare: Mapping[str, Any], model_rate_hz: int) -> dict[str, Any]:
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


def find_file(spec: str) -> Path:
    """A path as given, else the same path below the repository's root."""
    if "\0" in spec:
        raise ConfigError("path", repr(spec), "holds a zero byte", "write the path of a file")
    path = Path(os.path.expanduser(spec))
    return path if os.path.exists(path) or path.is_absolute() else ROOT / path


def load_voices(reference: Mapping[str, Any]) -> list[Voice]:
    """The clips of the `reference` group. Raises ConfigError or InvalidRequest for what cannot be a voice."""
    entries = reference["voices"]
    if not entries:
        raise ConfigError("reference.voices", entries, "at least one voice is needed", "give id, audio and text of one")
    settings = prepare_settings(reference["prepare"])
    voices = [_voice(entry, settings) for entry in entries]
    _check_ids([voice.voice_id for voice in voices])
    return voices


def load_voices_of_record(config: Mapping[str, Any]) -> list[Voice]:
    """Of a stored run, which may be older than the preparation."""
    return load_voices({"prepare": NOT_PREPARED, **config["reference"]})


def _voice(entry: Mapping[str, Any], settings: Prepare) -> Voice:
    if not isinstance(entry, Mapping):
        raise ConfigError(
            "reference.voices", entry, "a voice has id, audio and text", "write {id: me, audio: .., text: ..}"
        )
    for key in entry:
        if key not in VOICE_KEYS:
            raise ConfigError(f"reference.voices.{key}", entry[key], "no such key", f"use {', '.join(VOICE_KEYS)}")
    voice_id, audio, cut_text = str(entry["id"]), str(entry["audio"]), entry.get("cut_text")
    if is_synthetic(audio):
        return _synthetic_voice(voice_id, audio)
    text = str(entry["text"])
    if not text.strip():
        raise ConfigError(
            "reference.text", repr(text), f"the transcript of voice {voice_id} is empty", "write what the clip says"
        )
    clip = load_clip(find_file(audio), text, None if cut_text is None else str(cut_text), settings)
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
