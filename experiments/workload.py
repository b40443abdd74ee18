"""Which sentences are spoken by which voice: conf/texts + conf/reference -> requests and their identity.

Voices alternate over the full list of texts, so choosing a subset never changes who speaks a sentence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.checkpoint import is_random
from engine.chunks import beyond_window, chunk_bound
from engine.contract import ConfigError, SynthesisRequest
from engine.frontend import check_reference, load_reference
from engine.paths import find_file as find_file
from experiments.synthetic import RATE_HZ, is_synthetic, seconds_of, synthetic_clip, synthetic_text
from experiments.texts import Line, select_lines
from experiments.written import NotWritten, checked_text, refuse_unwritten
from metrics.record import to_json

VOICE_KEYS = ("id", "audio", "text")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Voice:
    """A reference clip: mono float32 (S,) at rate_hz, its transcript, the hash of the file's bytes."""

    voice_id: str
    audio_S: np.ndarray
    rate_hz: int
    text: str
    file_sha256: str

    @property
    def duration_s(self) -> float:
        return len(self.audio_S) / self.rate_hz

    @property
    def prompt_sha256(self) -> str:
        """Of clip and transcript: what must be equal before two utterances may be paired."""
        return hashlib.sha256(f"{self.file_sha256}\0{self.text}".encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Workload:
    """Requests in the order of the texts file, beside what each is and who speaks it."""

    name: str
    lines: tuple[Line, ...]
    voices: tuple[Voice, ...]
    requests: tuple[SynthesisRequest, ...]
    identity_sha256: str
    max_chunk_s: float | None = None

    def describe(self) -> dict[str, Any]:
        """RunRecord.workload before anything is spoken: `generated_s` is still null.

        chunks_beyond_window_s, where there are any: by sentence, the seconds of chunks beyond upstream's window."""
        long = {request.utterance_id: beyond_window(request, self.max_chunk_s) for request in self.requests}
        beyond = {name: [round(length, 2) for length in seconds] for name, seconds in long.items() if seconds}
        return {
            **({"chunks_beyond_window_s": beyond} if beyond else {}),
            "name": self.name,
            "identity_sha256": self.identity_sha256,
            "num_utterances": len(self.lines),
            "reference_s": sum(voice.duration_s for voice in self.voices) / len(self.voices),
            "generated_s": None,
            "utterances": [
                {
                    "id": line.utterance_id,
                    "category": line.category,
                    "text": line.text,
                    "voice": voice.voice_id,
                    "prompt_sha256": voice.prompt_sha256,
                }
                for line, voice in zip(self.lines, self.voices, strict=True)
            ],
        }


def load_workload(config: Mapping[str, Any]) -> Workload:
    """Raises ConfigError or InvalidRequest for unknown ids, unreadable texts and unusable reference audio."""
    lines = select_lines(config["workload"])
    _refuse_synthetic_speech(config)
    clips = load_voices(config["reference"])
    voices = tuple(clips[line.position % len(clips)] for line in lines)
    speed_ratio = float(config["reference"]["speed_ratio"])
    requests = tuple(
        SynthesisRequest(
            utterance_id=line.utterance_id,
            text=line.text,
            ref_audio_S=voice.audio_S,
            ref_sample_rate_hz=voice.rate_hz,
            ref_text=voice.text,
            seed=int(config["seed"]),
            speed_ratio=speed_ratio,
        )
        for line, voice in zip(lines, voices, strict=True)
    )
    return Workload(
        name=str(config["workload"]["name"]),
        lines=tuple(lines),
        voices=voices,
        requests=requests,
        identity_sha256=_identity(lines, voices, config),
        max_chunk_s=chunk_bound(config),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenVoice:
    """An entry of `reference.voices` as it is written. text: None for a made-up clip, which has its own."""

    voice_id: str
    audio: str
    text: str | None


def written_voices(reference: Mapping[str, Any]) -> list[WrittenVoice]:
    """The entries of `reference.voices`. Raises ConfigError for what was taken for something else than text."""
    entries = reference["voices"]
    if not isinstance(entries, list) or not entries:
        raise ConfigError("reference.voices", entries, "at least one voice is needed", "give id, audio and text of one")
    return [_written_voice(f"reference.voices[{i}]", entry) for i, entry in enumerate(entries)]


def _written_voice(where: str, entry: Any) -> WrittenVoice:
    example = """write '{id: me, audio: "my file.wav", text: "The words, as spoken."}'"""
    if not isinstance(entry, Mapping) or set(entry) != set(VOICE_KEYS):
        raise ConfigError(where, entry, f"needs {', '.join(VOICE_KEYS)} and nothing else", example)
    made_up = isinstance(entry["audio"], str) and is_synthetic(entry["audio"])
    texts: dict[str, str] = {}
    for key in ("id", "audio") if made_up else VOICE_KEYS:
        try:
            texts[key] = checked_text(entry[key], "it")
        except NotWritten as error:
            raise refuse_unwritten(f"{where}.{key}", entry[key], error) from error
    return WrittenVoice(voice_id=texts["id"], audio=texts["audio"], text=texts.get("text"))


def load_voices(reference: Mapping[str, Any]) -> list[Voice]:
    """The clips of the `reference` group. Raises InvalidRequest for audio that cannot be a voice."""
    voices = []
    for entry in written_voices(reference):
        if entry.text is None:
            voices.append(_synthetic_voice(entry.voice_id, entry.audio))
            continue
        path, text = find_file(entry.audio), entry.text
        audio_S, rate_hz = load_reference(path)
        if not text.strip():
            raise ConfigError(
                "reference.text",
                repr(text),
                f"the transcript of voice {entry.voice_id} is empty",
                "write what the clip says",
            )
        voices.append(
            Voice(
                voice_id=entry.voice_id,
                audio_S=audio_S,
                rate_hz=rate_hz,
                text=text,
                file_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            )
        )
    return voices


def _synthetic_voice(voice_id: str, audio: str) -> Voice:
    seconds = seconds_of(audio)
    audio_S = synthetic_clip(seconds)
    check_reference(audio_S, RATE_HZ, audio)
    digest = hashlib.sha256(audio_S.tobytes()).hexdigest()
    return Voice(voice_id=voice_id, audio_S=audio_S, rate_hz=RATE_HZ, text=synthetic_text(seconds), file_sha256=digest)


def _refuse_synthetic_speech(config: Mapping[str, Any]) -> None:
    """A clip that nobody spoke measures speed on drawn weights, nothing else."""
    made_up = [entry.audio for entry in written_voices(config["reference"]) if entry.text is None]
    if made_up and not is_random(config["model"]["checkpoint"]):
        raise ConfigError(
            "reference.voices", made_up[0], "a made-up clip is no voice for trained weights",
            "use model=f5tts_v1_base_random vocoder=vocos_random, or a recorded clip",
        )  # fmt: skip


def _identity(lines: Sequence[Line], voices: Sequence[Voice], config: Mapping[str, Any]) -> str:
    """What must match before two runs spoke the same thing: hash over texts, clips, transcripts, seed, speed, hop."""
    spoken = [
        [line.utterance_id, line.text, voice.file_sha256, voice.text] for line, voice in zip(lines, voices, strict=True)
    ]
    key = {
        "spoken": spoken,
        "seed": config["seed"],
        "speed_ratio": float(config["reference"]["speed_ratio"]),
        "sample_rate_hz": config["model"]["sample_rate_hz"],
        "hop_samples": config["model"]["hop_samples"],
        **({} if chunk_bound(config) is None else {"max_chunk_s": chunk_bound(config)}),
    }
    return hashlib.sha256(to_json(key).encode()).hexdigest()
