"""Prosody of Spanish: espeak-ng stands in for a Spanish checkpoint, whose words nobody here can judge."""

import ctypes
from collections.abc import Iterator

import numpy as np
import pytest

from experiments.workload.texts import Line, select_lines
from metrics.fidelity.prosody import Track, alone, label_of, paired, tracks_of
from metrics.isolation import Limits

espeakng_loader = pytest.importorskip("espeakng_loader", reason="espeak-ng comes with the extra kokoro")
SYNCHRONOUS, PLAIN_UTF8 = 2, 1
ON_SAMPLES = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def spoken(lines: list[Line]) -> Iterator[tuple[np.ndarray, int]]:
    """By espeak-ng's library (speak_lib.h), one sentence at a time: 16 bits at the rate that it says."""
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate_hz = library.espeak_Initialize(SYNCHRONOUS, 500, espeakng_loader.get_data_path().encode(), 0)
    parts: list[np.ndarray] = []

    def keep(samples: "ctypes._Pointer[ctypes.c_short]", num: int, _: object) -> int:
        if samples and num > 0:
            parts.append(np.ctypeslib.as_array(samples, (num,)).astype(np.float32) / 32768)
        return 0

    callback = ON_SAMPLES(keep)
    library.espeak_SetSynthCallback(callback)
    assert library.espeak_SetVoiceByName(b"es") == 0
    for line in lines:
        parts.clear()
        text = line.text.encode()
        assert library.espeak_Synth(text, len(text) + 1, 0, 0, 0, PLAIN_UTF8, None, None) == 0
        yield np.concatenate(parts), rate_hz


@pytest.fixture(scope="module")
def speech() -> dict[str, tuple[Line, Track]]:
    lines = list(select_lines({"texts": "es_core", "select": None, "limit": None}))
    tracks = tracks_of(list(spoken(lines)), Limits(timeout_s=60.0))
    assert all(isinstance(track, Track) for track in tracks)
    return {line.utterance_id: (line, track) for line, track in zip(lines, tracks, strict=True)}  # type: ignore[misc]


def test_spanish_speech_lies_in_natural_ranges(speech: dict[str, tuple[Line, Track]]) -> None:
    for line, track in speech.values():
        found = alone(track, line.text)
        assert 70 < (found["f0_median_hz"].value or 0) < 250, line
        assert 2 < (found["f0_range_st"].value or 0) < 16, line
        assert 2 < (found["words_per_active_s"].value or 0) < 6, line
        assert (found["pause_s"].value or 0) < 0.5, line


def test_only_questions_that_ought_to_rise_are_asked_whether_they_do(speech: dict[str, tuple[Line, Track]]) -> None:
    asked = {name: alone(track, line.text)["question_rise_st"] for name, (line, track) in speech.items()}
    assert {name for name, rise in asked.items() if rise.status != "not_applicable"} == {"es06", "es24"}
    assert label_of(asked["es06"]) == "flat", "espeak-ng's Spanish keeps the tone at the end of a question"
    assert asked["es05"].status == "not_applicable", "a qué hora asks for a time, and falls"


def test_an_end_without_enough_voice_is_undetermined(speech: dict[str, tuple[Line, Track]]) -> None:
    line, track = speech["es06"]
    f0_N = track.f0_N.copy()
    f0_N[np.flatnonzero(f0_N > 0)[5:]] = 0
    short = Track(f0_N=f0_N, pauses=(), active_s=track.active_s)
    assert label_of(alone(short, line.text)["question_rise_st"]) == "undetermined"
    assert paired(track, short, line.text)["question_same_label"].status == "too_few"


def test_the_same_speech_has_the_same_prosody(speech: dict[str, tuple[Line, Track]]) -> None:
    line, track = speech["es06"]
    found = paired(track, track, line.text)
    assert {name: outcome.value for name, outcome in found.items()} == {
        "f0_cents": 0.0, "f0_gross_frac": 0.0, "voicing_error_frac": 0.0, "pause_f1": 1.0,
        "question_rise_delta_st": 0.0, "question_same_label": 1.0,
    }  # fmt: skip
