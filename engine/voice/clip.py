"""A voice as every engine gets it: the file read, prepared as `reference.prepare` says, one channel; and what was done.

Prepared once for all engines, before any of them is built: upstream's command line does the same once a voice, and two
engines that prepared for themselves could differ. What it takes is `frontend_s` of the clip, in the record beside the
trials, whose front end finds the clip prepared.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from engine.contract import ConfigError, InvalidRequest
from engine.settings import PrepareSettings
from engine.voice import preparation
from engine.voice.recording import KEY, Recording, check_reference, mono, read_recording

CHOICES = ("upstream", "none")


@dataclass(frozen=True, slots=True)
class Prepare:
    """`reference.prepare`. audio, text: upstream or none. edge_db, tail_s: of the audio's preparation."""

    audio: str = "upstream"
    text: str = "upstream"
    edge_db: float = preparation.EDGE_DB
    tail_s: float = preparation.TAIL_MS / 1000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Clip:
    """audio_S: mono float32 (S,) at rate_hz, prepared; text: its transcript, prepared. file_sha256: of all bytes.

    file_audio_SC, file_s: the file as it was. notes: what was done to it. frontend_s: seconds from the file to this.
    """

    audio_S: np.ndarray
    rate_hz: int
    text: str
    file_sha256: str
    file_audio_SC: np.ndarray
    file_s: float
    notes: tuple[str, ...]
    frontend_s: float

    @property
    def sha256(self) -> str:
        """Of the samples and their rate."""
        return hashlib.sha256(f"{self.rate_hz}\0".encode() + self.audio_S.tobytes()).hexdigest()


def prepare_settings(given: PrepareSettings) -> Prepare:
    """Raises ConfigError for a key or value that `reference.prepare` does not have."""
    names = tuple(Prepare.__dataclass_fields__)
    for name, value in given.items():
        if name not in names:
            raise ConfigError(f"reference.prepare.{name}", value, "no such key", f"the keys are {', '.join(names)}")
    settings = Prepare(**given)
    for name, choice in (("audio", settings.audio), ("text", settings.text)):
        if choice not in CHOICES:
            allowed = f"must be one of {', '.join(CHOICES)}"
            raise ConfigError(f"reference.prepare.{name}", choice, allowed, f"use reference.prepare.{name}=upstream")
    for name, number, least, most in (("edge_db", settings.edge_db, -120, 0), ("tail_s", settings.tail_s, 0, 1)):
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not least <= number <= most:
            allowed = f"must be a number from {least} to {most}"
            raise ConfigError(f"reference.prepare.{name}", number, allowed, "leave upstream's value")
    return settings


def load_clip(path: Path, text: str, cut_text: str | None, settings: Prepare) -> Clip:
    """text: what the file says. cut_text: what is left of it where the preparation cuts speech off, else None.

    Raises InvalidRequest for audio that cannot be a voice, and where speech is cut off and cut_text is not given: with
    the whole clip's transcript beside a part of the clip, every sentence would get the wrong length.
    """
    try:
        found = path.stat()
    except OSError:
        read_recording(path)  # which says what is wrong with it
        raise
    return _loaded(path.absolute(), (found.st_size, found.st_mtime_ns), text, cut_text, settings)


@lru_cache(maxsize=16)
def _loaded(path: Path, stamp: tuple[int, int], text: str, cut_text: str | None, settings: Prepare) -> Clip:
    """Read once while the file stays as it is: a sweep asks for it at every cell."""
    begin_s = time.perf_counter()
    recording = read_recording(path)
    notes: list[str] = []
    audio_SC, rate_hz = recording.audio_SC, recording.rate_hz
    if settings.audio == "upstream":
        audio_SC, rate_hz, lost = _prepared(recording, settings, path)
        notes += _changes(recording, len(audio_SC) / rate_hz, rate_hz)
        if lost:
            text = _text_of_part(path, recording.duration_s, len(audio_SC) / rate_hz, cut_text)
            notes.append("over 12 s: speech was cut off as upstream does, and cut_text is the transcript")
    audio_S, note = mono(audio_SC)
    notes += [note] if note else []
    check_reference(audio_S, rate_hz, f"{path} as upstream prepares it" if settings.audio == "upstream" else str(path))
    if settings.text == "upstream" and text.strip():
        text = preparation.prepare_text(text)
    return Clip(
        audio_S=audio_S, rate_hz=rate_hz, text=text, file_sha256=recording.file_sha256,
        file_audio_SC=recording.audio_SC, file_s=recording.duration_s, notes=tuple(notes),
        frontend_s=time.perf_counter() - begin_s,
    )  # fmt: skip


def _prepared(recording: Recording, settings: Prepare, path: Path) -> tuple[np.ndarray, int, bool]:
    tail_ms = round(1000 * settings.tail_s)
    cut = preparation.prepare_audio(recording.pcm(), settings.edge_db, tail_ms)
    if cut.clip.num_ms <= tail_ms:
        raise InvalidRequest(
            KEY, path, f"the audio is silent to upstream: nothing in it is over {settings.edge_db:g} dB of full scale",
            "record again with a working microphone, or make it louder",
        )  # fmt: skip
    return cut.clip.audio_SC, cut.clip.rate_hz, cut.lost_sound


def _changes(recording: Recording, kept_s: float, rate_hz: int) -> list[str]:
    found = [f"prepared as upstream: {recording.duration_s:.2f} s of file, {kept_s:.2f} s of reference"]
    if rate_hz != recording.rate_hz:
        found.append(
            f"brought from {recording.rate_hz} to {rate_hz} Hz by straight lines, as upstream's preparation does"
        )
    return found


def _text_of_part(path: Path, file_s: float, kept_s: float, cut_text: str | None) -> str:
    if cut_text is None:
        raise InvalidRequest(
            KEY, path, f"{file_s:.2f} s long: upstream keeps {kept_s:.2f} s, and the transcript is that of the whole",
            "cut it (experiments.trim_reference does), or give the words that upstream keeps as the voice's cut_text",
        )  # fmt: skip
    return cut_text
