"""The two mel recipes that F5-TTS models are trained with (upstream's `mel_spec_type`), which vocoder takes which, and
how many samples a vocoder makes of N frames.

vocos: frames centred on multiples of the hop, so one frame more than whole hops; amplitudes through an HTK mel bank.
bigvgan: no frame reaches over the edges by more than (n_fft - hop) / 2, so as many frames as whole hops; Slaney's bank
with filters of equal area. A mel of one kind is noise to the other's vocoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.contract import ConfigError
from engine.settings import ModelSettings, VocoderSettings

if TYPE_CHECKING:
    import torch

N_FFT = 1024
FLOOR = 1e-5  # of the amplitude before the logarithm
RUNTIMES = {"vocos": ("eager", "compiled", "onnx", "cuda"), "bigvgan": ("eager",)}
PRECISIONS = ("fp32", "bf16")  # of a compiled vocoder


def mel_kind(model: ModelSettings) -> str:
    """Of a `model` group; those written before there was a choice are Vocos'."""
    return str(model.get("mel_spec_type", "vocos"))


def mel_transform(model: ModelSettings) -> Callable[[torch.Tensor], torch.Tensor]:
    """(1, S) float32 at the model's rate -> natural log-mel (1, D, N), as upstream's MelSpec of that type."""
    rate_hz, hop, bins = model["sample_rate_hz"], model["hop_samples"], model["mel_bins"]
    return _vocos_mel(rate_hz, hop, bins) if mel_kind(model) == "vocos" else _bigvgan_mel(rate_hz, hop, bins)


def _vocos_mel(rate_hz: int, hop: int, bins: int) -> Callable[[torch.Tensor], torch.Tensor]:
    import torchaudio

    spectrogram = torchaudio.transforms.MelSpectrogram(
        sample_rate=rate_hz, n_fft=N_FFT, win_length=N_FFT, hop_length=hop, n_mels=bins, power=1, center=True,
        normalized=False, norm=None,
    )  # fmt: skip
    return lambda wave: spectrogram(wave).clamp(min=FLOOR).log()


def _bigvgan_mel(rate_hz: int, hop: int, bins: int) -> Callable[[torch.Tensor], torch.Tensor]:
    import torch
    import torchaudio

    bank_FD = torchaudio.functional.melscale_fbanks(
        N_FFT // 2 + 1, 0.0, rate_hz / 2, bins, rate_hz, norm="slaney", mel_scale="slaney"
    )
    window, edge = torch.hann_window(N_FFT), (N_FFT - hop) // 2

    def transform(wave: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(wave[:, None], (edge, edge), mode="reflect")[:, 0]
        spectrum = torch.stft(padded, N_FFT, hop, N_FFT, window, center=False, return_complex=True)
        amplitude = (torch.view_as_real(spectrum).square().sum(-1) + 1e-9).sqrt()
        return (bank_FD.T @ amplitude).clamp(min=FLOOR).log()

    return transform


def chunk_samples(num_frames: int, vocoder: VocoderSettings, hop: int) -> int:
    """Samples that a vocoder makes of N frames: N * hop, but (N - 1) * hop where an inverse STFT is centred."""
    centred = vocoder.get("kind") == "vocos" and vocoder["head"]["padding"] == "center"
    return (num_frames - 1 if centred else num_frames) * hop


def check_vocoder(vocoder: VocoderSettings, model: ModelSettings) -> None:
    """Raises ConfigError for a vocoder that does not exist, or is not one for the model's mel."""
    kind, mel = vocoder["kind"], mel_kind(model)
    if kind not in RUNTIMES:
        raise ConfigError("vocoder.kind", kind, f"must be {' or '.join(RUNTIMES)}", "use vocoder=vocos")
    runtime = vocoder.get("runtime", "eager")
    if runtime not in RUNTIMES[kind]:
        allowed = f"must be {' or '.join(RUNTIMES[kind])} with vocoder.kind={kind}"
        raise ConfigError("vocoder.runtime", runtime, allowed, f"use vocoder.runtime={RUNTIMES[kind][0]}")
    precision = vocoder.get("precision", "fp32")
    if precision not in (PRECISIONS if runtime == "compiled" else ("fp32",)):
        allowed = "must be fp32 or bf16" if runtime == "compiled" else f"must be fp32 with vocoder.runtime={runtime}"
        raise ConfigError("vocoder.precision", precision, allowed, "use vocoder=vocos_compiled_bf16 for bf16")
    if mel not in RUNTIMES:
        raise ConfigError("model.mel_spec_type", mel, f"must be {' or '.join(RUNTIMES)}", "see conf/model/pocket.yaml")
    if kind == "vocos":
        bins, hop = vocoder["backbone"]["input_channels"], vocoder["head"]["hop_length"]
    else:
        bins, hop = vocoder["generator"]["num_mels"], math.prod(vocoder["generator"]["upsample_rates"])
    if (bins, hop) != (model["mel_bins"], model["hop_samples"]):
        given = f"model.name={model['name']} gives {model['mel_bins']} every {model['hop_samples']}"
        raise ConfigError(
            "vocoder.name", vocoder["name"], f"takes {bins} bands every {hop} samples, {given}",
            "use the vocoder that belongs to the model",
        )  # fmt: skip
    if kind != mel:
        others = {"vocos": "model=pocket or model=f5tts_v1_base", "bigvgan": "model=f5tts_base_bigvgan"}
        raise ConfigError(
            "vocoder.kind", kind, f"cannot speak the {mel} mel that model.name={model['name']} was trained on",
            f"use {others[kind]} with it, or a {mel} vocoder",
        )  # fmt: skip
