"""The pipeline is the real one: with the same noise our fp32 engine equals upstream's own code."""

import threading
from typing import Any

import numpy as np
import pytest
import torch

from engine.build import build_engine
from engine.clock import HostClock
from engine.noise import noise_key
from tests.engines import REF_TEXT, WIDE, config, engine, request

MEL_TOLERANCE = 1e-4
# Three chunks come from a reference that speaks 3.6 times too slowly for the model: 1,000 frames for a few words, where
# float32 rounding grows to 1.3e-4. What is tested there is where chunks begin and end and how they are joined.
CHUNKED_TOLERANCE = 5e-4


@pytest.mark.parametrize("solver", ["euler_7", "euler_8", "midpoint_6", "euler_32"])
def test_pocket_mel_and_audio_equal_upstreams(solver: str) -> None:
    ask = request("Turn left at the bridge.")
    with engine("engine=upstream", f"solver={solver}") as peer, engine("engine=fp32", f"solver={solver}") as ours:
        theirs, mine = peer.synthesize([ask])[0], ours.synthesize([ask])[0]
        assert not peer.facts.proof["tf32_allowed"]
        assert not ours.facts.proof["tf32_allowed"]
    assert mine.noise_sha256 == theirs.noise_sha256
    assert mine.num_evals == theirs.num_evals
    assert mine.mel_ND.shape == theirs.mel_ND.shape
    assert np.abs(mine.mel_ND - theirs.mel_ND).max() <= MEL_TOLERANCE
    assert np.abs(mine.audio_S - theirs.audio_S).max() <= MEL_TOLERANCE
    assert np.sqrt(np.mean(mine.audio_S**2)) > 0.01, "equal silence would prove nothing"


def test_full_width_random_model_equals_upstreams() -> None:
    """Every parameter is drawn: upstream's own initialisation outputs zeros, which any code equals."""
    ask = request("That was close.")
    with engine("engine=upstream", *WIDE) as peer, engine("engine=fp32", *WIDE) as ours:
        theirs, mine = peer.synthesize([ask])[0], ours.synthesize([ask])[0]
        assert ours.facts.random_weights
    assert np.abs(theirs.mel_ND).max() > 1
    assert np.abs(mine.mel_ND - theirs.mel_ND).max() <= MEL_TOLERANCE
    scale = np.abs(theirs.audio_S).max()
    assert np.abs(mine.audio_S - theirs.audio_S).max() <= MEL_TOLERANCE * max(scale, 1)


@pytest.mark.parametrize("cfg_strength", [0.0, 2.0])
def test_equal_with_and_without_guidance(cfg_strength: float) -> None:
    ask, guidance = request("That was close."), f"solver.cfg_strength={cfg_strength}"
    with engine("engine=upstream", guidance) as peer, engine("engine=fp32", guidance) as ours:
        difference = peer.synthesize([ask])[0].mel_ND - ours.synthesize([ask])[0].mel_ND
    assert np.abs(difference).max() <= MEL_TOLERANCE


class SeededModel:
    """Upstream's CFM with each chunk's noise keyed as ours: its thread pool lets chunks race for one generator."""

    def __init__(self, cfm: Any, chunks: list[str]):
        self.cfm, self.chunks, self.lock = cfm, chunks, threading.Lock()

    def sample(self, **kwargs: Any) -> Any:
        text = "".join(kwargs["text"][0])
        index = next(i for i, chunk in enumerate(self.chunks) if text.endswith(chunk))
        with self.lock:
            return self.cfm.sample(**kwargs, seed=noise_key("test", 0, kwargs["duration"], index))


THREE_CHUNKS = "The old clock is wrong. Turn left at the bridge, please. Nobody had the answer to the first test."


@pytest.mark.parametrize(
    ("text", "num_chunks"), [("Turn left at the bridge, please.", 1), (THREE_CHUNKS, 3)], ids=["one", "three"]
)
@pytest.mark.parametrize("level", [1.0, 0.3], ids=["loud", "quiet"])
def test_chunks_durations_loudness_and_joins_equal_infer_process(
    text: str, num_chunks: int, level: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from f5_tts.infer import utils_infer

    ask = request(text)
    # A long reference leaves little room for text, so three sentences become three chunks
    reference = np.tile(ask.ref_audio_S, 5) * np.float32(level)
    ref_text = " ".join([REF_TEXT[:-1] + "."] * 5)[: 29 * 5 - 1] if num_chunks == 1 else "We walk along a river."
    ask = request(text, ref_audio_S=reference, ref_text=ref_text)
    wave = torch.from_numpy(reference)[None]
    monkeypatch.setattr(utils_infer.torchaudio, "load", lambda path: (wave, 24000))  # only the file is replaced
    with engine("engine=upstream") as peer, engine("engine=fp32") as ours:
        cfm, vocoder = peer._model._cfm, peer._vocoder.inner
        mine = ours.synthesize([ask])[0]
        from engine.text.chunks import max_chunk_bytes, split_text

        chunks = split_text(text, max_chunk_bytes(ref_text, len(reference) / 24000, 1.0))
        theirs, rate_hz, mel_DN = utils_infer.infer_process(
            "unused.wav", ref_text, text, SeededModel(cfm, chunks), vocoder, nfe_step=7, device="cpu", progress=None
        )
    assert mine.num_chunks == num_chunks
    assert mine.sample_rate_hz == rate_hz
    assert len(mine.audio_S) == len(theirs)
    tolerance = MEL_TOLERANCE if num_chunks == 1 else CHUNKED_TOLERANCE
    assert np.abs(mine.mel_ND - mel_DN.T).max() <= tolerance
    assert np.abs(mine.audio_S - theirs).max() <= tolerance
    assert mine.audio_S.dtype == np.float32


def test_upstreams_noise_is_drawn_on_the_cpu_whatever_its_device_is_and_nothing_stays_changed() -> None:
    from f5_tts.model import cfm

    from engine.upstream.peer import own_noise

    before = torch.get_rng_state()
    with own_noise(torch.device("cpu")):
        torch.default_generator.manual_seed(3)
        # A tensor of "meta" takes nothing from any generator, as one of a GPU takes nothing from the CPU's
        drawn = cfm.torch.randn(torch.tensor(5), 4, device=torch.device("meta"), dtype=torch.float32)
        after = torch.get_rng_state()
        torch.default_generator.manual_seed(3)
        torch.randn(5, 4)
        assert torch.equal(after, torch.get_rng_state())
        assert (drawn.shape, drawn.device.type) == ((5, 4), "meta")
    assert cfm.torch is torch
    assert torch.equal(before, torch.get_rng_state())


class CountedClock(HostClock):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def now_s(self) -> float:
        self.calls.append("now")
        return super().now_s()

    def sync(self) -> None:
        self.calls.append("sync")


def test_upstreams_stages_end_when_the_device_has_finished() -> None:
    clock = CountedClock()
    with build_engine(config("engine=upstream", "solver=euler_5"), clock) as peer:
        stages = peer.synthesize([request("That was close.")])[0].stages
    assert clock.calls == ["sync", "now"] * 6  # the whole call, the solve and the vocoder, both ends of each
    assert min(stages.denoise_s, stages.vocoder_s, stages.frontend_s) > 0
