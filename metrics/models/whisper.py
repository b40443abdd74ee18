"""Whisper inside the child of metrics.isolation: words of an open vocabulary, or none where nobody speaks.

Whisper makes up words where there is no speech ("You", a phrase without end), and a loop can go on for minutes. So
Silero's detector, which faster-whisper brings, says first whether there is any speech, and words are limited to more
than anybody can say. Both texts go through the field's normaliser: numbers, case, punctuation, spelling.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from metrics.isolation import Item, Refused, Work
from metrics.models.packaged import EARS, WHISPER, weights_of
from metrics.models.tasks import RATE_HZ, RecogniserSetup, present
from metrics.tasks import import_or_refuse

ENGLISH, SPANISH = "en", "es"
SPEECH = 0.5  # Silero's own threshold
TOKENS_PER_S = 15  # people say 3 to 7 words a second, of 1.3 tokens each
LEAST_TOKENS, WINDOW_S = 16, 30
KEY = "quality.recogniser.folder"
Normaliser = Callable[[str], str]


def faster_whisper_task(setup: RecogniserSetup) -> Work:
    """Set-up folder (CTranslate2; None: the packaged tiny.en), language; item (audio_S,), info sample_rate_hz and text
    -> {asked, heard}, both normalised.

    Language fixed, beam 5, temperature 0 only (the fallback is the source of run-to-run change), no memory of earlier
    text, one thread. The detector decides on the whole clip and cuts nothing out of it.
    """
    from metrics.fidelity.perceptual import resampled
    from metrics.models.intelligibility import listenable

    folder, language = _folder(setup["folder"]), setup["language"]
    faster_whisper = import_or_refuse("faster_whisper", EARS)
    normalised = normaliser(language)
    model = faster_whisper.WhisperModel(
        str(folder), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True
    )
    if language != ENGLISH and not model.model.is_multilingual:
        raise Refused(
            "not_applicable",
            f"{folder.name} hears English alone and quality.recogniser.language={language}: set {KEY} to a "
            "CTranslate2 folder of a multilingual Whisper model",
        )

    def work(item: Item) -> dict[str, str]:
        rate_hz = int(item.info["sample_rate_hz"])
        try:
            listenable(item.arrays[0], rate_hz)
        except ValueError as error:
            raise Refused("error", str(error)) from None
        audio_S = resampled(item.arrays[0], rate_hz, RATE_HZ)
        heard = ""
        if is_speech(audio_S):
            segments, _ = model.transcribe(
                audio_S, language=language, beam_size=5, temperature=0.0, condition_on_previous_text=False,
                vad_filter=False, max_new_tokens=most_tokens(audio_S.size),
            )  # fmt: skip
            heard = " ".join(segment.text for segment in segments)
        return {"asked": normalised(str(item.info["text"])), "heard": normalised(heard)}

    return work


def most_tokens(num_samples: int) -> int:
    """Of one window of 30 s at most: a loop ends there."""
    return LEAST_TOKENS + int(TOKENS_PER_S * min(WINDOW_S, num_samples / RATE_HZ))


def is_speech(audio_S: np.ndarray) -> bool:
    """Whether Silero's detector hears anybody speak in 16 kHz audio."""
    vad = import_or_refuse("faster_whisper.vad", EARS)
    return bool(vad.get_speech_timestamps(audio_S, vad.VadOptions(threshold=SPEECH)))


def normaliser(language: str) -> Normaliser:
    """OpenAI's for English; with numbers and accents kept for Spanish; the basic one for what it does not know."""
    if language == ENGLISH:
        return import_or_refuse("whisper_normalizer.english", EARS).EnglishTextNormalizer()
    if language == SPANISH:
        return import_or_refuse("whisper_normalizer.international", EARS).SpanishTextNormalizer()
    return import_or_refuse("whisper_normalizer.basic", EARS).BasicTextNormalizer(preserve_marks=True)


def _folder(folder: str | None) -> Path:
    if folder is None:
        return weights_of(WHISPER).parent
    found = present(folder, KEY, "a CTranslate2 folder of a Whisper model (model.bin)")
    if not (found / "model.bin").is_file():
        raise Refused("error", f"{KEY}: {found.name} holds no model.bin: it must be a CTranslate2 folder of Whisper")
    return found
