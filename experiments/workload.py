"""Which sentences are spoken by which voice: conf/texts + conf/reference -> requests and their identity.

Voices alternate over the full list of texts, so choosing a subset never changes who speaks a sentence.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from engine.checkpoint import is_random
from engine.contract import ConfigError, SynthesisRequest
from experiments.compose import CONF
from experiments.synthetic import is_synthetic
from experiments.voices import NOT_USABLE, USABLE_ID, USE_INSTEAD, Voice, find_file, load_voices
from metrics.record import to_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One entry of a texts file, with the position in the full list that decides its voice."""

    utterance_id: str
    category: str
    text: str
    position: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Workload:
    """Requests in the order of the texts file, beside what each is and who speaks it. prepare: as in the reference
    group."""

    name: str
    lines: tuple[Line, ...]
    voices: tuple[Voice, ...]
    requests: tuple[SynthesisRequest, ...]
    identity_sha256: str
    prepare: Mapping[str, Any]
    model_rate_hz: int

    @property
    def speakers(self) -> tuple[Voice, ...]:
        """Each voice once, in the order in which they first speak."""
        return tuple({voice.voice_id: voice for voice in self.voices}.values())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the clips, a sentence each."""
        return tuple(text for voice in self.speakers for text in voice.warnings)

    def describe(self) -> dict[str, Any]:
        """RunRecord.workload before anything is spoken: `generated_s` is still null."""
        return {
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
        prepare=config["reference"]["prepare"],
        model_rate_hz=int(config["model"]["sample_rate_hz"]),
    )


def select_lines(workload: Mapping[str, Any]) -> list[Line]:
    """The lines that `texts`, `select` and `limit` name, in the order of the file."""
    lines = _all_lines(workload["texts"])
    selected = workload["select"]
    if selected is not None:
        lines = _chosen(lines, selected)
    limit = workload["limit"]
    if limit is not None:
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise ConfigError("workload.limit", limit, "must be a whole number from 1, or null", "use null for all")
        lines = lines[:limit]
    return lines


def _chosen(lines: Sequence[Line], selected: Any) -> list[Line]:
    if not isinstance(selected, list) or not selected:
        raise ConfigError("workload.select", selected, "must be a list of ids, or null", "write workload.select=[en01]")
    known = [line.utterance_id for line in lines]
    wanted = [str(name) for name in selected]
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:3]
            raise ConfigError(
                "workload.select", name, f"no such id in this text list ({known[0]} to {known[-1]})",
                f"near it: {', '.join(near)}",
            )  # fmt: skip
    return [line for line in lines if line.utterance_id in wanted]


def _all_lines(texts: Any) -> list[Line]:
    """Of one list, or of several one after the other: positions run on."""
    if not isinstance(texts, list):
        return _read_lines(str(texts))
    lines = [line for name in texts for line in _read_lines(str(name))]
    _check_ids(", ".join(map(str, texts)), lines)
    return [replace(line, position=i) for i, line in enumerate(lines)]


def _read_lines(texts: str) -> list[Line]:
    is_path = "/" in texts or texts.endswith((".yaml", ".yml"))
    path = find_file(texts) if is_path else CONF / "texts" / f"{texts}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(known.stem for known in (CONF / "texts").glob("*.yaml")))
        raise ConfigError("workload.texts", texts, "no such text list", f"use one of {names}, or a path to a YAML file")
    stat = path.stat()
    return list(_parsed_lines(texts, path.resolve(), stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=8)
def _parsed_lines(texts: str, path: Path, num_bytes: int, mtime_ns: int) -> tuple[Line, ...]:
    """Read once while the file stays as it is: a sweep asks for it at every cell."""
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
        entries = content["utterances"]
        lines = [
            Line(utterance_id=str(entry["id"]), category=str(entry["category"]), text=str(entry["text"]), position=i)
            for i, entry in enumerate(entries)
        ]
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ConfigError(
            "workload.texts", texts, f"not a text list ({' '.join(str(error).split())})",
            "write `utterances: [{id: a1, category: short, text: ...}]`",
        ) from error  # fmt: skip
    _check_ids(texts, lines)
    return tuple(lines)


def _check_ids(texts: str, lines: Sequence[Line]) -> None:
    if not lines:
        raise ConfigError("workload.texts", texts, "holds no utterances", "write at least one")
    seen: set[str] = set()
    for line in lines:
        if not USABLE_ID.fullmatch(line.utterance_id):
            raise ConfigError("workload.texts", texts, f"id {line.utterance_id!r} {NOT_USABLE}", USE_INSTEAD)
        if line.utterance_id.casefold() in seen:  # letters of either case are one file on many disks
            raise ConfigError("workload.texts", texts, f"id {line.utterance_id} occurs twice", "give each its own id")
        seen.add(line.utterance_id.casefold())


def _refuse_synthetic_speech(config: Mapping[str, Any]) -> None:
    """A clip that nobody spoke measures speed on drawn weights, nothing else."""
    made_up = [str(entry["audio"]) for entry in config["reference"]["voices"] if is_synthetic(str(entry["audio"]))]
    if made_up and not is_random(config["model"]["checkpoint"]):
        raise ConfigError(
            "reference.voices", made_up[0], "a made-up clip is no voice for trained weights",
            "use model=f5tts_v1_base_random vocoder=vocos_random, or a recorded clip",
        )  # fmt: skip


def _identity(lines: Sequence[Line], voices: Sequence[Voice], config: Mapping[str, Any]) -> str:
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
    }
    return hashlib.sha256(to_json(key).encode()).hexdigest()
