"""metrics.fidelity.prosody: the tracker is the package's, changes of pitch are recovered, questions may stay
undetermined."""

import numpy as np
import pytest

from metrics.fidelity.prosody import (
    Track,
    alone,
    final_rise_st,
    is_yes_no_question,
    label_of,
    paired,
    pauses_of,
    tracks_of,
)
from metrics.isolation import Limits
from tests.heard import RATE_HZ, recorded

pytest.importorskip("pyworld")


def track(f0_N, pauses=(), active_s=1.0):
    return Track(f0_N=np.asarray(f0_N, dtype=np.float64), pauses=tuple(pauses), active_s=active_s)


def test_the_track_is_the_packages_own():
    import pyworld

    audio_S = recorded().astype(np.float64)
    coarse_N, times_N = pyworld.dio(audio_S, RATE_HZ, f0_floor=60.0, f0_ceil=500.0, frame_period=5.0)
    (found,) = tracks_of([(recorded(), RATE_HZ)], Limits())
    assert found.f0_N.tolist() == pyworld.stonemask(audio_S, coarse_N, times_N, RATE_HZ).tolist()


def test_a_semitone_on_resynthesised_speech_is_recovered_within_ten_cents():
    import pyworld

    audio_S = recorded().astype(np.float64)
    f0_N, times_N = pyworld.harvest(audio_S, RATE_HZ)
    spectrum, breath = (f(audio_S, f0_N, times_N, RATE_HZ) for f in (pyworld.cheaptrick, pyworld.d4c))
    same_S, higher_S = (
        pyworld.synthesize(f0_N * ratio, spectrum, breath, RATE_HZ).astype(np.float32) for ratio in (1, 2 ** (1 / 12))
    )
    higher, same = tracks_of([(higher_S, RATE_HZ), (same_S, RATE_HZ)], Limits())
    assert paired(higher, same, "Words.")["f0_cents"].value == pytest.approx(100.0, abs=10.0)
    assert paired(same, same, "Words.")["f0_cents"].value == 0.0


def test_differences_by_hand():
    ours, theirs = track([100.0] * 20 + [0.0] * 20), track([100.0] * 10 + [200.0] * 20 + [0.0] * 10)
    found = paired(ours, theirs, "Words.")
    assert found["voicing_error_frac"].value == pytest.approx(10 / 40)
    assert found["f0_gross_frac"].value == pytest.approx(10 / 20)
    assert found["f0_cents"].value == pytest.approx(600.0)  # half of the frames agree, half are an octave off
    assert found["question_rise_delta_st"].status == "not_applicable"


@pytest.mark.parametrize(("slope_st", "label"), [(3.0, "rise"), (-3.0, "fall"), (0.5, "flat")])
def test_the_end_of_a_question(slope_st, label):
    semitones = np.concatenate([np.zeros(100), np.linspace(0, slope_st, 60)])
    rise = final_rise_st(track(120.0 * 2 ** (semitones / 12)))
    assert label_of(rise) == label
    assert rise.value == pytest.approx(slope_st, abs=0.5)


def test_an_end_that_cannot_be_judged_is_undetermined():
    for f0_N in ([120.0] * 9, [120.0] * 40 + [240.0] * 10):
        rise = final_rise_st(track(f0_N))
        assert (rise.status, label_of(rise)) == ("too_few", "undetermined")
        assert rise.reason.startswith("undetermined: ")
    question = paired(track([120.0] * 60), track([120.0] * 5), "Is it?")
    assert question["question_same_label"].status == "too_few"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("Is the kettle on?", True),
        ("Where is it?", False),
        ("It is.", False),
        ("¿Dónde está?", False),
        ("¿Está aquí?", True),
        ("¿A qué hora sale?", False),
        ("To whom was it sent?", False),
        ("It is late. Where is she?", False),
        ("It is late, and where is she? Is she here?", True),
        ("Hola, ¿cómo estás?", False),
        ("Oye, ¿a poco ya terminaste la tarea?", True),
        ("¿Quedas tú, Quevedo?", True),
        ("Whoever it was, are they gone?", True),
        ("Tea or coffee?", False),
        ("¿Vienes con nosotros o te quedas?", False),
        ("Is it three? Yes.", False),
    ],
)
def test_only_yes_no_questions_are_tested(text, is_one):
    assert is_yes_no_question(text) is is_one


def test_pauses_between_words_but_not_around_them():
    tone_S = np.sin(np.arange(RATE_HZ) / 5).astype(np.float32)
    audio_S = np.concatenate([np.zeros(RATE_HZ // 2), tone_S, np.zeros(int(0.3 * RATE_HZ)), tone_S, np.zeros(RATE_HZ)])
    pauses, active_s = pauses_of(audio_S.astype(np.float32), RATE_HZ)
    assert len(pauses) == 1
    assert pauses[0] == pytest.approx((1.5, 1.8), abs=0.011)
    assert active_s == pytest.approx(2.0, abs=0.03)
    assert pauses_of(np.zeros(RATE_HZ, np.float32), RATE_HZ) == ((), 0.0)


def test_pauses_that_move_are_no_match():
    at = [(1.0, 1.3), (2.0, 2.5)]
    moved = [(1.02, 1.33), (2.2, 2.5)]
    assert paired(track([], at), track([], moved), "x")["pause_f1"].value == pytest.approx(0.5)
    assert paired(track([], ()), track([], ()), "x")["pause_f1"].value == 1.0


def test_what_one_utterance_has_by_itself():
    found = alone(track([100.0] * 50 + [200.0] * 50, [(1.0, 1.25)], active_s=2.0), "one two three four")
    assert found["f0_median_hz"].value == 150.0
    assert found["f0_range_st"].value == pytest.approx(12.0)
    assert found["words_per_active_s"].value == 2.0
    assert (found["pause_s"].value, found["longest_pause_s"].value) == (0.25, 0.25)
    assert alone(track([0.0] * 50), "one")["f0_median_hz"].status == "too_few"
