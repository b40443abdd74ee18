"""Streams: what a listener gets from a replayed trace, exact joins block by block, cuts, the engines' own streams."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import ConfigError, UnsupportedEngine
from engine.postprocess import FADES, Fade, Joiner, join_chunks
from engine.text.streaming import StreamRule, stream_rule
from metrics.speed.streaming import first_audible_s, leading_silence_s, play
from tests.engines import config, engine, request

TEXT = "The old clock is wrong. Turn left at the bridge, please. Nobody had the answer to the first test."


def test_blocks_in_time_leave_no_gap() -> None:
    heard = play([0.5, 0.9, 2.0], [1.0, 2.0, 1.0])
    assert heard.starts_s == (0.5, 1.5, 3.5)
    assert (heard.num_underruns, heard.gap_s, heard.wait_s) == (0, 0.0, 0.0)


def test_a_late_block_is_an_underrun_as_long_as_the_silence() -> None:
    heard = play([0.5, 2.25, 2.5, 9.0], [1.0, 1.0, 1.0, 1.0])
    assert heard.starts_s == (0.5, 2.25, 3.25, 9.0)
    assert heard.gaps_s == (0.75, 0.0, 4.75)
    assert (heard.num_underruns, heard.gap_s) == (2, 5.5)
    assert heard.wait_s == 5.5
    assert play([0.5, 2.25, 2.5, 9.0], [1.0] * 4, delay_s=heard.wait_s).num_underruns == 0


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=12))
def test_the_wait_is_the_least_delay_without_a_gap(trace: list[tuple[int, int]]) -> None:
    arrivals = np.cumsum([step for step, _ in trace]).tolist()
    durations = [length for _, length in trace]
    wait = play(arrivals, durations).wait_s
    assert play(arrivals, durations, wait).num_underruns == 0
    assert wait == 0 or play(arrivals, durations, wait - 0.5).num_underruns > 0


def test_silence_before_the_first_sound_is_counted_wherever_it_is_played() -> None:
    heard = play([1.0, 3.0], [1.0, 1.0])
    assert first_audible_s(heard, [1.0, 1.0], 0.25) == 1.25
    assert first_audible_s(heard, [1.0, 1.0], 1.5) == 3.5, "after the gap"
    assert first_audible_s(heard, [1.0, 1.0], None) is None


def test_a_click_below_the_threshold_is_not_sound() -> None:
    audio_S = np.zeros(24000, dtype=np.float32)
    audio_S[100] = 0.05  # one sample in a window of 240: RMS 0.003, -49.8 dB
    assert leading_silence_s(audio_S, 24000) is None
    audio_S[4800:] = 0.0101
    assert leading_silence_s(audio_S, 24000) == 0.2
    assert leading_silence_s(audio_S, 24000, threshold_db=-60) == 0.0
    assert leading_silence_s(np.zeros(0, dtype=np.float32), 24000) is None


@pytest.mark.parametrize("wrong", [([], []), ([1.0], [1.0, 2.0]), ([2.0, 1.0], [1.0, 1.0]), ([1.0], [-1.0])])
def test_traces_that_cannot_be_are_refused(wrong: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="arrivals"):
        play(*wrong)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(0, 25), st.sampled_from(sorted(FADES)))
def test_joined_blocks_are_the_whole_bit_by_bit(lengths: list[int], fade_samples: int, kind: str) -> None:
    chance = np.random.default_rng(0)
    waves = [chance.standard_normal(n).astype(np.float32) for n in lengths]
    joiner, fade = Joiner(Fade(fade_samples, kind)), Fade(fade_samples, kind)
    blocks = [*[joiner.add(wave) for wave in waves], joiner.finish()]
    assert np.array_equal(np.concatenate(blocks), join_chunks(waves, fade))


def test_fades_keep_what_they_promise() -> None:
    ones, other = np.ones(100, dtype=np.float32), np.zeros(100, dtype=np.float32)
    assert np.allclose(join_chunks([ones, ones], Fade(40, "linear")), 1.0), "level of equal signals"
    leaving = join_chunks([ones, other], Fade(40, "equal_power"))[60:100]
    coming = join_chunks([other, ones], Fade(40, "equal_power"))[60:100]
    assert np.allclose(leaving**2 + coming**2, 1.0, atol=1e-6), "power of unrelated ones"
    assert np.allclose(join_chunks([ones, other], Fade(3, "linear"))[97:100], [1, 0.5, 0])


def test_the_first_chunk_ends_at_the_last_boundary_that_fits() -> None:
    assert StreamRule(60).split(TEXT, 200) == [
        "The old clock is wrong. Turn left at the bridge, please.", "Nobody had the answer to the first test.",
    ]  # fmt: skip
    assert StreamRule(25).split(TEXT, 200)[0] == "The old clock is wrong."
    assert StreamRule(12).split(TEXT, 200)[0] == "The old clock is wrong.", "a clause is never cut"
    assert StreamRule().split(TEXT, 60) == StreamRule(60).split(TEXT, 60), "upstream's greedy rule at equal bounds"


def test_no_chunk_is_so_short_that_it_would_be_spoken_slowly() -> None:
    assert StreamRule(10).split("Yes, no. We walk to the sea. Now.", 200) == ["Yes, no. We walk to the sea. Now."]


def test_growing_chunks_are_bounded_by_the_one_before() -> None:
    text = " ".join(["We walk to the sea."] * 20)
    sizes = [len(chunk) for chunk in StreamRule(20, 2.0).split(text, 150)]
    assert sizes[0] == 19
    assert all(b <= 2 * a for a, b in itertools.pairwise(sizes))
    assert max(sizes) <= 150
    assert sum(sizes) + len(sizes) - 1 == len(text)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"first_chunk_max_bytes": 5}, "whole number from 10"),
        ({"growth_ratio": 0.5}, "from 1"),
        ({"first_chunk_max_bytes": None, "growth_ratio": 2.0}, "beside first_chunk_max_bytes"),
    ],
)
def test_wrong_rules_are_refused(change: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        stream_rule({"name": "x", "first_chunk_max_bytes": 40, "growth_ratio": None, **change})


def test_streamed_audio_is_that_of_the_call_where_the_cuts_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.text.chunks.WINDOW_S", 4.5)  # upstream's 22 s would take twenty seconds of speech
    ask = request(TEXT)
    overrides = ("stream=upstream_chunks", "+engine.max_batch=1", "solver=euler_5")
    with engine(*overrides) as ours:
        whole, blocks = ours.synthesize([ask])[0], list(ours.stream(ask))
    assert whole.num_chunks == len(blocks) == 3
    assert np.array_equal(np.concatenate([block.audio_S for block in blocks]), whole.audio_S)
    assert [block.num_evals for block in blocks] == [5, 5, 5]
    assert all(block.audio_S.dtype == np.float32 for block in blocks)


def test_the_first_block_comes_before_the_second_chunk_is_solved() -> None:
    with engine("solver=euler_5", "stream.first_chunk_max_bytes=25") as ours:
        blocks = ours.stream(request(TEXT))
        first = next(blocks)
        assert ours.facts.proof["num_evals"] == first.num_evals == 5
        rest = list(blocks)
        assert (ours.facts.proof["num_evals"], [block.chunk for block in rest]) == (10, [1])
        one = list(ours.stream(request("We walk to the sea.")))
        assert len(one) == 1, "one chunk has nothing to hold back"


def test_upstreams_stream_is_slices_of_a_finished_chunk() -> None:
    ask = request("That was close.")
    with engine("engine=upstream", "solver=euler_5") as peer:
        blocks, whole = list(peer.stream(ask)), peer.synthesize([ask])[0]
    assert [block.num_evals for block in blocks] == [5] + [0] * (len(blocks) - 1)
    assert {len(block.audio_S) for block in blocks[:-1]} == {2048}
    assert np.array_equal(np.concatenate([block.audio_S for block in blocks]), whole.audio_S)


def test_equal_power_is_a_setting_of_ours_only() -> None:
    with engine("reference.cross_fade=equal_power") as ours:
        assert ours._parts.fade == Fade(3600, "equal_power")
    with pytest.raises(UnsupportedEngine, match="linear"):
        engine("engine=upstream", "reference.cross_fade=equal_power")
    with pytest.raises(ConfigError, match="linear, equal_power"):
        engine("reference.cross_fade=cubic")
    assert config()["reference"]["cross_fade"] == "linear"
