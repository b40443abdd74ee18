"""Which sentences are spoken by which voice: conf/texts + conf/reference -> requests and their identity.

Voices alternate over the full list of texts, so choosing a subset never changes who speaks a sentence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.contract import ConfigError, SynthesisRequest
from engine.text.chunks import beyond_window, chunk_bound
from engine.weights.checkpoint import is_random
from experiments.common.plain import Config
from experiments.workload.texts import Line, select_lines
from experiments.workload.voices import Voice, load_voices, written_voices
from metrics.fidelity.artefacts import offset_of
from metrics.parts.spoken import Spoken
from metrics.record import to_json


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Workload:
    """Requests in the order of the texts file, beside what each is and who speaks it. prepare: as in the reference
    group."""

    name: str
    lines: tuple[Line, ...]
    voices: tuple[Voice, ...]
    requests: tuple[SynthesisRequest, ...]
    identity_sha256: str
    prepare: Mapping[str, object]
    model_rate_hz: int
    max_chunk_s: float | None = None

    @property
    def speakers(self) -> tuple[Voice, ...]:
        """Each voice once, in the order in which they first speak."""
        return tuple({voice.voice_id: voice for voice in self.voices}.values())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the clips, a sentence each."""
        return tuple(text for voice in self.speakers for text in voice.warnings)

    @property
    def voice_dc(self) -> dict[str, float]:
        """Mean of the clip that speaks each sentence, by utterance id."""
        return {
            request.utterance_id: 0.0 if request.style else offset_of(request.ref_audio_S) for request in self.requests
        }

    def describe(self) -> Spoken:
        """RunRecord.workload before anything is spoken: `generated_s` is still null.

        chunks_beyond_window_s, where there are any: by sentence, the seconds of chunks beyond upstream's window."""
        cloned = [request for request in self.requests if not request.style]
        long = {request.utterance_id: beyond_window(request, self.max_chunk_s) for request in cloned}
        beyond = {name: [round(length, 2) for length in seconds] for name, seconds in long.items() if seconds}
        voice_dc = self.voice_dc
        said: Spoken = {
            "name": self.name,
            "identity_sha256": self.identity_sha256,
            "num_utterances": len(self.lines),
            "reference_s": sum(voice.duration_s for voice in self.voices) / len(self.voices),
            "generated_s": None,
            "voices": [voice.describe(self.prepare, self.model_rate_hz) for voice in self.speakers],
            "utterances": [
                {
                    "id": line.utterance_id,
                    "category": line.category,
                    "text": line.text,
                    "voice": voice.voice_id,
                    "prompt_sha256": voice.prompt_sha256,
                    "voice_dc": voice_dc[line.utterance_id],
                }
                for line, voice in zip(self.lines, self.voices, strict=True)
            ],
        }
        return {**said, "chunks_beyond_window_s": beyond} if beyond else said


def load_workload(config: Config) -> Workload:
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
            style=voice.style,
        )
        for line, voice in zip(lines, voices, strict=True)
    )
    return Workload(
        name=str(config["workload"]["name"]),
        lines=tuple(lines),
        voices=voices,
        requests=requests,
        identity_sha256=_identity(lines, voices, config),
        prepare=config["reference"]["prepare"],
        model_rate_hz=int(config["model"]["sample_rate_hz"]),
        max_chunk_s=chunk_bound(config),
    )


def _refuse_synthetic_speech(config: Config) -> None:
    """A clip that nobody spoke measures speed on drawn weights, nothing else."""
    made_up = [entry.audio for entry in written_voices(config["reference"]) if entry.text is None]
    if made_up and not is_random(config["model"]["checkpoint"]):
        raise ConfigError(
            "reference.voices", made_up[0], "a made-up clip is no voice for trained weights",
            "use model=f5tts_v1_base_random vocoder=vocos_random, or a recorded clip",
        )  # fmt: skip


def _identity(lines: Sequence[Line], voices: Sequence[Voice], config: Config) -> str:
    """What must match before two runs spoke the same: hash over texts, prepared clips, transcripts, seed, speed,
    hop."""
    spoken = [
        [line.utterance_id, line.text, voice.content_sha256, voice.text]
        for line, voice in zip(lines, voices, strict=True)
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
