"""Whisper inside the child of metrics.isolation: words of an open vocabulary, or none where nobody speaks.

Whisper makes up words where there is no speech ("You", a phrase without end), and a loop can go on for minutes. So
Silero's detector says first whether there is any speech, and words are limited to more than anybody can say. Both texts
go through the field's normaliser: numbers, case, punctuation, spelling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from metrics.isolation import Item, Refused, Work
from metrics.models.mel import RATE_HZ, mel_power
from metrics.models.packaged import EARS, SILERO, WHISPER, weights_of
from metrics.models.tasks import RecogniserSetup, present
from metrics.tasks import import_or_refuse

ENGLISH, SPANISH = "en", "es"
KEY = "quality.recogniser.folder"
N_FFT, HOP = 400, 160
WINDOW_S, WINDOW_FRAMES = 30, 3000
FRAMES_PER_TIMESTAMP = 2
BEAM = 5
UNHEARD, UNSURE = 0.6, -1.0  # OpenAI's limits: above this chance of no speech and below this mean log probability
TOKENS_PER_S = 15  # people say 3 to 7 words a second, of 1.3 tokens each
LEAST_TOKENS, MOST_TOKENS = 16, 447  # the decoder's context holds 448, of which one at least is the prompt
SPEECH = 0.5  # Silero's own threshold
CHUNK, CONTEXT = 512, 64  # samples that Silero's detector hears at a time, and those before them that it is given again
Normaliser = Callable[[str], str]


def whisper_task(setup: RecogniserSetup) -> Work:
    """Set-up folder (CTranslate2; None: the packaged tiny.en), language; item (audio_S,), info sample_rate_hz and text
    -> {asked, heard}, both normalised. The detector decides on the whole clip and cuts nothing out of it."""
    from metrics.fidelity.perceptual import resampled
    from metrics.models.intelligibility import listenable

    whisper = Whisper(_folder(setup["folder"]), setup["language"])
    detector = SpeechDetector()
    normalised = normaliser(setup["language"])

    def work(item: Item) -> dict[str, str]:
        rate_hz = item.sample_rate_hz
        try:
            listenable(item.arrays[0], rate_hz)
        except ValueError as error:
            raise Refused("error", str(error)) from None
        audio_S = resampled(item.arrays[0], rate_hz, RATE_HZ)
        heard = whisper.transcribe(audio_S) if detector.is_speech(audio_S) else ""
        return {"asked": normalised(str(item.info["text"])), "heard": normalised(heard)}

    return work


class Whisper:
    """A CTranslate2 folder of Whisper, asked as OpenAI's transcribe.py asks: windows of 30 s, timestamps, beam 5.

    Language fixed, temperature 0 only (the fallback is the source of run-to-run change), no memory of earlier text, one
    thread. Its words are faster-whisper's of the same options. Raises Refused for a language that it does not hear.
    """

    def __init__(self, folder: Path, language: str):
        ctranslate2 = import_or_refuse("ctranslate2", EARS)
        tokenizers = import_or_refuse("tokenizers", EARS)
        self._as_input = ctranslate2.StorageView.from_array
        self._model = ctranslate2.models.Whisper(str(folder), device="cpu", compute_type="int8", intra_threads=1)
        if language != ENGLISH and not self._model.is_multilingual:
            raise Refused(
                "not_applicable",
                f"{folder.name} hears English alone and quality.recogniser.language={language}: set {KEY} to a "
                "CTranslate2 folder of a multilingual Whisper model",
            )
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        names = ["startoftranscript", *([language, "transcribe"] if self._model.is_multilingual else [])]
        self._prompt = [self._token(name) for name in names]
        self._end = self._token("endoftext")
        self._first_timestamp = self._token("notimestamps") + 1

    def transcribe(self, audio_S: np.ndarray) -> str:
        """The words of 16 kHz audio of any length, as Whisper writes them."""
        mel_DN = log_mel(audio_S, self._model.n_mels)
        texts, start = [], 0
        while start < mel_DN.shape[1]:
            window_DN = mel_DN[:, start : start + WINDOW_FRAMES]
            tokens = self._tokens(window_DN)
            said, num_frames = until_timestamp(tokens, self._first_timestamp)
            texts.append(self._tokenizer.decode([token for token in said if token < self._end]))
            start += num_frames or window_DN.shape[1]
        return " ".join(texts)

    def _tokens(self, window_DN: np.ndarray) -> list[int]:
        """Of one window; none where the model itself would rather hear nobody."""
        num_frames = window_DN.shape[1]
        padded_DN = np.pad(window_DN, ((0, 0), (0, WINDOW_FRAMES - num_frames)))
        encoded = self._model.encode(self._as_input(np.ascontiguousarray(padded_DN[None])))
        (found,) = self._model.generate(
            encoded, [self._prompt], beam_size=BEAM, return_scores=True, return_no_speech_prob=True,
            max_length=min(len(self._prompt) + most_tokens(num_frames * HOP), MOST_TOKENS + 1),
        )  # fmt: skip
        tokens: list[int] = found.sequences_ids[0]
        mean_log_probability = found.scores[0] * len(tokens) / (len(tokens) + 1)
        return [] if found.no_speech_prob > UNHEARD and mean_log_probability <= UNSURE else tokens

    def _token(self, name: str) -> int:
        found: int | None = self._tokenizer.token_to_id(f"<|{name}|>")
        if found is None:
            raise Refused("error", f"{KEY}: tokenizer.json knows no <|{name}|>: it must be Whisper's")
        return found


def log_mel(audio_S: np.ndarray, num_mels: int) -> np.ndarray:
    """(D, N) float32, a frame every 10 ms, at most 80 dB below the loudest, as whisper/audio.py scales it."""
    power_DN = mel_power(np.pad(audio_S, (0, HOP)), N_FFT, HOP, num_mels, edges="reflect")[:, :-1]
    log_DN = np.log10(np.maximum(power_DN, 1e-10))
    scaled_DN = (np.maximum(log_DN, log_DN.max() - 8) + 4) / 4
    return scaled_DN[:, : audio_S.size // HOP].astype(np.float32)


def until_timestamp(tokens: Sequence[int], first_timestamp: int) -> tuple[Sequence[int], int]:
    """(tokens that count, frames that they take; 0: the whole window), as whisper/transcribe.py goes on.

    Two timestamps in a row end a phrase. What comes after the last pair is heard again in the next window, unless the
    window ends with one timestamp: then nothing is said after it.
    """
    stamps = [token >= first_timestamp for token in tokens]
    pairs = [i for i in range(1, len(tokens)) if stamps[i - 1] and stamps[i]]
    if not pairs or stamps[-2:] == [False, True]:
        return tokens, 0
    return tokens[: pairs[-1]], (tokens[pairs[-1] - 1] - first_timestamp) * FRAMES_PER_TIMESTAMP


def most_tokens(num_samples: int) -> int:
    """Of one window of 30 s at most: a loop ends there."""
    return min(MOST_TOKENS, LEAST_TOKENS + int(TOKENS_PER_S * min(WINDOW_S, num_samples / RATE_HZ)))


class SpeechDetector:
    """Silero's voice activity detector of version 6, on one thread."""

    def __init__(self) -> None:
        onnxruntime = import_or_refuse("onnxruntime", EARS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = str(weights_of(SILERO))
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def is_speech(self, audio_S: np.ndarray) -> bool:
        """Whether anybody speaks in 16 kHz audio, for 32 ms at least."""
        padded_S = np.pad(audio_S, (CONTEXT, -audio_S.size % CHUNK)).astype(np.float32)
        state, rate = np.zeros((2, 1, 128), np.float32), np.array(RATE_HZ)
        for start in range(0, padded_S.size - CONTEXT, CHUNK):
            heard = {"input": padded_S[None, start : start + CONTEXT + CHUNK], "state": state, "sr": rate}
            probability, state = self._session.run(None, heard)
            if probability.item() >= SPEECH:
                return True
        return False


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
    found = present(folder, KEY, "a CTranslate2 folder of a Whisper model (model.bin, tokenizer.json)")
    missing = [name for name in ("model.bin", "tokenizer.json") if not (found / name).is_file()]
    if missing:
        raise Refused(
            "error", f"{KEY}: {found.name} holds no {missing[0]}: it must be a CTranslate2 folder of a Whisper model"
        )
    return found
