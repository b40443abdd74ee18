"""Word error rate by a recogniser that knows only the words of the workload: offline, deterministic, small.

pocketsphinx with a bigram model over the workload's texts. The closed vocabulary makes it far better than open
dictation and its number *not* comparable with published WERs: compare variants of one workload with it.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import jiwer
import numpy as np
import soxr

from metrics.fidelity.artefacts import SILENT_RMS, rms
from metrics.isolation import Item, Limits, run_isolated
from metrics.record import Score, ScoreStatus

METRIC = "wer_frac"
CER = "cer_frac"
SAMPLE_RATE_HZ = 16_000
MIN_DURATION_S = 0.1
SEEN_WEIGHT = 0.5  # of a word's continuations seen in the texts; the rest is spread over all words
RECOGNISERS: Mapping[str, str] = {
    "pocketsphinx": "metrics.models.tasks:pocketsphinx_task",
    "faster_whisper": "metrics.models.tasks:faster_whisper_task",
}
REMEDY = "pip install pocketsphinx (extra `quality`)"

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_START, _END = "<s>", "</s>"


class VocabularyError(ValueError):
    """Texts that the recogniser cannot be built for: digits, or words without a pronunciation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WordErrors:
    """Word-level edit counts; the sum of several is the corpus."""

    substitutions: int
    deletions: int
    insertions: int
    reference_words: int

    @property
    def wer_frac(self) -> float:
        """Errors per reference word; above 1 where many words were inserted."""
        return (self.substitutions + self.deletions + self.insertions) / self.reference_words


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Spoken:
    """Audio to be understood: audio_S mono float32 in [-1, 1], text what it should say."""

    utterance_id: str
    text: str
    audio_S: np.ndarray
    sample_rate_hz: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcript:
    """What was understood; hypothesis None with a status and a reason where the audio could not be listened to."""

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


def words_of(text: str) -> list[str]:
    """Lower-case words: letters and inner apostrophes only."""
    return _WORD.findall(text.lower().replace("\u2019", "'"))


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


def word_error(reference: str, hypothesis: str) -> WordErrors:
    """Edit counts between normalised texts (jiwer). Raises ValueError where the reference has no word."""
    return _edits(reference, hypothesis, str.split, jiwer.process_words)


def character_error(reference: str, hypothesis: str) -> WordErrors:
    """The same edit counts over characters, single spaces between words included. Raises ValueError on no word."""
    return _edits(reference, hypothesis, list, jiwer.process_characters)


def _edits(
    reference: str, hypothesis: str, units: Callable[[str], list[str]], process: Callable[[str, str], Any]
) -> WordErrors:
    """units: what is counted in a text; process: jiwer's alignment of two texts over such units."""
    wanted, got = (" ".join(words_of(text)) for text in (reference, hypothesis))
    if not wanted:
        raise ValueError(f"no words in the reference {reference!r}")
    num = len(units(wanted))
    if not got:
        return WordErrors(substitutions=0, deletions=num, insertions=0, reference_words=num)
    counts = process(wanted, got)
    return WordErrors(
        substitutions=counts.substitutions,
        deletions=counts.deletions,
        insertions=counts.insertions,
        reference_words=num,
    )


def corpus_wer(errors: Sequence[WordErrors]) -> WordErrors:
    """All utterances as one text (micro average). Raises ValueError on none."""
    if not errors:
        raise ValueError("no utterances")
    return WordErrors(
        substitutions=sum(error.substitutions for error in errors),
        deletions=sum(error.deletions for error in errors),
        insertions=sum(error.insertions for error in errors),
        reference_words=sum(error.reference_words for error in errors),
    )


class Recogniser(TypedDict):
    """kind: of RECOGNISERS. folder: a CTranslate2 model, for faster_whisper."""

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
    items = [Item((one.audio_S,), {"sample_rate_hz": one.sample_rate_hz}) for one in spoken]
    answers = run_isolated(RECOGNISERS[kind], f"the recogniser {kind}", setup, items, limits)
    return [
        Transcript(utterance_id=one.utterance_id, text=one.text, hypothesis=a.payload, status=a.status, reason=a.reason)
        for one, a in zip(spoken, answers, strict=True)
    ]


def wer_scores(transcripts: Sequence[Transcript]) -> list[Score]:
    """`wer_frac` and `cer_frac` of each utterance, then of the corpus (utterance_id None).

    An empty hypothesis is all words deleted. The corpus has no number where one utterance has none: leaving out what
    could not be listened to would make a broken engine look better.
    """
    scores: list[Score] = []
    for metric, count in ((METRIC, word_error), (CER, character_error)):
        errors = []
        for one in transcripts:
            if one.hypothesis is None:
                scores.append(_score(metric, one.utterance_id, None, one.status, one.reason))
                continue
            if not words_of(one.text):
                scores.append(_score(metric, one.utterance_id, None, "not_applicable", "the text has no words"))
                continue
            errors.append(count(one.text, one.hypothesis))
            scores.append(_score(metric, one.utterance_id, errors[-1].wer_frac, "ok", None))
        scores.append(_corpus(metric, transcripts, errors))
    return scores


def _corpus(metric: str, transcripts: Sequence[Transcript], errors: Sequence[WordErrors]) -> Score:
    missing = [one for one in transcripts if one.hypothesis is None]
    if missing:
        reason = f"{len(missing)} of {len(transcripts)} utterances have no transcript: {missing[0].reason}"
        return _score(metric, None, None, missing[0].status, reason)
    if not errors:
        return _score(metric, None, None, "error", "no utterance to listen to")
    return _score(metric, None, corpus_wer(errors).wer_frac, "ok", None)


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
