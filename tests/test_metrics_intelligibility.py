"""metrics.models.intelligibility: word errors worked out by hand, the language model, and real synthetic speech."""

import shutil
import subprocess
from collections import defaultdict

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from metrics.isolation import Limits
from metrics.models.intelligibility import (
    OPEN,
    SECOND,
    ClosedVocabularyRecogniser,
    Spoken,
    Transcript,
    VocabularyError,
    bigram_arpa,
    transcripts_of,
    wer_scores,
)
from metrics.models.words import corpus_wer, word_error, words_of

TEXTS = [
    "Turn left at the bridge.",
    "Every Tuesday the market fills with bread, honey, and yellow flowers.",
    "The test failed with error code four hundred and four.",
    "We leave in ten minutes.",
]
SPHINX = {"kind": "pocketsphinx", "folder": None, "language": "en"}
sentences = st.lists(st.lists(st.sampled_from(["a", "b", "it's", "no"]), max_size=5), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("hypothesis", "counts"),
    [
        ("turn left at the bridge", (0, 0, 0)),
        ("TURN LEFT, at -- the bridge?!", (0, 0, 0)),
        ("turn right at the bridge", (1, 0, 0)),
        ("turn left the bridge", (0, 1, 0)),
        ("turn left at at the bridge", (0, 0, 1)),
        ("", (0, 5, 0)),
        ("...", (0, 5, 0)),
    ],
)
def test_word_errors_are_counted(hypothesis, counts):
    errors = word_error("Turn left at the bridge.", hypothesis)
    assert (errors.substitutions, errors.deletions, errors.insertions) == counts
    assert errors.wer_frac == sum(counts) / 5


def test_apostrophes_stay_and_quotation_marks_go():
    assert words_of("'It\u2019s' the CHILDREN'S well-known d\u00eda, no. 5!") == [
        "it's",
        "the",
        "children's",
        "well",
        "known",
        "d\u00eda",
        "no",
    ]


def test_a_reference_without_words_has_no_error_rate():
    with pytest.raises(ValueError, match="no words"):
        word_error("...", "hello")
    with pytest.raises(ValueError, match="no utterances"):
        corpus_wer([])


def transcript(utterance_id, hypothesis, **kind):
    return Transcript(utterance_id=utterance_id, text="one two three four", hypothesis=hypothesis, **kind)


def test_the_corpus_weighs_words_not_utterances():
    short = Transcript(utterance_id="s", text="one", hypothesis="")
    scores = wer_scores([short, transcript("l", "one two three four")])
    words, characters = scores[:3], scores[3:6]
    assert [(score.utterance_id, score.value) for score in words] == [("s", 1.0), ("l", 0.0), (None, 0.2)]
    assert [(score.utterance_id, score.value) for score in characters] == [("s", 1.0), ("l", 0.0), (None, 3 / 21)]
    assert {(score.metric, score.better, score.status) for score in words} == {("wer_frac", "lower", "ok")}
    assert {score.metric for score in characters} == {"cer_frac"}


def test_an_utterance_that_was_not_heard_takes_the_corpus_number_away():
    lost = transcript("b", None, status="error", reason="samples are not finite")
    scores = wer_scores([transcript("a", "one two three four"), lost])
    assert [score.status for score in scores] == ["ok", "error", "error"] * len(OPEN)
    assert scores[2].reason == "1 of 2 utterances have no transcript: samples are not finite"


def probabilities(arpa):
    """p(next | history) as a decoder reads it: the bigram, else the unigram times the history's back-off weight."""
    unigrams, backoffs, bigrams = {}, {}, {}
    for line in arpa.splitlines():
        match line.split():
            case [p, word, *backoff] if word in ("<s>", "</s>") or (backoff and _is_number(backoff[0])):
                unigrams[word] = 10 ** float(p)
                backoffs[word] = 10 ** float(backoff[0]) if backoff and _is_number(backoff[0]) else 1.0
            case [p, history, word] if _is_number(p):
                bigrams[history, word] = 10 ** float(p)
    table = defaultdict(dict)
    for history in backoffs.keys() - {"</s>"}:
        for word in unigrams.keys() - {"<s>"}:
            table[history][word] = bigrams.get((history, word), unigrams[word] * backoffs[history])
    return table


def _is_number(text):
    return text.lstrip("-").replace(".", "", 1).isdigit()


@given(sentences)
def test_every_word_can_follow_every_word_and_probabilities_add_up(words):
    if not any(words):
        with pytest.raises(VocabularyError, match="no words"):
            bigram_arpa(words)
        return
    table = probabilities(bigram_arpa(words))
    assert table.keys() == {word for sentence in words for word in sentence} | {"<s>"}
    for following in table.values():
        assert sum(following.values()) == pytest.approx(1.0, abs=1e-4)
        assert min(following.values()) > 0


@pytest.fixture(scope="module")
def recogniser():
    pytest.importorskip("pocketsphinx")
    return ClosedVocabularyRecogniser(TEXTS)


@pytest.fixture(scope="module")
def say(tmp_path_factory):
    if shutil.which("flite") is None:
        pytest.skip("flite is not installed: no speech to recognise")
    folder = tmp_path_factory.mktemp("flite")

    def speak(text):
        path = folder / "speech.wav"
        subprocess.run(["flite", "-voice", "slt", "-t", text, "-o", str(path)], check=True, capture_output=True)
        return soundfile.read(path, dtype="float32")

    return speak


def test_clear_speech_is_understood_whatever_was_heard_before(recogniser, say):
    for text in (*TEXTS, TEXTS[0]):
        assert recogniser.transcribe(*say(text)) == " ".join(words_of(text))


def test_the_order_of_listening_does_not_matter(recogniser, say):
    speech_S, rate_hz = say(TEXTS[1])
    rng = np.random.default_rng(0)
    noisy = [speech_S + rng.normal(0, level, speech_S.size).astype(np.float32) for level in np.linspace(0.01, 0.2, 12)]
    forward = [recogniser.transcribe(audio_S, rate_hz) for audio_S in noisy]
    backward = [recogniser.transcribe(audio_S, rate_hz) for audio_S in reversed(noisy)]
    assert len(set(forward)) > 2  # the noise does change what is understood
    assert backward[::-1] == forward


def test_a_lost_word_is_noticed(recogniser, say):
    errors = word_error(TEXTS[0], recogniser.transcribe(*say("Turn at the bridge.")))
    assert errors.deletions + errors.substitutions == 1


def test_noise_is_no_speech(recogniser):
    noise_S = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    assert word_error(TEXTS[1], recogniser.transcribe(noise_S, 24_000)).wer_frac > 0.8


@pytest.mark.parametrize(
    "audio_S",
    [np.zeros(0), np.zeros(100), np.zeros(48_000), np.full(48_000, np.nan), np.full((2, 48_000), 0.1)],
    ids=["empty", "short", "silent", "nan", "stereo"],
)
def test_audio_that_cannot_be_heard_is_a_status(recogniser, audio_S):
    with pytest.raises(ValueError, match=r"silent|not finite|mono"):
        recogniser.transcribe(audio_S, 24_000)
    spoken = Spoken(utterance_id="u", text=TEXTS[0], audio_S=audio_S, sample_rate_hz=24_000)
    for score in wer_scores(transcripts_of([spoken], TEXTS, SPHINX, Limits())):
        assert score.status == "error"
        assert score.value is None


def test_words_without_a_pronunciation_are_listed():
    pytest.importorskip("pocketsphinx")
    with pytest.raises(VocabularyError, match="no pronunciation for: qwrtz, zzyx"):
        ClosedVocabularyRecogniser(["zzyx the qwrtz"])
    with pytest.raises(VocabularyError, match="spelt out for the recogniser: 1999, 7"):
        ClosedVocabularyRecogniser(["7 steps in 1999"])
    spoken = Spoken(utterance_id="u", text="zzyx", audio_S=np.zeros(1), sample_rate_hz=24_000)
    assert [score.status for score in wer_scores(transcripts_of([spoken], ["zzyx"], SPHINX, Limits()))] == [
        "not_applicable"
    ] * (2 * len(OPEN))


def test_without_the_package_the_remedy_is_named(tmp_path, monkeypatch):
    (tmp_path / "pocketsphinx.py").write_text("raise ImportError('not built')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    spoken = Spoken(utterance_id="u", text=TEXTS[0], audio_S=np.zeros(1), sample_rate_hz=24_000)
    scores = wer_scores(transcripts_of([spoken], TEXTS, SPHINX, Limits()))
    assert [score.status for score in scores] == ["unavailable"] * (2 * len(OPEN))
    assert "pip install pocketsphinx" in scores[0].reason


@pytest.mark.parametrize(
    ("text", "heard", "repeated", "lost"),
    [
        ("turn left at the bridge", "turn left at the bridge at the bridge", 3, 0),
        ("turn left at the bridge", "turn turn turn left at the bridge", 2, 0),
        ("a very very good day", "a very very good day", 0, 0),
        ("turn left at the bridge", "turn left at", 0, 2),
        ("turn left at the bridge", "turn at the bridge", 0, 0),
        ("turn left", "", 0, 2),
    ],
)
def test_what_is_said_again_and_what_is_lost_at_the_end_are_counts_of_their_own(text, heard, repeated, lost):
    found = {s.metric: s.value for s in wer_scores([Transcript(utterance_id="a", text=text, hypothesis=heard)])}
    assert (found["repeated_words"], found["lost_ending_words"]) == (repeated, lost)
    edits = [found[f"word_{kind}"] for kind in ("substitutions", "deletions", "insertions")]
    assert found["wer_frac"] == pytest.approx(sum(edits) / len(text.split()))


def test_counts_add_up_over_the_sentences_and_the_second_opinion_has_names_of_its_own():
    heard = [transcript("a", "one two three three three"), transcript("b", "one two three three four")]
    total = {s.metric: s.value for s in wer_scores(heard) if s.utterance_id is None}
    assert total["repeated_words"] == 3
    assert {s.metric for s in wer_scores(heard, SECOND)} == {"wer_closed_frac", "cer_closed_frac"}
