"""The embedded model speaks: voices, intelligibility, and an honest training set."""

import itertools
import random

import numpy as np
import pytest
import yaml

from experiments.pocket.speech import Token, warp_mel, warp_plan
from experiments.pocket.text import SentenceSource, past, third_person, words_of
from metrics.models.intelligibility import ClosedVocabularyRecogniser
from metrics.models.words import corpus_wer, word_error
from tests.engines import ROOT, engine, request


def texts(name: str) -> list[str]:
    content = yaml.safe_load((ROOT / "conf" / "texts" / f"{name}.yaml").read_text("utf-8"))
    return [utterance["text"] for utterance in content["utterances"]]


def test_it_is_understood_in_both_voices() -> None:
    """Six sentences at seven steps; the full rates are in engine/pocket/MODEL_CARD.md."""
    sentences = [texts("en_core")[i] for i in (3, 10, 20, 21, 31, 33)]
    recogniser = ClosedVocabularyRecogniser(texts("en_core"))
    errors = []
    with engine("solver=euler_7") as speaker:
        for sentence, voice in zip(sentences, itertools.cycle(("slt", "rms"))):
            spoken = speaker.synthesize([request(sentence, voice=voice)])[0]
            errors.append(word_error(sentence, recogniser.transcribe(spoken.audio_S, spoken.sample_rate_hz)))
    assert corpus_wer(errors).wer_frac <= 0.25


def pitch_hz(audio_S: np.ndarray) -> float:
    """Median autocorrelation pitch of the loud frames of 24 kHz audio."""
    frames = np.lib.stride_tricks.sliding_window_view(audio_S, 1200)[::600]
    loud = frames[np.mean(frames**2, axis=1) > 0.3 * np.mean(frames**2)]
    pitches = []
    for frame in loud:
        r = np.correlate(frame, frame, "full")[1199:]
        lag = 80 + int(np.argmax(r[80:340]))
        if r[lag] > 0.5 * r[0]:
            pitches.append(24000 / lag)
    return float(np.median(pitches))


def test_the_voice_is_that_of_the_reference() -> None:
    """slt is a woman's voice, rms a man's: the generated pitch follows the clip, not the text."""
    with engine("solver=euler_16") as speaker:
        text = "One second of sound is twenty four thousand samples."
        heard = {v: pitch_hz(speaker.synthesize([request(text, voice=v)])[0].audio_S) for v in ("slt", "rms")}
    for voice in ("slt", "rms"):
        clip = pitch_hz(request("x", voice=voice).ref_audio_S)
        assert heard[voice] == pytest.approx(clip, rel=0.2)
    assert heard["slt"] > 1.3 * heard["rms"]


def test_held_out_sentences_are_never_trained_on_and_use_known_words_only() -> None:
    core, held_out = texts("en_core"), texts("en_heldout")
    known = {word for text in core for word in words_of(text)}
    assert len(held_out) == 50
    assert {word for text in held_out for word in words_of(text)} <= known
    assert not set(held_out) & set(core)
    source = SentenceSource(core + held_out, held_out, random.Random(0))
    spoken = {" ".join(words_of(text)) for text in itertools.islice(source, 3000)}
    assert not spoken & {" ".join(words_of(text)) for text in held_out}


def test_word_forms_are_made_by_rule() -> None:
    assert [third_person(w) for w in ("try", "play", "watch", "call")] == ["tries", "plays", "watches", "calls"]
    assert [past(w) for w in ("bake", "carry", "play", "call")] == ["baked", "carried", "played", "called"]


def test_warping_gives_every_character_the_same_number_of_frames() -> None:
    tokens = (Token("ab,", 0.1, 0.3), Token("c.", 0.5, 0.6))
    plan = warp_plan(tokens, 4, 100.0)
    assert len(plan) == 4 * len("ab, c.")
    assert plan[:8].min() > 10
    assert plan[:8].max() < 30, "letters come from the word's own sound"
    assert plan[8:16].min() > 30
    assert plan[8:16].max() < 50, "comma and space come from the pause"
    assert (np.diff(plan) > 0).all()
    ramp = np.arange(100, dtype=np.float32)[:, None]
    assert np.allclose(warp_mel(ramp, plan)[:, 0], plan, atol=1e-4)
