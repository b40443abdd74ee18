"""BigVGAN: its filters and activation by exact values, NVIDIA's own numbers, its files, and its place in a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from engine.contract import ConfigError
from engine.mel import chunk_samples, mel_transform
from engine.vocoders.bigvgan import TAPS, AntiAliased, Snake, half_band
from engine.vocoders.load import load_vocoder
from engine.vocoders.vocos import LoadedVocoder
from tests.engines import config, engine, request

TINY = {
    "num_mels": 4, "upsample_initial_channel": 16, "upsample_rates": [4, 2], "upsample_kernel_sizes": [8, 4],
    "resblock_kernel_sizes": [3, 7], "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5]], "use_tanh_at_final": False,
    "use_bias_at_final": False,
}  # fmt: skip
# Every sixth sample that NVIDIA's generator (BigVGAN 2.4) makes of `waves`
PUBLISHED = (-0.347338, 0.15268, 0.105793, 0.2579, -0.032192, -0.07964, -0.188833, -5.8e-05)
SMALL = ("vocoder=bigvgan_random", "vocoder.generator.upsample_initial_channel=64")
POCKET = (*SMALL, "model.checkpoint=random:0", "model.arch.depth=1", "model.mel_spec_type=bigvgan", "solver=euler_6")


def tiny(checkpoint: Path | str = "random:0", **changes: Any) -> LoadedVocoder:
    settings = {"name": "tiny", "kind": "bigvgan", "checkpoint": str(checkpoint), "generator": {**TINY, **changes}}
    return load_vocoder(settings, "cpu")


def waves(shape: torch.Size, step: float, start: int = 0) -> torch.Tensor:
    count = torch.arange(shape.numel(), dtype=torch.float64)
    return torch.sin(count * step + start).reshape(shape).float()


def published(style: tuple[str, str] = (".weight_g", ".weight_v")) -> dict[str, torch.Tensor]:
    """A file's content as NVIDIA writes it: weight norm in two tensors, the filters as buffers; values by formula."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, value in tiny().decoder.module.named_parameters():  # type: ignore[attr-defined]
        layer, _, kind = name.rpartition(".")
        if kind == "weight":
            shapes |= {f"{layer}.weight_g": (len(value), 1, 1), f"{layer}.weight_v": tuple(value.shape)}
        else:
            shapes[name] = tuple(value.shape)
        if kind == "alpha":
            unit = layer.removesuffix(".act")
            shapes |= {f"{unit}.{part}.filter": (1, 1, TAPS) for part in ("upsample", "downsample.lowpass")}
    state = {}
    for i, name in enumerate(sorted(shapes)):
        shape = torch.Size(shapes[name])
        if name.endswith(".filter"):
            state[name] = half_band().reshape(shape)
        elif name.endswith(".weight_g"):
            state[name.replace(".weight_g", style[0])] = waves(shape, 0.7, i).abs() * 0.6 + 0.2
        else:
            state[name.replace(".weight_v", style[1])] = waves(shape, 0.7, i) * 0.1
    return state


def written(path: Path, state: Mapping[str, torch.Tensor]) -> Path:
    torch.save({"generator": dict(state)}, path)
    return path


@torch.inference_mode()
def decoded(loaded: LoadedVocoder, frames: int = 6) -> torch.Tensor:
    return loaded.decoder.decode(waves(torch.Size((1, 4, frames)), 0.37))[0]


@pytest.mark.parametrize(
    "style",
    [(".weight_g", ".weight_v"), (".parametrizations.weight.original0", ".parametrizations.weight.original1")],
    ids=["weight_norm", "parametrizations"],
)
def test_a_published_file_gives_nvidias_own_samples(tmp_path: Path, style: tuple[str, str]) -> None:
    state = published(style)
    names = {f"conv_pre{style[0]}", f"ups.1.0{style[1]}", f"resblocks.3.convs1.2{style[1]}", f"conv_post{style[0]}",
             "ups.0.0.bias", "resblocks.0.convs2.0.bias", "resblocks.2.activations.5.act.beta",
             "resblocks.2.activations.5.downsample.lowpass.filter", "activation_post.upsample.filter"}  # fmt: skip
    assert names <= state.keys()
    assert "conv_post.bias" not in state
    found = decoded(tiny(written(tmp_path / "bigvgan_generator.pt", state)))
    assert found.shape == (48,)
    assert torch.allclose(found[::6], torch.tensor(PUBLISHED), atol=4e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ups.0.0.weight_v": torch.zeros(16, 8, 4)}, r"ups.0.0.weight\): has shape \(16, 8, 4\).*\(16, 8, 8\)"),
        ({"conv_pre.weight_v": None}, r"conv_pre.weight\): is missing"),
        ({"activation_post.upsample.filter": torch.ones(1, 1, TAPS) / TAPS}, "is not the filter of 12 taps"),
    ],
    ids=["shape", "missing", "filter"],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, change: Mapping[str, Any], says: str) -> None:
    state = {name: value for name, value in {**published(), **change}.items() if value is not None}
    with pytest.raises(ConfigError, match=says):
        tiny(written(tmp_path / "other.pt", state))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"activation": "snake"}, "generator.activation=snake: is not a setting"),
        ({"upsample_rates": [4]}, "upsample_kernel_sizes.*as many as upsample_rates"),
    ],
)
def test_generators_that_are_not_built_are_refused(changes: Mapping[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        tiny(**changes)


def test_either_filter_passes_a_constant_unchanged() -> None:
    assert float(half_band().double().sum()) == pytest.approx(1.0, abs=1e-7)
    assert torch.equal(half_band(), half_band().flip(0))
    unit = AntiAliased(3)
    assert torch.allclose(unit.up.double().sum(-1), torch.ones(2, 1, dtype=torch.float64), atol=1e-7, rtol=0)
    unit.act = nn.Identity()  # type: ignore[assignment]
    constant = torch.tensor([1.0, -2.0, 0.3])[None, :, None].expand(1, 3, 20)
    assert torch.allclose(unit(constant), constant, atol=1e-6, rtol=0)


def test_the_activation_is_x_plus_its_squared_sine() -> None:
    snake = Snake(2)
    snake.alpha.data, snake.beta.data = torch.tensor([2.0, 1.0]).log(), torch.tensor([4.0, 0.5]).log()
    x = torch.linspace(-3, 3, 7)
    found = snake(x.expand(1, 2, 7))[0]
    assert torch.allclose(found[0], x + (2 * x).sin() ** 2 / 4, atol=1e-6)
    assert torch.allclose(found[1], x + x.sin() ** 2 * 2, atol=1e-6)


def test_overtones_above_the_band_do_not_fold_back() -> None:
    """Squaring a tone at 0.34 of the rate makes one at 0.68, which is heard at 0.32 where nothing holds it back."""
    x = 0.5 * torch.sin(2 * np.pi * 0.34 * torch.arange(500.0))[None, None]

    def folded_level(module: nn.Module) -> float:
        return float(torch.fft.rfft(module(x)[0, 0])[160].abs())

    with torch.no_grad():
        assert folded_level(AntiAliased(1)) < 0.25 * folded_level(Snake(1)), "12 dB, as far as 12 taps reach"


@pytest.mark.parametrize("frames", [1, 5, 40])
def test_audio_is_as_long_as_its_frames_and_bounded(frames: int) -> None:
    audio = decoded(tiny(), frames)
    assert len(audio) == frames * 8 == chunk_samples(frames, {"kind": "bigvgan"}, 8)
    assert torch.isfinite(audio).all()
    assert audio.abs().max() <= 1
    assert torch.equal(audio, decoded(tiny(), frames)), "drawn from its seed"
    assert not torch.equal(audio, decoded(tiny("random:1"), frames))


def test_mel_equals_upstreams() -> None:
    from f5_tts.model.modules import MelSpec

    wave = torch.randn(1, 24000, generator=torch.Generator().manual_seed(0)) * 0.1
    mel = mel_transform(config("model.mel_spec_type=bigvgan")["model"])(wave)
    assert mel.shape == (1, 100, 24000 // 256)
    assert torch.allclose(mel, MelSpec(mel_spec_type="bigvgan")(wave), atol=2e-4)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (SMALL, "cannot speak the vocos mel that model.name=pocket was trained on; use model=f5tts_base_bigvgan"),
        (["model.mel_spec_type=bigvgan"], "cannot speak the bigvgan mel.*or a bigvgan vocoder"),
        (["model.mel_spec_type=world"], "must be vocos or bigvgan"),
        ([*POCKET, "+vocoder.runtime=compiled"], "must be eager with vocoder.kind=bigvgan"),
        ([*POCKET, "vocoder.generator.upsample_rates=[4,4,2,2,2,1]"], "takes 100 bands every 128 samples"),
        (["vocoder.kind=wavernn"], "must be vocos or bigvgan"),
    ],
)
def test_a_vocoder_that_cannot_speak_the_models_mel_is_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        engine(*overrides)


def test_an_engine_speaks_through_it_as_upstream_does() -> None:
    ask = request("That was close.")
    with engine(*POCKET) as ours, engine(*POCKET, "engine=upstream") as peer:
        mine, theirs = ours.synthesize([ask])[0], peer.synthesize([ask])[0]
        blocks = [block.audio_S for block in ours.stream(ask)]
        assert ours.facts.vocoder.startswith("bigvgan_random:")
        assert ours.facts.random_weights
    assert len(mine.audio_S) == len(theirs.audio_S) == len(mine.mel_ND) * 256
    assert np.abs(mine.mel_ND - theirs.mel_ND).max() < 1e-3
    assert np.abs(mine.audio_S - theirs.audio_S).max() < 1e-3
    assert np.abs(mine.audio_S).max() > 0.01
    assert np.array_equal(np.concatenate(blocks), mine.audio_S)
