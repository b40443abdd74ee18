"""Every conf/vocoder/*.yaml decodes as its configuration says, or is refused with the way out."""

from typing import Any

import pytest
import torch

from engine.contract import ConfigError, UnsupportedEngine
from engine.mel import RUNTIMES, chunk_samples
from engine.vocoders.load import load_vocoder
from experiments.scoring.audio import expected_samples
from metrics.record import Utterance
from tests.engines import ROOT, config

VOCODERS = sorted(path.stem for path in (ROOT / "conf" / "vocoder").glob("*.yaml"))


def small(settings: dict[str, Any]) -> dict[str, Any]:
    """One block of Vocos, a twelfth of BigVGAN's channels: quick to draw, to export and to compile."""
    if settings["kind"] == "vocos":
        return settings | {"backbone": settings["backbone"] | {"num_layers": 1}}
    return settings | {"generator": settings["generator"] | {"upsample_initial_channel": 128}}


@pytest.mark.parametrize("name", VOCODERS)
def test_a_vocoder_decodes_by_its_runtime_as_many_samples_as_its_rule_says(name: str) -> None:
    settings = small(config(f"vocoder={name}")["vocoder"]) | {"checkpoint": "random:3"}
    try:
        loaded = load_vocoder(settings, "cpu")
    except UnsupportedEngine as refusal:
        pytest.skip(refusal.reason)
    assert (loaded.name, loaded.random, loaded.sha256) == (name, True, "random:3")
    for frames in (9, 30):
        mel = torch.randn(1, 100, frames, generator=torch.Generator().manual_seed(frames)) - 4
        audio = loaded.decoder.decode(mel)
        assert audio.shape == (1, chunk_samples(frames, settings, 256))
        assert torch.isfinite(audio).all()
    runtime = settings.get("runtime", "eager")
    assert runtime in RUNTIMES[settings["kind"]]
    assert loaded.decoder.proof()["runtime"] == runtime


@pytest.mark.parametrize("name", VOCODERS)
def test_weights_that_are_not_here_are_refused_with_the_line_that_fetches_them(name: str) -> None:
    settings = config(f"vocoder={name}")["vocoder"]
    source = settings["checkpoint"]
    if not source.startswith("hub:"):
        pytest.skip(f"{source} is no file of the hub")
    with pytest.raises(ConfigError, match="hf download"):
        load_vocoder(settings | {"checkpoint": source + ".elsewhere"}, "cpu")


@pytest.mark.parametrize(("name", "samples"), [("vocos", (500 - 3) * 256), ("bigvgan_random", 500 * 256)])
def test_how_long_audio_must_be_follows_the_vocoder(name: str, samples: int) -> None:
    utterance = Utterance(
        utterance_id="a", category="short", text="x", sample_rate_hz=24000, num_samples=0, num_frames=500,
        num_chunks=3, noise_sha256=None, audio_sha256="", audio_path="a.wav", mel_path="a.npy",
    )  # fmt: skip
    assert expected_samples(utterance, config(f"vocoder={name}")) == samples - 2 * int(0.15 * 24000)
