"""Vocos through ONNX Runtime, the inverse STFT as real arithmetic (engine.vocoders.real). Shape letters: B batch, D mel
bins, N frames, S samples.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from engine.cache import cached_folder, source_sha256
from engine.contract import Proof, UnsupportedEngine
from engine.runtimes.onnx_binding import bind, bind_result, run_bound
from engine.runtimes.onnx_package import required, versions
from engine.runtimes.onnx_session import SessionSettings, open_session
from engine.settings import VocoderSettings
from engine.vocoders.real import TOLERANCE, VocosGraph

CHECKED_FRAMES = (12, 64, 301)


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
    """Largest difference of a sample. Raises UnsupportedEngine above the tolerance, which is relative where the loudest
    sample is above 1, or where something is not finite."""
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
        "code": source_sha256("engine.vocoders.vocos", "engine.vocoders.real", "engine.vocoders.onnx"),
        "versions": versions("torch", "onnx", "onnxruntime", "vocos"),
    }  # fmt: skip
    folder = cached_folder("onnx_vocoder", parts, lambda new: export_vocos(vocos, new / "vocos.onnx"))
    return OnnxVocos(vocos, folder / "vocos.onnx", settings)
