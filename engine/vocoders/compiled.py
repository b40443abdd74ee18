"""Vocos by torch.compile: all between its first convolution and the inverse STFT is one graph, compiled once for every
length.

The transform stays eager: inductor has no code for complex numbers and would call the same FFT. The graph ends with
real and imaginary part, so that exponential, sine and cosine are fused into it. The first convolution stays eager
because torch chooses its kernel by the number of values (20480), which would make a second graph for longer mels.

precision=bf16 narrows the two products of every ConvNeXt block, four fifths of the arithmetic, and nothing else: the
head's phases need more than eight bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from engine.contract import Proof, UnsupportedEngine
from engine.runtimes.inductor import CountingInductor, ready_compiler
from engine.step.packed import PackedLinear, can_pack
from engine.step.precision import weight_histogram
from engine.vocoders.vocos import VocosSpectrum

EAGER = "vocoder=vocos"  # what needs no compiler


class _Narrow(nn.Module):
    """A packed bfloat16 product; answers: the dtype of what it gives back."""

    def __init__(self, linear: nn.Linear, gelu: str | None, answers: torch.dtype):
        super().__init__()
        self.product, self.answers = PackedLinear(linear.to(torch.bfloat16), gelu), answers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.product(x.to(torch.bfloat16)).to(self.answers)


def narrow(vocos: Any, device: str) -> None:
    """The products of Vocos' blocks in bfloat16, in place. Raises UnsupportedEngine where the CPU cannot."""
    if device != "cpu" or not can_pack(torch.bfloat16):
        raise UnsupportedEngine(
            f"vocoder.precision=bf16 is built for CPUs with bfloat16 products, not for {device} here",
            "use vocoder=vocos_compiled",
        )
    for block in vocos.backbone.convnext:
        block.pwconv1 = _Narrow(block.pwconv1, "none", torch.bfloat16)
        block.act = nn.Identity()
        block.pwconv2 = _Narrow(block.pwconv2, None, torch.float32)


class _Polar(nn.Module):
    """The first convolution's result (B, C, N) -> real and imaginary part of the spectrum, (B, F, N) each."""

    def __init__(self, vocos: Any):
        super().__init__()
        self.spectrum = VocosSpectrum(vocos)

    def forward(self, embedded_BCN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        magnitude, phase = self.spectrum(embedded_BCN)
        return magnitude * phase.cos(), magnitude * phase.sin()


class CompiledVocos:
    """Implements engine.vocoders.vocos.Vocoder. Takes `vocos` apart; nothing is compiled before the first call.
    precision: fp32 or bf16; inductor: settings of torch._inductor.config, as written there.

    Raises UnsupportedEngine where the compiler's own needs are not met, ConfigError for settings it does not know."""

    def __init__(self, vocos: Any, precision: str, inductor: Mapping[str, object], device: str):
        ready_compiler(inductor, device, "vocoder", EAGER)
        if precision == "bf16":
            narrow(vocos, device)
        self._weights = weight_histogram(vocos)
        self._inductor = dict(inductor)
        # Its own counter, and so its own kernels: weights may be folded into them
        self._counter = CountingInductor(inductor)
        self._embed, vocos.backbone.embed = vocos.backbone.embed, nn.Identity()
        self._polar = torch.compile(_Polar(vocos).eval(), fullgraph=True, backend=self._counter)
        self._istft = vocos.head.istft

    @torch.inference_mode()
    def decode(self, mel_BDN: torch.Tensor) -> torch.Tensor:
        embedded_BCN = self._embed(mel_BDN.contiguous())
        torch._dynamo.mark_dynamic(embedded_BCN, 2)
        before = self._counter.runs
        spectrum = torch.complex(*self._polar(embedded_BCN))
        self._counter.refuse_eager(before, EAGER)
        return self._istft(spectrum)

    def proof(self) -> Proof:
        compilations = self._counter.compilations
        return {
            "runtime": "compiled",
            "weight_elements_by_dtype": self._weights,
            "graphs_compiled": compilations,
            "compiled_runs": self._counter.runs,
            "recompiles": max(compilations - 1, 0),
            "compile_s": round(self._counter.compile_s, 3),
            "inductor": self._inductor,
            "steady_counters": {"compilations": compilations},
        }
