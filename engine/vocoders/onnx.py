"""Vocos through ONNX Runtime, the inverse STFT as real arithmetic.

irfft of one frame is two real products, cosines with the real part (even in time) and sines with the imaginary part
(odd), so half of the samples need computing; the window is part of both tables. Overlap-add is as many shifted sums as
a window has hops. Shape letters: B batch, D mel bins, N frames, F = n_fft / 2 + 1 bins, S samples.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from engine.cache import cached_folder, source_sha256
from engine.contract import Proof, UnsupportedEngine
from engine.runtimes.onnx_binding import bind, bind_result, run_bound
from engine.runtimes.onnx_package import required, versions
from engine.runtimes.onnx_session import SessionSettings, open_session
from engine.settings import VocoderSettings
from engine.vocoders.vocos import VocosSpectrum

CHECKED_FRAMES = (12, 64, 301)
TOLERANCE = 1e-4  # largest sample difference, relative to the loudest sample where that is above 1


class RealISTFT(nn.Module):
    """torch.istft(center=True) of magnitude and phase, (B, F, N) each -> (B, (N - 1) * hop), in real numbers."""

    def __init__(self, window: torch.Tensor, hop: int):
        super().__init__()
        size = len(window)
        self.size, self.hop, half = size, hop, size // 2
        time, bins = torch.arange(half + 1, dtype=torch.float64), torch.arange(half + 1, dtype=torch.float64)
        angle = torch.outer(bins, time) * (2 * math.pi / size)
        twice = torch.full((half + 1, 1), 2.0, dtype=torch.float64)  # a bin and its conjugate; but the ends have none
        twice[0] = twice[-1] = 1.0
        scale = twice / size * window[: half + 1].double()
        self.register_buffer("cosines", (angle.cos() * scale).float())
        self.register_buffer("sines", (-angle.sin() * scale).float())
        self.register_buffer("envelope", window.square()[None, None])

    def forward(self, magnitude: torch.Tensor, phase: torch.Tensor) -> torch.Tensor:
        even = (magnitude * phase.cos()).transpose(1, 2) @ self.cosines
        odd = (magnitude * phase.sin()).transpose(1, 2) @ self.sines
        mirrored = (even - odd)[..., 1:-1].flip(-1)
        frames = torch.cat((even + odd, mirrored), dim=-1)
        envelope = self.envelope.expand(1, frames.shape[1], self.size)
        start, stop = self.size // 2, self.size // 2 + (frames.shape[1] - 1) * self.hop
        return self._overlap(frames)[:, start:stop] / self._overlap(envelope)[:, start:stop]

    def _overlap(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, N, size) -> (B, (N - 1) * hop + size)."""
        hops = self.size // self.hop
        parts = frames.unflatten(2, (hops, self.hop)).unbind(2)
        shifted = [F.pad(part, (0, 0, i, hops - 1 - i)) for i, part in enumerate(parts)]
        return torch.stack(shifted).sum(0).flatten(1)


class VocosGraph(nn.Module):
    """mel (B, D, N) -> audio (B, (N - 1) * hop)."""

    def __init__(self, vocos: Any):
        super().__init__()
        self.spectrum = VocosSpectrum(vocos)
        self.istft = RealISTFT(vocos.head.istft.window, vocos.head.istft.hop_length)

    def forward(self, mel_BDN: torch.Tensor) -> torch.Tensor:
        return self.istft(*self.spectrum(mel_BDN))


def export_vocos(vocos: Any, path: Path) -> Path:
    """Writes Vocos as ONNX and compares it with the module. Raises UnsupportedEngine where they differ."""
    from torch.export import Dim

    required("onnxscript")  # the exporter's own need, asked for here to say what to install
    axes = ({0: Dim("B", min=1, max=64), 2: Dim("N", min=4, max=65536)},)
    mel = torch.randn(2, vocos.backbone.input_channels, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            VocosGraph(vocos).eval(), (mel,), dynamo=True, opset_version=20, verbose=False, input_names=["mel"],
            output_names=["audio"], dynamic_shapes=axes,
        )  # fmt: skip
    program.save(path)
    decoder = OnnxVocos(vocos, path, SessionSettings(threads=torch.get_num_threads()))
    for frames in CHECKED_FRAMES:
        check_decoder(vocos, decoder, frames)
    return path


@torch.inference_mode()
def check_decoder(vocos: Any, decoder: OnnxVocos, frames: int) -> float:
    """Largest difference of a sample. Raises UnsupportedEngine above the tolerance or where something is not finite."""
    generator = torch.Generator().manual_seed(frames)
    mel = torch.randn(1, vocos.backbone.input_channels, frames, generator=generator) * 2 - 4
    expected = vocos.decode(mel)
    gap = float((decoder.decode(mel) - expected).abs().max())
    allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
    if not gap <= allowed:
        raise UnsupportedEngine(
            f"the exported vocoder is {gap:.1e} from PyTorch at {frames} frames, {allowed:.0e} is allowed",
            "use vocoder=vocos and the versions of constraints.txt",
        )
    return gap


class OnnxVocos:
    """Implements engine.vocoders.vocos.Vocoder on the CPU."""

    def __init__(self, vocos: Any, path: Path, settings: SessionSettings):
        self._runs = 0
        self._hop = vocos.head.istft.hop_length
        example = torch.zeros(1, vocos.backbone.input_channels, 16)
        self.opened = open_session(path, settings, lambda session: self._run(session, example))

    def decode(self, mel_BDN: torch.Tensor) -> torch.Tensor:
        self._runs += 1
        return self._run(self.opened.session, mel_BDN.contiguous())

    def proof(self) -> Proof:
        return {
            "runtime": "onnx",
            "runs": self._runs,
            "nodes_by_provider": dict(self.opened.nodes_by_provider),
            "nodes_by_op": dict(self.opened.nodes_by_op),
            "file_bytes": self.opened.file_bytes,
        }

    def _run(self, session: Any, mel_BDN: torch.Tensor) -> torch.Tensor:
        binding = session.io_binding()
        audio = torch.empty(len(mel_BDN), (mel_BDN.shape[2] - 1) * self._hop)
        bind(binding, "mel", mel_BDN)
        bind_result(binding, "audio", audio)
        run_bound(session, binding, audio.device)
        return audio


def vocos_by_onnx(vocos: Any, digest: str, config: VocoderSettings, device: str) -> OnnxVocos:
    """Vocos on the device -> the same through ONNX Runtime, exported once per machine. CPU only."""
    if device != "cpu":
        raise UnsupportedEngine("vocoder.runtime=onnx is built for the CPU only", "use vocoder=vocos on CUDA")
    settings = SessionSettings(threads=torch.get_num_threads())
    settings.check()
    parts = {
        "weights": digest, "backbone": config["backbone"], "head": config["head"],
        "code": source_sha256("engine.vocoders.vocos", "engine.vocoders.onnx"),
        "versions": versions("torch", "onnx", "onnxruntime", "vocos"),
    }  # fmt: skip
    folder = cached_folder("onnx_vocoder", parts, lambda new: export_vocos(vocos, new / "vocos.onnx"))
    return OnnxVocos(vocos, folder / "vocos.onnx", settings)
