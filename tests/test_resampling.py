"""Every sample rate is brought to the model's in bounded time and memory, at common rates with upstream's bits."""

import resource

import numpy as np
import pytest
import torch
import torchaudio

from engine.contract import InvalidRequest
from engine.voice.resampling import MAX_KERNEL_VALUES, NONE, SOXR, TORCHAUDIO, affordable, kernel_values, resampler_of
from tests.engines import engine, request
from tests.test_frontend import front_end

COMMON = (8000, 11025, 12000, 16000, 22050, 32000, 44100, 48000, 88200, 96000, 176400, 192000, 384000)
COPRIME = (44101, 47999, 22051, 23999, 191999)


def tone(rate_hz: int, seconds: float = 1.5) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


@pytest.mark.parametrize("rate_hz", COMMON)
def test_common_rates_are_left_to_torchaudio(rate_hz: int) -> None:
    audio_S = tone(rate_hz)
    same_S, same_hz = affordable(audio_S, rate_hz, 24000)
    assert same_S is audio_S
    assert same_hz == rate_hz
    assert resampler_of(rate_hz, 24000) == TORCHAUDIO
    kernel = torchaudio.transforms.Resample(rate_hz, 24000).kernel
    assert kernel.numel() == kernel_values(rate_hz, 24000)
    assert kernel.numel() < 60_000
    made = front_end()._make_reference(audio_S, rate_hz, 0.1)
    theirs = torchaudio.transforms.Resample(rate_hz, 24000)(torch.from_numpy(audio_S)[None])
    assert torch.equal(made.mel_ND, front_end()._make_reference(theirs[0].numpy(), 24000, 0.1).mel_ND)


@pytest.mark.parametrize("rate_hz", COPRIME)
def test_rates_without_a_common_factor_take_no_more_than_others(rate_hz: int) -> None:
    assert kernel_values(rate_hz, 24000) > 100 * MAX_KERNEL_VALUES
    assert resampler_of(rate_hz, 24000) == SOXR
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = front_end()._make_reference(tone(rate_hz, 12.0), rate_hz, 0.1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "in KiB"
    expected = front_end()._make_reference(tone(24000, 12.0), 24000, 0.1)
    assert abs(made.frames - expected.frames) <= 1
    inside = slice(20, 1000)
    assert (made.mel_ND[inside] - expected.mel_ND[inside])[:, :20].abs().max() < 0.05


def test_the_models_own_rate_is_left_alone_and_no_rate_is_refused() -> None:
    assert resampler_of(24000, 24000) == NONE
    with pytest.raises(InvalidRequest, match="is no sample rate"):
        affordable(tone(24000), 0, 24000)
    with pytest.raises(InvalidRequest, match="1 Hz, 4000 to"):
        front_end().prepare(request("Turn left.", ref_audio_S=np.full(12, 0.1), ref_sample_rate_hz=1), 0.1)


@pytest.mark.parametrize("rate_hz", [44101, 44100])
def test_upstreams_engine_gets_the_same_clip_at_such_rates(rate_hz: int) -> None:
    audio_S, _ = affordable(request("x").ref_audio_S, 24000, 44101) if rate_hz == 44101 else (tone(44100), 0)
    ask = request("Turn left at the bridge.", ref_audio_S=audio_S, ref_sample_rate_hz=rate_hz)
    with engine("engine=upstream", "solver=euler_5") as peer, engine("engine=fp32", "solver=euler_5") as ours:
        theirs, mine = peer.synthesize([ask])[0], ours.synthesize([ask])[0]
    assert mine.noise_sha256 == theirs.noise_sha256
    assert np.abs(mine.mel_ND - theirs.mel_ND).max() <= 1e-4
