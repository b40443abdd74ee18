"""Word errors by two recognisers: Whisper, which may hear anything, and one that knows only the workload's words.

The second opinion is pocketsphinx with a bigram model over the workload's texts. The closed vocabulary makes it far
better than open dictation and its number *not* comparable with published WERs: compare variants of one workload.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import soxr

from metrics.fidelity.artefacts import SILENT_RMS, rms
from metrics.isolation import Item, Limits, run_shared
from metrics.models.words import WordErrors, character_edits, corpus_wer, word_edits, words_of
from metrics.record import Score, ScoreStatus

METRIC = "wer_frac"
CER = "cer_frac"
SAMPLE_RATE_HZ = 16_000
MIN_DURATION_S = 0.1
SEEN_WEIGHT = 0.5  # of a word's continuations seen in the texts; the rest is spread over all words
CLOSED = "pocketsphinx"
RECOGNISERS: Mapping[str, str] = {
    "whisper": "metrics.models.whisper:whisper_task",
    CLOSED: "metrics.models.tasks:pocketsphinx_task",
    "faster_whisper": "metrics.models.whisper:whisper_task",  # as it was called before
}
REMEDY = "pip install pocketsphinx (extra `quality`)"

_START, _END = "<s>", "</s>"


class VocabularyError(ValueError):
    """Texts that the recogniser cannot be built for: digits, or words without a pronunciation."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Spoken:
    """Audio to be understood: audio_S mono float32 in [-1, 1], text what it should say."""

    utterance_id: str
    text: str
    audio_S: np.ndarray
    sample_rate_hz: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcript:
    """What was asked for and what was understood, both as words with single spaces between them.

    hypothesis None with a status and a reason where the audio could not be listened to.
    """

    utterance_id: str
    text: str
    hypothesis: str | None
    status: ScoreStatus = "ok"
    reason: str | None = None


class ClosedVocabularyRecogniser:
    """Transcribes audio into words of `texts`, in any order. Each call is independent of the ones before.

    Raises ModuleNotFoundError without pocketsphinx and VocabularyError naming the words it has no pronunciation for.
    """

    def __init__(self, texts: Sequence[str]):
        import pocketsphinx

        sentences = [words_of(text) for text in texts]
        digits = sorted({found for text in texts for found in re.findall(r"\d+", text)})
        if digits:
            raise VocabularyError(f"numbers must be spelt out for the recogniser: {', '.join(digits)}")
        model = Path(pocketsphinx.get_model_path()) / "en-us"
        vocabulary = {word for sentence in sentences for word in sentence}
        with tempfile.TemporaryDirectory(prefix="recogniser-") as folder:
            dictionary, arpa = Path(folder, "closed.dict"), Path(folder, "closed.arpa")
            dictionary.write_text(_pronunciations(model / "cmudict-en-us.dict", vocabulary), encoding="utf-8")
            arpa.write_text(bigram_arpa(sentences), encoding="utf-8")
            self._decoder = pocketsphinx.Decoder(
                hmm=str(model / "en-us"), dict=str(dictionary), lm=str(arpa), cmn="batch", loglevel="FATAL"
            )

    def transcribe(self, audio_S: np.ndarray, sample_rate_hz: int) -> str:
        """Lower-case words, or "" where none was recognised. Raises ValueError on NaN, silence and under 0.1 s."""
        listenable(audio_S, sample_rate_hz)
        resampled_S = soxr.resample(audio_S.astype(np.float32), sample_rate_hz, SAMPLE_RATE_HZ, quality="VHQ")
        pcm_S = np.round(np.clip(resampled_S, -1.0, 1.0) * 32767).astype(np.int16)
        self._decoder.reinit_feat()  # otherwise the noise estimate of the audio before stays, and the order matters
        self._decoder.start_utt()
        self._decoder.process_raw(pcm_S.tobytes(), full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return "" if hypothesis is None else " ".join(words_of(hypothesis.hypstr))


def listenable(audio_S: np.ndarray, sample_rate_hz: int) -> None:
    """Raises ValueError on NaN, silence and under 0.1 s: a recogniser would make up words."""
    if audio_S.ndim != 1 or audio_S.size < MIN_DURATION_S * sample_rate_hz:
        raise ValueError(f"shape {audio_S.shape}: needs mono audio of {MIN_DURATION_S:g} s at least")
    if not np.isfinite(audio_S).all():
        raise ValueError("samples are not finite")
    if rms(audio_S) <= SILENT_RMS:
        raise ValueError("silent: a recogniser would make up words")


def bigram_arpa(sentences: Sequence[Sequence[str]]) -> str:
    """A bigram model in ARPA form where every word can follow every word.

    p(b | a) = SEEN_WEIGHT * count(a b) / count(a) + (1 - SEEN_WEIGHT) / V, V counting the words and the sentence end.
    """
    bigrams = Counter(
        pair for words in sentences for pair in zip([_START, *words], [*words, _END], strict=True) if words
    )
    histories: Counter[str] = Counter()
    for (history, _), count in bigrams.items():
        histories[history] += count
    vocabulary = sorted(histories.keys() - {_START})
    if not vocabulary:
        raise VocabularyError("no words to recognise")
    uniform = 1 / (len(vocabulary) + 1)
    backoff = math.log10(1 - SEEN_WEIGHT)
    lines = ["\\data\\", f"ngram 1={len(vocabulary) + 2}", f"ngram 2={len(bigrams)}", "", "\\1-grams:"]
    lines += [f"-99 {_START} {backoff:.6f}", f"{math.log10(uniform):.6f} {_END}"]
    lines += [f"{math.log10(uniform):.6f} {word} {backoff:.6f}" for word in vocabulary]
    lines += ["", "\\2-grams:"]
    for (history, word), count in sorted(bigrams.items()):
        probability = SEEN_WEIGHT * count / histories[history] + (1 - SEEN_WEIGHT) * uniform
        lines.append(f"{math.log10(probability):.6f} {history} {word}")
    return "\n".join([*lines, "", "\\end\\", ""])


class Recogniser(TypedDict):
    """kind: of RECOGNISERS. folder: of a CTranslate2 Whisper, None: the packaged tiny.en."""

    kind: str
    folder: str | None
    language: str


def transcripts_of(
    spoken: Sequence[Spoken], texts: Sequence[str], recogniser: Recogniser, limits: Limits
) -> list[Transcript]:
    """One transcript per utterance, in order. recogniser: `kind` of RECOGNISERS, `folder`, `language`.

    pocketsphinx gets the vocabulary of `texts` (the whole workload, not one sentence). Without its package or its model
    all are unavailable; texts it cannot be built for make all not_applicable.
    """
    kind = str(recogniser["kind"])
    setup = {"texts": list(texts), "folder": recogniser["folder"], "language": recogniser["language"]}
    items = [Item((one.audio_S,), {"sample_rate_hz": one.sample_rate_hz, "text": one.text}) for one in spoken]
    answers = run_shared(RECOGNISERS[kind], f"the recogniser {kind}", setup, items, limits)
    return [
        Transcript(utterance_id=one.utterance_id, text=a.payload["asked"], hypothesis=a.payload["heard"])
        if a.status == "ok"
        else Transcript(utterance_id=one.utterance_id, text=one.text, hypothesis=None, status=a.status, reason=a.reason)
        for one, a in zip(spoken, answers, strict=True)
    ]


Number = Callable[[WordErrors, WordErrors], float]  # of the edits of words and of those of characters
RATES: Mapping[str, Number] = {
    METRIC: lambda words, characters: words.wer_frac,
    CER: lambda words, characters: characters.wer_frac,
}
COUNTS: Mapping[str, Number] = {
    "word_substitutions": lambda words, characters: words.substitutions,
    "word_deletions": lambda words, characters: words.deletions,
    "word_insertions": lambda words, characters: words.insertions,
    "repeated_words": lambda words, characters: words.repeated,
    "lost_ending_words": lambda words, characters: words.lost_ending,
}
OPEN: Mapping[str, Number] = {**RATES, **COUNTS}
SECOND: Mapping[str, Number] = {"wer_closed_frac": RATES[METRIC], "cer_closed_frac": RATES[CER]}


def wer_scores(transcripts: Sequence[Transcript], numbers: Mapping[str, Number] = OPEN) -> list[Score]:
    """Each number of each utterance, then of the corpus (utterance_id None): rates over all words, counts as sums.

    An empty hypothesis is all words deleted. The corpus has no number where one utterance has none: leaving out what
    could not be listened to would make a broken engine look better.
    """
    counted = [_edits(one) for one in transcripts]
    scores: list[Score] = []
    for metric, number in numbers.items():
        for one, edits in zip(transcripts, counted, strict=True):
            if edits is not None:
                scores.append(_score(metric, one.utterance_id, float(number(*edits)), "ok", None))
            elif one.hypothesis is None:
                scores.append(_score(metric, one.utterance_id, None, one.status, one.reason))
            else:
                scores.append(_score(metric, one.utterance_id, None, "not_applicable", "the text has no words"))
        scores.append(_corpus(metric, transcripts, [edits for edits in counted if edits is not None], number))
    return scores


def _edits(one: Transcript) -> tuple[WordErrors, WordErrors] | None:
    """Of words and of characters; None where nothing was heard or nothing was asked for."""
    wanted = one.text.split()
    if one.hypothesis is None or not wanted:
        return None
    got = one.hypothesis.split()
    return word_edits(wanted, got), character_edits(wanted, got)


def _corpus(
    metric: str, transcripts: Sequence[Transcript], counted: Sequence[tuple[WordErrors, WordErrors]], number: Number
) -> Score:
    missing = [one for one in transcripts if one.hypothesis is None]
    if missing:
        reason = f"{len(missing)} of {len(transcripts)} utterances have no transcript: {missing[0].reason}"
        return _score(metric, None, None, missing[0].status, reason)
    if not counted:
        return _score(metric, None, None, "error", "no utterance to listen to")
    words, characters = (corpus_wer(errors) for errors in zip(*counted, strict=True))
    return _score(metric, None, float(number(words, characters)), "ok", None)


def _score(
    metric: str, utterance_id: str | None, value: float | None, status: ScoreStatus, reason: str | None
) -> Score:
    return Score(metric=metric, utterance_id=utterance_id, value=value, status=status, reason=reason, better="lower")


def _pronunciations(dictionary: Path, vocabulary: set[str]) -> str:
    """The dictionary's lines for the vocabulary, alternatives such as "read(2)" included."""
    lines, found = [], set()
    for line in dictionary.read_text(encoding="utf-8").splitlines():
        word = line.partition(" ")[0].partition("(")[0]
        if word in vocabulary:
            lines.append(line)
            found.add(word)
    missing = sorted(vocabulary - found)
    if missing:
        raise VocabularyError(f"words the recogniser has no pronunciation for: {', '.join(missing)}")
    return "\n".join([*lines, ""])
