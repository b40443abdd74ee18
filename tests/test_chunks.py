"""How texts are cut: upstream's rule, a bound in seconds that holds, and a note where a chunk leaves the window."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract import ConfigError, InvalidRequest, UnsupportedEngine
from engine.text.chunks import Pace, beyond_window, chunk_bound, chunks_of, pace_of
from experiments.gate import overrides_of
from experiments.measuring.validate import validate
from experiments.settings.compose import compose_config
from experiments.workload.requests import load_workload
from tests.engines import engine, request

LONG = "We walk to the sea and look for birds " * 20
WORDS = st.lists(
    st.text("abcdefghij", min_size=1, max_size=9) | st.text("你好世界", min_size=1, max_size=4), min_size=1, max_size=60
)


@settings(max_examples=150, deadline=None)
@given(WORDS, st.sampled_from([" ", ", ", ". ", "。"]), st.floats(4, 20), st.floats(0.7, 1.5), st.floats(1.0, 12.0))
def test_a_bound_holds_for_every_chunk_and_loses_no_letter(
    words: list[str], joint: str, bound: float, speed: float, ref_s: float
) -> None:
    text = joint.join(words)
    pace = Pace("We walk to the sea, and look for birds.", ref_s, speed)
    ask = replace(request(text), speed_ratio=speed)
    try:
        chunks = chunks_of(ask, pace, bound)
    except InvalidRequest:
        assert max(pace.seconds_of(word) for word in text.split()) > bound
        return
    assert "".join("".join(chunks).split()) == "".join(text.split())
    assert max(pace.seconds_of(chunk) for chunk in chunks) <= bound + 0.02, "one frame is 0.01 s"
    assert chunks_of(ask, pace, None) == chunks_of(ask, pace, 1e9)


def test_the_engine_speaks_in_chunks_of_that_length() -> None:
    ask = request("We walk to the sea and look for birds in the morning")
    with engine("solver=euler_5") as whole, engine("solver=euler_5", "text.max_chunk_s=2") as cut:
        assert whole.synthesize([ask])[0].num_chunks == 1
        spoken = cut.synthesize([ask])[0]
    expected = chunks_of(ask, pace_of(ask), 2.0)
    assert spoken.num_chunks == len(expected) >= 2
    with pytest.raises(InvalidRequest, match=r"text.max_chunk_s=0.5: a word of test takes longer"):
        chunks_of(request("Incomprehensibilities"), pace_of(ask), 0.5)


def test_upstream_is_not_told_how_to_cut() -> None:
    with pytest.raises(UnsupportedEngine, match=r"its own rule; use text.max_chunk_s=null"):
        engine("engine=upstream", "text.max_chunk_s=8")


def test_chunks_beyond_the_window_stand_in_the_record() -> None:
    long, short = request(LONG), request("Turn left.")
    assert len(beyond_window(long, None)) == 1
    assert beyond_window(long, None)[0] > 22 - 1.5
    assert beyond_window(long, 10) == beyond_window(short, None) == []
    workload = load_workload(compose_config(["workload=smoke"]))
    assert "chunks_beyond_window_s" not in workload.describe()
    described = replace(workload, requests=(replace(long, utterance_id="en03"), workload.requests[1])).describe()
    assert list(described["chunks_beyond_window_s"]) == ["en03"]


@pytest.mark.parametrize("value", ["0", "-3", "true", "long", "[1]", "1e400", ".1"])
def test_a_bound_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"text.max_chunk_s=.*(must be a number|is not a finite number)"):
        validate(compose_config([f"text.max_chunk_s={value}", "workload=smoke"]))


def test_what_was_stored_before_there_was_a_bound_still_counts() -> None:
    config: dict[str, Any] = compose_config(["workload=smoke"])
    with_bound = compose_config(["workload=smoke", "text.max_chunk_s=8"])
    now = load_workload(config).identity_sha256
    assert load_workload(with_bound).identity_sha256 != now
    assert compose_config(overrides_of(with_bound))["text"] == {"max_chunk_s": 8}
    del config["text"]
    validate(config)
    assert chunk_bound(config) is None
    assert load_workload(config).identity_sha256 == now
