"""`vocoder=vocos_cuda` as far as a machine without a card can run it: its form in real arithmetic, padded and not, is
Vocos', and one recorded graph serves a class of lengths."""

from typing import Any

import pytest
import torch

from engine.contract import ConfigError, UnsupportedEngine
from engine.step.batching import length_class
from engine.vocoders.cuda import CudaVocos, vocos_for_cuda
from engine.vocoders.load import load_vocoder
from engine.vocoders.real import TOLERANCE, MaskedVocos, check_real, own_frames
from tests.engines import config, engine
from tests.recording import TracingRecorder


def eager(name: str = "vocos") -> Any:
    return load_vocoder(config(f"vocoder={name}")["vocoder"], "cpu").decoder.module


def spoken(frames: int, rows: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(frames)
    return torch.randn(rows, 100, frames, generator=generator) * 2 - 4


@pytest.mark.parametrize("name", ["vocos", "vocos_random"], ids=["pocket", "full-size"])
@pytest.mark.parametrize("frames", [9, 100, 333])
def test_the_real_form_is_vocos_also_with_as_much_padding_again(name: str, frames: int) -> None:
    vocos = eager(name)
    gap = check_real(vocos, MaskedVocos(vocos).eval(), frames)
    assert gap <= TOLERANCE * float(vocos.decode(spoken(frames)).abs().max())


@torch.inference_mode()
def test_rows_of_a_batch_are_what_each_is_alone_whatever_lies_in_their_padding() -> None:
    vocos = eager()
    form, lengths = MaskedVocos(vocos).eval(), (5, 90, 128)
    mel = torch.full((3, 100, 128), 50.0)
    for row, frames in enumerate(lengths):
        mel[row, :, :frames] = spoken(frames)[0]
    audio = form(mel, own_frames(torch.tensor(lengths), 128))
    for row, frames in enumerate(lengths):
        alone = vocos.decode(spoken(frames))[0]
        assert (audio[row, : len(alone)] - alone).abs().max() <= TOLERANCE * float(alone.abs().max())


@torch.inference_mode()
def test_a_graph_a_class_serves_every_length_of_it_and_nothing_is_left_of_the_longer_one_before() -> None:
    vocos, recorder = eager(), TracingRecorder()
    module = MaskedVocos(vocos).eval()
    ours = CudaVocos(module, module, None, recorder, 2)
    for frames in (120, 65, 100, 64, 120, 30):
        expected = vocos.decode(spoken(frames))
        found = ours.decode(spoken(frames))
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= TOLERANCE * float(expected.abs().max())
    assert (recorder.recorded, recorder.replayed) == (2, 6)
    ours.decode(spoken(129))
    proof = ours.proof()
    assert (proof["runtime"], proof["graph_replays"], proof["graphs_kept"]) == ("cuda", 7, 2)
    assert proof["steady_counters"] == {"graph_captures": 3, "graphs_evicted": 1}
    assert not any("fft" in name or "complex" in name for names in recorder.operations for name in names)


def test_classes_pad_less_than_an_eighth_of_what_is_long_and_are_few() -> None:
    classes = [length_class(frames) for frames in range(1, 8193)]
    assert all(made >= frames for frames, made in enumerate(classes, 1))
    assert all(made - frames < made / 8 for frames, made in enumerate(classes, 1) if frames >= 512)
    assert len(set(classes)) == 40
    assert all(length_class(made) == made for made in classes)


def test_without_cuda_it_is_refused_with_reason_and_remedy() -> None:
    with pytest.raises(UnsupportedEngine, match="captured on a CUDA device") as refusal:
        engine("vocoder=vocos_cuda")
    assert refusal.value.remedy.startswith("use device=cuda, or vocoder.runtime=eager")


def test_settings_that_cannot_be_meant_are_one_line() -> None:
    settings = config("vocoder=vocos_cuda")["vocoder"]
    with pytest.raises(ConfigError, match=r"vocoder.max_graphs=0: must be a whole number from 1"):
        vocos_for_cuda(eager(), {**settings, "max_graphs": 0}, "cuda:0")
    with pytest.raises(ConfigError, match=r"vocoder.precision=bf16: must be fp32 with vocoder.runtime=cuda"):
        engine("vocoder=vocos_cuda", "+vocoder.precision=bf16")


def test_an_inverse_stft_that_is_not_centred_or_not_vocos_is_refused() -> None:
    vocos = eager()
    form = MaskedVocos(vocos).eval()
    form.istft.sines.mul_(1.01)
    with pytest.raises(UnsupportedEngine, match=r"is .* from PyTorch's at 64 frames"):
        check_real(vocos, form, 64)
    vocos.head.istft.padding = "same"
    with pytest.raises(UnsupportedEngine, match=r"is centred, vocoder.head.padding is same"):
        MaskedVocos(vocos)
