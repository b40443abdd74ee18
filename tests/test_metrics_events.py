"""metrics.fidelity.events and metrics.fidelity.faults on recorded speech: what must be seen is seen, rounding is
not."""

import numpy as np
import pytest

from metrics.fidelity.events import new_events
from metrics.fidelity.faults import FAULTS
from tests.heard import RATE_HZ, heard, recorded, speech_like


def events_of(variant_S, against_S):
    return new_events(heard(variant_S), heard(against_S))


@pytest.mark.parametrize("voice", ["slt", "rms"])
def test_rounding_to_sixteen_bits_and_faint_noise_are_no_events(voice):
    clean_S = recorded(voice)
    noise_S = np.random.default_rng(0).normal(0, 1e-4, clean_S.size).astype(np.float32)
    for variant_S in (
        clean_S.astype(np.float16).astype(np.float32),
        np.round(clean_S * 32767) / 32767,
        clean_S + noise_S,
    ):
        found = events_of(variant_S.astype(np.float32), clean_S)
        assert (found.total, found.edges_change) == (0, 0)


@pytest.mark.parametrize("voice", ["slt", "rms"])
def test_every_dropout_of_five_milliseconds_is_seen_and_most_clicks(voice):
    clean_S = recorded(voice)
    dropouts, clicks = [], []
    for seed in range(20):
        random = np.random.default_rng(seed)
        dropouts.append(events_of(FAULTS["dropout 5 ms"](clean_S, RATE_HZ, random), clean_S).dropouts)
        clicks.append(events_of(FAULTS["click -12 dB"](clean_S, RATE_HZ, random), clean_S).clicks)
    assert dropouts == [1] * 20
    assert sum(count == 1 for count in clicks) >= 17


def test_a_repeat_is_seen_once_and_a_lost_end_is_a_dropout():
    clean_S = np.concatenate([recorded("slt"), recorded("rms")])
    repeated = events_of(FAULTS["repeated"](clean_S, RATE_HZ, np.random.default_rng(1)), clean_S)
    assert repeated.repeats == 1
    lost = events_of(FAULTS["lost end"](clean_S, RATE_HZ, np.random.default_rng(1)), clean_S)
    assert lost.dropouts >= 1
    assert (lost.repeats, lost.cuts) == (0, 0)


def test_a_cut_in_the_middle_of_speech():
    clean_S = speech_like(2.0)
    faded_S = clean_S.copy()
    faded_S[-2400:] *= np.linspace(1, 0, 2400, dtype=np.float32) ** 4
    cut_S = faded_S.copy()
    cut_S[-2400:] = clean_S[1200:3600]
    assert events_of(cut_S, faded_S).cuts == 1
    assert events_of(faded_S, faded_S).cuts == 0


def test_without_a_common_phase_clicks_are_not_counted():
    clean_S = recorded()
    found = events_of(-np.roll(clean_S, 100), clean_S)
    assert found.clicks is None
    assert abs(found.edges_change) <= 1  # where the ends were joined


def test_unfit_audio_has_a_status_and_no_counts():
    assert events_of(np.zeros(RATE_HZ, np.float32), recorded()[:RATE_HZ]).status == "error"
