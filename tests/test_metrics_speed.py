"""metrics.speed: numbers that can be worked out by hand."""

import pytest

from metrics.record import Trial
from metrics.speed.trials import latency_by_category, latency_by_length, speed_of


def a_trial(wall_s=1.0, audio_s=2.0, utterance_id="a", is_warmup=False, peak_bytes=10, stages=(0.1, 0.6, 0.2, 0.1)):
    return Trial(
        utterance_id=utterance_id,
        repeat=0,
        wall_s=wall_s,
        cpu_s=2 * wall_s,
        audio_s=audio_s,
        frontend_s=stages[0],
        denoise_s=stages[1],
        vocoder_s=stages[2],
        join_s=stages[3],
        num_evals=7,
        peak_bytes=peak_bytes,
        started_unix_s=0.0,
        is_warmup=is_warmup,
    )


def test_rtf_takes_wall_and_audio_of_the_same_steady_trials():
    trials = [
        a_trial(wall_s=100.0, audio_s=1.0, is_warmup=True, peak_bytes=99),
        a_trial(wall_s=1.0, audio_s=2.0),
        a_trial(wall_s=3.0, audio_s=6.0, peak_bytes=11),
    ]
    speed = speed_of(trials)
    assert speed.num_trials == 2
    assert speed.rtf_ratio == 0.5
    assert speed.latency_p50_s == 2.0
    assert speed.cpu_s_per_call == 4.0
    assert speed.evals_per_call == 7
    assert speed.peak_bytes == 11
    assert speed.latency_p50_interval_s is None


def test_rtf_is_a_ratio_of_sums_not_a_mean_of_ratios():
    assert speed_of([a_trial(wall_s=1.0, audio_s=1.0), a_trial(wall_s=1.0, audio_s=9.0)]).rtf_ratio == 0.2


def test_stage_shares_add_up_to_one():
    stages = speed_of([a_trial()]).stages
    assert stages is not None
    shares = (stages.frontend_frac, stages.denoise_frac, stages.vocoder_frac, stages.join_frac)
    assert shares == pytest.approx((0.1, 0.6, 0.2, 0.1))
    assert speed_of([a_trial(stages=(0, 0, 0, 0))]).stages is None


def test_a_p95_is_printed_only_with_enough_trials():
    few = speed_of([a_trial()] * 12)
    assert few.latency_p95_s is None
    assert few.p95_reason == "n too small: 59 trials needed, 12 measured"
    assert few.latency_p50_interval_s == (1.0, 1.0)
    enough = speed_of([a_trial(wall_s=float(n)) for n in range(1, 60)])
    assert enough.latency_p95_s == pytest.approx(1 + 58 * 0.95)
    assert enough.p95_reason is None
    assert enough.latency_p95_interval_s == (50.0, 59.0)
    assert (enough.latency_p99_s, enough.p99_reason) == (None, "n too small: 299 trials needed, 59 measured")
    assert enough.latency_p99_interval_s is None
    many = speed_of([a_trial(wall_s=float(n)) for n in range(1, 300)])
    assert many.latency_p99_s == pytest.approx(1 + 298 * 0.99)
    assert many.latency_p99_interval_s == (289.0, 299.0)


@pytest.mark.parametrize("trials", [[], [a_trial(is_warmup=True)]])
def test_no_steady_trial_is_no_speed(trials):
    with pytest.raises(ValueError, match="no steady trial"):
        speed_of(trials)


def test_no_audio_is_no_rtf():
    with pytest.raises(ValueError, match="no audio"):
        speed_of([a_trial(audio_s=0.0)])


def test_latency_by_category():
    trials = [
        a_trial(utterance_id="a", wall_s=1.0),
        a_trial(utterance_id="b", wall_s=5.0),
        a_trial(utterance_id="c", wall_s=3.0),
        a_trial(utterance_id="b", wall_s=500.0, is_warmup=True),
    ]
    speeds = latency_by_category(trials, {"a": "short", "b": "long", "c": "short"})
    assert {name: speed.latency_p50_s for name, speed in speeds.items()} == {"long": 5.0, "short": 2.0}
    with pytest.raises(ValueError, match="utterance c has no category"):
        latency_by_category(trials, {"a": "short", "b": "long"})


def test_latency_by_length_keeps_short_and_long_apart():
    texts = {"a": "Good morning.", "b": "x" * 101, "c": "x" * 40, "d": "x" * 41}
    trials = [
        a_trial(utterance_id=name, wall_s=wall_s) for name, wall_s in zip("abcd", (1.0, 9.0, 3.0, 5.0), strict=True)
    ]
    speeds = latency_by_length(trials, texts)
    found = [(name, speed.num_trials, speed.latency_p50_s) for name, speed in speeds.items()]
    assert found == [("short", 2, 2.0), ("medium", 1, 5.0), ("long", 1, 9.0)]
