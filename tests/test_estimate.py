"""How long it may take: said before anything is measured, and corrected by what is."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from engine.contract import SynthesisRequest
from experiments.common.estimate import SCORING_S_PER_SENTENCE, START_S, expected_s, num_frames, product_flop_per_s
from experiments.common.progress import Board, Planned, expected_text
from experiments.settings.compose import compose_config

RATE_HZ, HOP = 24000, 256


def request_of(text: str, ref_text: str, **changes: float) -> SynthesisRequest:
    audio_S = np.zeros(HOP * 100, dtype=np.float32)  # 100 frames
    return SynthesisRequest(
        utterance_id="a", text=text, ref_audio_S=audio_S, ref_sample_rate_hz=RATE_HZ, ref_text=ref_text, **changes
    )


@pytest.mark.parametrize(
    ("request_", "frames"),
    [
        (request_of("abcdefgh", "abcd"), 300),
        (request_of("abcd", "abcd", speed_ratio=2.0), 150),
        (request_of("abcd", "abcd", num_frames=37), 137),
        (request_of("ñandú", "abcdefg"), 200),  # seven bytes each
    ],
)
def test_frames_follow_upstreams_rule(request_: SynthesisRequest, frames: int) -> None:
    assert num_frames(request_, {"sample_rate_hz": RATE_HZ, "hop_samples": HOP}) == frames


def test_a_guess_grows_with_calls_and_evaluations_and_a_gpu_has_none() -> None:
    config, requests = compose_config([]), [request_of("abcd", "abcd")]
    fixed_s = START_S + SCORING_S_PER_SENTENCE
    once, twice = (expected_s(config, requests, calls, 7) for calls in (10, 20))
    dearer = expected_s(config, requests, 10, 14)
    assert once is not None
    assert once > fixed_s
    assert twice == pytest.approx(fixed_s + 2 * (once - fixed_s))
    assert dearer == pytest.approx(twice)
    assert product_flop_per_s() > 1e8
    assert expected_s({**config, "device": {"kind": "cuda", "threads": None}}, requests, 10, 7) is None


@pytest.mark.parametrize(
    ("guesses", "text"),
    [
        ([40.0, 32.0], "2 variants, about 72 s here"),
        ([320.0, 280.0], "2 variants, about 10 min here"),
        ([12.4], "1 variant, about 12 s here"),
        ([12.4, None], "2 variants; how long, the first will show"),
    ],
)
def test_the_plan_is_said_in_words(guesses: list[float | None], text: str) -> None:
    plans = [Planned(label="a", num_trials=1, num_evals=1, expected_s=guess) for guess in guesses]
    assert expected_text(plans) == text


def test_variants_are_weighed_by_their_guesses(tmp_path: Path) -> None:
    """The first took twice its guess, so the second is expected to."""
    console = Console(file=io.StringIO(), width=160, force_terminal=True, color_system=None)
    plans = [
        Planned(label=name, num_trials=4, num_evals=7, expected_s=guess) for name, guess in (("a", 10.0), ("b", 30.0))
    ]
    times = iter([0.0, 20.0, 20.0])
    with Board(plans, console=console, now_s=lambda: next(times)) as board:
        board.start(0)
        board.finish(0, "ok", None)
        assert board._estimate.left_s(0.0, 0.0) == pytest.approx(60.0)
