"""Composing configurations and building engines for tests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from engine.build import build_engine
from engine.clock import HostClock
from engine.contract import Engine, SynthesisRequest
from engine.voice.recording import load_reference

ROOT = Path(__file__).resolve().parent.parent
REF_TEXT = "We walk to the sea."
# Full width, two blocks: as wide as F5TTS_v1_Base, small enough for a test
WIDE = (
    "model=f5tts_v1_base_random", "model.arch.depth=2", "model.vocab=engine/pocket/vocab.txt", "vocoder=vocos_random",
)  # fmt: skip


def config(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)
    assert isinstance(composed, dict)
    return {str(key): value for key, value in composed.items()}


def engine(*overrides: str) -> Engine:
    return build_engine(config(*overrides), HostClock())


def request(text: str, voice: str = "slt", **changes: Any) -> SynthesisRequest:
    audio_S, rate_hz = load_reference(ROOT / "engine" / "pocket" / f"{voice}.wav")
    fields: Mapping[str, Any] = {
        "utterance_id": "test", "text": text, "ref_audio_S": audio_S, "ref_sample_rate_hz": rate_hz,
        "ref_text": REF_TEXT, "seed": 0, **changes,
    }  # fmt: skip
    return SynthesisRequest(**fields)
