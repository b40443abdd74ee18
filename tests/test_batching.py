"""Utterances that share a solve: the plan, and that company changes nothing but rounding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.linalg import norm

from engine.step.batching import plan_batches
from tests.engines import engine, request

TEXTS = ("That was close.", "Turn left at the bridge.", "We walk along the sea in the morning and look for birds.")


@given(
    st.lists(st.integers(1, 3000), max_size=40), st.integers(1, 8), st.floats(0, 0.9)
)  # fmt: skip
def test_every_utterance_is_in_one_batch_of_near_lengths(lengths: list[int], max_batch: int, frac: float) -> None:
    batches = plan_batches(lengths, max_batch, frac)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        own = [lengths[i] for i in batch]
        assert len(own) <= max_batch
        assert min(own) >= (1 - frac) * max(own)


@pytest.mark.parametrize("guidance", [0.0, 2.0])
@pytest.mark.parametrize(("solver", "num_evals"), [("euler_6", 6), ("midpoint_nfe6", 6), ("fitted_3", 3)])
def test_three_lengths_in_one_solve_equal_three_solves(guidance: float, solver: str, num_evals: int) -> None:
    asks = [request(text, utterance_id=str(i)) for i, text in enumerate(TEXTS)]
    overrides = (f"solver={solver}", f"solver.cfg_strength={guidance}")
    with engine(*overrides, "+engine.max_padding_frac=0.9") as ours, engine(*overrides) as alone:
        together = ours.synthesize(asks)
        single = [alone.synthesize([ask])[0] for ask in asks]
        assert ours.facts.proof["num_evals"] == num_evals, "one solve for all three"
    for one, other in zip(together, single, strict=True):
        assert one.num_evals == other.num_evals == num_evals
        assert one.noise_sha256 == other.noise_sha256
        assert one.mel_ND.shape == other.mel_ND.shape
        assert np.abs(one.mel_ND - other.mel_ND).max() < 1e-4
        # The vocoder takes the exponential of the mel: what rounding moved, loud samples show most, so by energy.
        assert norm(other.audio_S) > 3000 * norm(one.audio_S - other.audio_S), "70 dB"


def test_the_front_end_keeps_texts_and_the_proof_says_how_often() -> None:
    with engine() as ours:
        for _ in range(3):
            ours.synthesize([request(TEXTS[0])])
        proof = ours.facts.proof
    assert (proof["text_cache_hits"], proof["reference_cache_hits"], proof["dropped_text_cache_hits"]) == (2, 2, 2)
