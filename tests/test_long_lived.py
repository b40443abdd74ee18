"""What a service keeps is bounded, and an engine may be closed twice."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import Engine
from engine.frontend import REFERENCES_KEPT, FrontEnd
from engine.step.kept import KeptTables
from tests.engines import ROOT, config, engine, request


def made(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((length, 2), float(length)), torch.zeros(length, 2)


@given(st.lists(st.integers(1, 40), max_size=60))
def test_tables_of_every_length_are_right_and_never_weigh_more_than_allowed(lengths: list[int]) -> None:
    tables = KeptTables(made, max_bytes=1000)
    for length in lengths:
        cos, sin = tables.of(length)
        assert torch.equal(cos, made(length)[0])
        assert torch.equal(sin, made(length)[1])
        assert tables.num_bytes <= max(1000, 16 * length)
        assert tables.of(length)[0] is cos


def test_every_denoiser_that_keeps_tables_bounds_them() -> None:
    paths = (ROOT / "engine" / "backends").glob("*/denoiser.py")
    sources = {path.parent.name: path.read_text("utf-8") for path in paths}
    assert {name for name, text in sources.items() if "KeptTables(" in text} == {"eager", "onnx", "tiles"}
    assert not [name for name, text in sources.items() if "dict[int, tuple[torch.Tensor" in text]


def test_a_front_end_forgets_the_voice_that_was_used_longest_ago() -> None:
    def mel(wave: torch.Tensor) -> torch.Tensor:
        return torch.zeros(1, 100, wave.shape[-1] // 256 + 1)

    front = FrontEnd({token: i for i, token in enumerate(" abcdefghijklmnopqrstuvwxyzWT.")}, mel, 24000, 256)
    ask = request("the sea.")
    for i in range(REFERENCES_KEPT + 5):
        front.prepare(request("the sea.", ref_audio_S=ask.ref_audio_S * np.float32(1 - i / 1000)), 0.1)
        front.prepare(ask, 0.1)
    assert len(front._references) == REFERENCES_KEPT
    hits = front.proof()["reference_cache_hits"]
    front.prepare(ask, 0.1)
    assert front.proof()["reference_cache_hits"] == hits + 1, "what is used stays"


@pytest.mark.parametrize("name", ["fp32", "upstream"])
def test_closing_twice_is_closing_once(name: str) -> None:
    small = ("model.checkpoint=random:0", "model.arch.depth=1", "vocoder.checkpoint=random:0")
    built: Engine = engine(f"engine={name}", *small)
    with built:
        built.close()
    built.close()
    with pytest.raises(AttributeError):
        built.synthesize([request("The sea.")])
    assert config()["engine"]["name"] == "fp32"
