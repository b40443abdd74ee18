"""`workload` of a record: which sentences were spoken by which clips (experiments.workload.requests).

The keys that are read, of what kind; others are kept as they are. Records of before lack what came later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict


class SentenceEntry(TypedDict, total=False):
    """One of `utterances`. prompt_sha256: of the clip and its transcript; voice_dc: mean of the clip's samples."""

    id: str
    category: str
    text: str
    voice: str
    prompt_sha256: str
    voice_dc: float


class VoiceEntry(TypedDict, total=False):
    """One of `voices`: what was done to a clip before any engine got it."""

    id: str
    file_s: float
    reference_s: float
    rate_hz: int
    resampler: str
    prepare: Mapping[str, object]
    frontend_s: float
    notes: list[str]
    warnings: list[str]


class Spoken(TypedDict, total=False):
    """reference_s: of the clips, the mean over sentences; generated_s: of all sentences, None before they are spoken.

    chunks_beyond_window_s: by sentence, the seconds of chunks that are longer than upstream's window.
    """

    name: str
    identity_sha256: str
    num_utterances: int
    reference_s: float | None
    generated_s: float | None
    voices: list[VoiceEntry]
    utterances: list[SentenceEntry]
    chunks_beyond_window_s: Mapping[str, list[float]]
