"""Vocos for CUDA: in real arithmetic, compiled into a few kernels, captured as one CUDA graph a class of lengths.

The eager one takes some hundred launches, and its inverse STFT cannot be captured. Shape letters: B batch, D mel bins,
N frames, S samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from engine.contract import Proof, UnsupportedEngine
from engine.runtimes.cuda_graphs import CudaRecorder, KeptGraphs, Recorder, check_max_graphs
from engine.runtimes.inductor import CountingInductor, ready_compiler
from engine.settings import VocoderSettings
from engine.step.batching import length_class
from engine.step.precision import weight_histogram
from engine.vocoders.real import MaskedVocos, check_real, own_frames

EAGER = "vocoder.runtime=eager"  # what needs neither compiler nor capture
CHECKED_FRAMES = 64

Form = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""mel (B, D, N), own (B, N) -> audio (B, (N - 1) * hop), see engine.vocoders.real.MaskedVocos."""


@dataclass(frozen=True, eq=False, slots=True)
class _Captured:
    """The buffers that a graph reads, the one it writes, how to run it."""

    mel_BDN: torch.Tensor
    length_B: torch.Tensor
    audio_BS: torch.Tensor
    replay: Callable[[], None]


class CudaVocos:
    """Implements engine.vocoders.vocos.Vocoder. `form` is what is captured, also by an engine whose graph holds the
    whole call. counter: of the compiler that `form` went through, None where it is as PyTorch runs it."""

    def __init__(
        self, module: MaskedVocos, form: Form, counter: CountingInductor | None, recorder: Recorder, max_graphs: int
    ):
        self._module, self.form, self._counter, self._recorder = module, form, counter, recorder
        self._weights = weight_histogram(module)
        self._graphs: KeptGraphs[tuple[int, int], _Captured] = KeptGraphs(max_graphs)
        self._replays = 0

    @property
    def hop(self) -> int:
        return self._module.istft.hop

    @torch.inference_mode()
    def decode(self, mel_BDN: torch.Tensor) -> torch.Tensor:
        """A copy: the graph's own buffer belongs to its next replay."""
        rows, bins, frames = mel_BDN.shape
        key = (rows, length_class(frames))
        graph = self._graphs.of(key, lambda: self._capture(rows, bins, key[1], mel_BDN.device))
        graph.mel_BDN[..., :frames].copy_(mel_BDN)
        graph.length_B.fill_(frames)
        graph.replay()
        self._replays += 1
        return graph.audio_BS[:, : (frames - 1) * self.hop].clone()

    def _capture(self, rows: int, bins: int, frames: int, device: torch.device) -> _Captured:
        mel_BDN = torch.zeros(rows, bins, frames, device=device)
        length_B = torch.full((rows,), frames, device=device)
        replay, audio_BS = self._recorder.record(lambda: self.form(mel_BDN, own_frames(length_B, frames)))
        return _Captured(mel_BDN, length_B, audio_BS, replay)

    def proof(self) -> Proof:
        compiler = {} if self._counter is None else {"compilations": self._counter.compilations}
        return {
            "runtime": "cuda",
            "weight_elements_by_dtype": self._weights,
            "graph_replays": self._replays,
            "graphs_kept": len(self._graphs),
            "captures_failed": self._graphs.failed,
            "steady_counters": {**compiler, **self._graphs.steady_counters()},
        }


def vocos_for_cuda(vocos: Any, config: VocoderSettings, device: str) -> CudaVocos:
    """Vocos on the device -> the same compiled and captured. Raises UnsupportedEngine without CUDA, without what the
    compiler needs, or where the real form is not Vocos' within its tolerance; ConfigError for settings."""
    if device == "cpu":
        raise UnsupportedEngine(
            "vocoder.runtime=cuda is captured on a CUDA device and device.kind is cpu",
            "use device=cuda, or vocoder.runtime=eager, compiled or onnx here",
        )
    max_graphs = check_max_graphs(config.get("max_graphs", 16), "vocoder")
    inductor: Mapping[str, object] = config.get("inductor") or {}
    ready_compiler(inductor, device, "vocoder", EAGER)
    module = MaskedVocos(vocos).eval()
    check_real(vocos, module, CHECKED_FRAMES)
    form, counter = compiled_form(module, inductor)
    return CudaVocos(module, form, counter, CudaRecorder(device), max_graphs)


def compiled_form(module: MaskedVocos, inductor: Mapping[str, object]) -> tuple[Form, CountingInductor]:
    """One compilation for every class of lengths and number of rows; runs that were not compiled are refused."""
    counter = CountingInductor(inductor)
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend=counter)

    def form(mel_BDN: torch.Tensor, own_BN: torch.Tensor) -> torch.Tensor:
        before = counter.runs
        audio: torch.Tensor = compiled(mel_BDN, own_BN)
        counter.refuse_eager(before, EAGER)
        return audio

    return form, counter
